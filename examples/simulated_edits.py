"""A genome, edits to make on it, and the truth about them: the input of `examples.edit_design`, from a seed.

The edits are written against a reference whose coordinates have shifted and whose sequence differs by single bases
from the genome to be edited. Two of them lie in repeats, and two belong to another genome altogether.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

BASES = "ACGT"
MARGIN = 3_000
"""Bases at both ends of a contig that hold no edit but those in the repeats."""
REPEAT = 400
"""Length of the unit that stands twice in a row near the end of each contig."""
DRIFT = 500
"""How far an expected position may be off, in bases."""

Origin = Literal["unique", "repeat", "foreign"]


@dataclass(frozen=True, slots=True)
class Truth:
    """Where an edit really lies.

    Attributes:
        position: Its first base on the contig, counted from 0.
        origin: Whether its place is unique, one of two copies of a repeat, or on a foreign genome.
    """

    position: int
    origin: Origin


def simulate(
    *, edits: int = 600, contigs: int = 5, contig_bases: int = 100_000, flank_mismatches: int = 3, seed: int = 2017
) -> tuple[dict[str, Any], list[Truth]]:
    """The input of `EditDesign` and, in the same order, the truth about its edits.

    Args:
        edits: Number of edits, 4 at least.
        contigs: Number of contigs.
        contig_bases: Length of each, more than twice `MARGIN`.
        flank_mismatches: Each flank differs from the genome in 0 to that many bases.
        seed: Equal seeds give equal genomes and edits.
    """
    simulation = _Simulation(random.Random(seed), flank_mismatches)  # noqa: S311
    genome = {f"contig{number}": simulation.contig(contig_bases) for number in range(1, contigs + 1)}
    origins: list[Origin] = ["repeat", "repeat", "foreign", "foreign"]
    origins += ["unique"] * (edits - len(origins))
    simulation.rng.shuffle(origins)
    made = [simulation.edit(f"edit{number:03d}", genome, origin) for number, origin in enumerate(origins, start=1)]
    named = [{"name": name, "sequence": sequence} for name, sequence in genome.items()]
    return {"genome": named, "edits": [edit for edit, _ in made]}, [truth for _, truth in made]


@dataclass(frozen=True, slots=True)
class _Simulation:
    rng: random.Random
    flank_mismatches: int

    def sequence(self, bases: int) -> str:
        return "".join(self.rng.choices(BASES, k=bases))

    def contig(self, bases: int) -> str:
        unit = self.sequence(REPEAT)
        return self.sequence(bases - MARGIN + REPEAT) + unit + unit + self.sequence(MARGIN - 3 * REPEAT)

    def edit(self, name: str, genome: dict[str, str], origin: Origin) -> tuple[dict[str, Any], Truth]:
        contig, sequence = self.rng.choice(list(genome.items()))
        end = len(sequence) - MARGIN
        # In a repeat: in the first of the two units, flanks included.
        position = end + REPEAT + REPEAT // 2 if origin == "repeat" else self.rng.randrange(MARGIN, end)
        kind = self.rng.choice(["substitution", "insertion", "deletion"])
        bases = self.rng.randint(1, 12)
        length = 0 if kind == "insertion" else bases
        new = "" if kind == "deletion" else self.changed(sequence[position : position + bases], bases)
        around = self.sequence(len(sequence)) if origin == "foreign" else sequence
        edit = {
            "id": name,
            "contig": contig,
            "position": position + self.rng.randint(-DRIFT, DRIFT),
            "kind": kind,
            "length": length,
            "sequence": new,
            "flanks": {
                "left": self.misread(around[position - 60 : position]),
                "right": self.misread(around[position + length : position + length + 60]),
            },
        }
        return edit, Truth(position, origin)

    def misread(self, flank: str) -> str:
        return self.changed(flank, self.rng.randint(0, self.flank_mismatches))

    def changed(self, sequence: str, bases: int) -> str:
        """The sequence with that many of its bases replaced by others."""
        changed = list(sequence)
        for index in self.rng.sample(range(len(sequence)), bases):
            changed[index] = self.rng.choice(BASES.replace(changed[index], ""))
        return "".join(changed)
