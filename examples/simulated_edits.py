"""A simulated genome, edits of it and their true positions, from a seed: the input of `examples.edit_design`.

The edits are written against a reference. Its coordinates are shifted, and its sequence differs by single bases from
the genome to be edited. Two edits are in repeats, and two belong to another genome.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

BASES = "ACGT"
MARGIN = 3_000
"""Bases at both ends of a contig without edits, apart from those in the repeats."""
REPEAT = 400
"""Length of the unit that occurs twice in a row near the end of each contig."""
DRIFT = 500
"""Largest error of an expected position, in bases."""

Origin = Literal["unique", "repeat", "foreign"]


@dataclass(frozen=True, slots=True)
class Truth:
    """The true position of an edit.

    Attributes:
        position: Its first base on the contig, counted from 0.
        origin: Whether the position is unique, in one of two copies of a repeat, or on a foreign genome.
    """

    position: int
    origin: Origin


def simulate(
    *, edits: int = 600, contigs: int = 5, contig_bases: int = 100_000, flank_mismatches: int = 3, seed: int = 2017
) -> tuple[dict[str, Any], list[Truth]]:
    """Return the input of `EditDesign` and the truth about its edits, in the same order.

    Args:
        edits: Number of edits, at least 4.
        contigs: Number of contigs.
        contig_bases: Length of each contig, more than twice `MARGIN`.
        flank_mismatches: Largest number of bases in which a flank differs from the genome.
        seed: Equal seeds give equal genomes and edits.
    """
    simulation = _Simulation(random.Random(seed), flank_mismatches)  # noqa: S311
    genome = {f"contig{number}": simulation.contig(contig_bases) for number in range(1, contigs + 1)}
    origins: list[Origin] = ["repeat", "repeat", "foreign", "foreign"]
    origins += ["unique"] * (edits - len(origins))
    simulation.rng.shuffle(origins)
    simulated = [simulation.edit(f"edit{number:03d}", genome, origin) for number, origin in enumerate(origins, start=1)]
    named = [{"name": name, "sequence": sequence} for name, sequence in genome.items()]
    return {"genome": named, "edits": [edit for edit, _ in simulated]}, [truth for _, truth in simulated]


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
        # An edit in a repeat is in the first of the two units, with its flanks.
        position = end + REPEAT + REPEAT // 2 if origin == "repeat" else self.rng.randrange(MARGIN, end)
        kind = self.rng.choice(["substitution", "insertion", "deletion"])
        bases = self.rng.randint(1, 12)
        length = 0 if kind == "insertion" else bases
        new = "" if kind == "deletion" else self.mutate(sequence[position : position + bases], bases)
        around = self.sequence(len(sequence)) if origin == "foreign" else sequence
        edit = {
            "id": name,
            "contig": contig,
            "position": position + self.rng.randint(-DRIFT, DRIFT),
            "kind": kind,
            "length": length,
            "sequence": new,
            "flanks": {
                "left": self.add_mismatches(around[position - 60 : position]),
                "right": self.add_mismatches(around[position + length : position + length + 60]),
            },
        }
        return edit, Truth(position, origin)

    def add_mismatches(self, flank: str) -> str:
        return self.mutate(flank, self.rng.randint(0, self.flank_mismatches))

    def mutate(self, sequence: str, bases: int) -> str:
        """Return the sequence with that number of its bases replaced by others."""
        changed = list(sequence)
        for index in self.rng.sample(range(len(sequence)), bases):
            changed[index] = self.rng.choice(BASES.replace(changed[index], ""))
        return "".join(changed)
