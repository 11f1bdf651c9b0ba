"""Edit design: where 600 edits lie on a genome, and the DNA it takes to make each of them.

Edits are written against a reference genome. The strain to be edited has an assembly of its own: coordinates have
shifted, single bases differ. So each edit comes with its flanks, the reference sequence to its left and right, and is
placed by aligning them to the strain's genome around the expected position.

    setup    breaks the genome up: one item an edit, with the window of the genome around its expected position
    process  aligns the flanks to the window, places the edit, designs its donor and its guide
    join     the design table in the order of the edits, and a summary

Binding by name: `genome`, `edits` and `reach` go to setup, `max_distance` to process alone, `min_placed` to join alone.
A worker is handed the few kilobases that its edits need, and never sees the genome.

Run it here, no server needed (`pip install edlib` brings edlib):

    python -m examples.edit_design

Over Celery, with a worker of `examples.celery_app` running (see there):

    from examples.celery_app import app
    from examples.edit_design import EditDesign
    from examples.simulated_edits import simulate
    inputs, truth = simulate()
    EditDesign.submit(inputs, app=app).get()

Sources:
    Alignment: M. Šošić, M. Šikić (2017), Edlib: a C/C++ library for fast, exact sequence alignment using edit
        distance. Bioinformatics 33:1394-1395.
    Guides: M. Jinek et al. (2012), A programmable dual-RNA-guided DNA endonuclease in adaptive bacterial immunity.
        Science 337:816-821. Cas9 of S. pyogenes cuts 3 bp upstream of an NGG.
    Names: J. T. den Dunnen et al. (2016), HGVS recommendations for the description of sequence variants: 2016 update.
        Human Mutation 37:564-569. Ours are HGVS-like: in repeats they are not shifted to the 3' end.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, Literal, TypedDict

import edlib

from fanout import ForkJoinTask

from .simulated_edits import simulate

ARM = 40
"""Length of a homology arm, in bases."""
GUIDES = re.compile("(?=([ACGT]{20})[ACGT]GG)"), re.compile("(?=CC[ACGT]([ACGT]{20}))")
"""A protospacer next to its PAM, on the forward and on the reverse strand."""
COMPLEMENT = str.maketrans("ACGT", "TGCA")


class Contig(TypedDict):
    name: str
    sequence: str


class Flanks(TypedDict):
    left: str
    right: str


class Edit(TypedDict):
    """Replace `length` bases from `position` (expected, counted from 0) by `sequence`."""

    id: str
    contig: str
    position: int
    kind: Literal["substitution", "insertion", "deletion"]
    length: int
    sequence: str
    flanks: Flanks


class Window(TypedDict):
    """A piece of a contig that begins at its base `start`."""

    start: int
    sequence: str


class Row(TypedDict):
    """The design of one edit; an edit that is not placed has no name, position, donor and guide."""

    id: str
    status: Literal["placed", "ambiguous", "failed"]
    name: str | None
    position: int | None
    candidates: list[int]
    distance: int | None
    donor: str | None
    guide: str | None


class Design(TypedDict):
    """The design table and its summary."""

    rows: list[Row]
    placed: int
    ambiguous: int
    failed: int
    mean_distance: float | None
    accepted: bool


KINDS = {"substitution": (True, True), "insertion": (False, True), "deletion": (True, False)}
"""Whether an edit of that kind replaces bases, and whether it has new ones."""


def fits_its_kind(field: Any, edit: dict[str, Any], error: Callable[[Any, str], None]) -> None:
    """A rule across fields, in the form in which Cerberus calls it."""
    found = bool(edit.get("length")), bool(edit.get("sequence"))
    if found != KINDS.get(str(edit.get("kind")), found):
        error(field, f"length {edit.get('length')} and sequence {edit.get('sequence')!r} are no {edit['kind']}")


# The \Z, because Cerberus ends a pattern with $, which would let a newline at the end pass.
DNA = {"type": "string", "required": True, "regex": r"[ACGT]*\Z"}
FLANK = {**DNA, "minlength": 20, "maxlength": 200}
CONTIG = {
    "name": {"type": "string", "required": True, "empty": False},
    "sequence": {**DNA, "empty": False},
}
EDIT = {
    "id": {"type": "string", "required": True, "empty": False},
    "contig": {"type": "string", "required": True, "empty": False},
    "position": {"type": "integer", "required": True, "min": 0},
    "kind": {"type": "string", "required": True, "allowed": list(KINDS)},
    "length": {"type": "integer", "required": True, "min": 0, "max": 1000},
    "sequence": {**DNA, "maxlength": 1000},
    "flanks": {"type": "dict", "required": True, "schema": {"left": FLANK, "right": FLANK}},
}


class EditDesign(ForkJoinTask):
    """Places edits on a genome and designs a donor and a guide for each."""

    input_schema: ClassVar[dict[str, Any]] = {
        "genome": {"type": "list", "required": True, "minlength": 1, "schema": {"type": "dict", "schema": CONTIG}},
        "edits": {
            "type": "list",
            "required": True,
            "schema": {"type": "dict", "schema": EDIT, "check_with": fits_its_kind},
        },
        "reach": {"type": "integer", "min": 100, "max": 100_000, "default": 2_000},
        "max_distance": {"type": "integer", "min": 0, "max": 30, "default": 6},
        "min_placed": {"type": "float", "min": 0, "max": 1, "default": 0.95},
    }
    chunk_items = 20

    @staticmethod
    def setup(genome: list[Contig], edits: list[Edit], reach: int) -> Iterator[dict[str, Any]]:
        contigs = {contig["name"]: contig["sequence"] for contig in genome}
        for edit in edits:
            yield {"edit": edit, "window": window_around(edit, contigs, reach)}

    @staticmethod
    def process(edit: Edit, window: Window, max_distance: int) -> Row:
        return design_edit(edit, window, max_distance)

    @staticmethod
    def join(rows: Iterable[Row], min_placed: float) -> Design:
        return design_table(rows, min_placed)


def window_around(edit: Edit, contigs: Mapping[str, str], reach: int) -> Window:
    """The genome `reach` bases to both sides of where an edit is expected.

    Raises:
        ValueError: The genome has no such contig.
    """
    if edit["contig"] not in contigs:
        raise ValueError(f"{edit['id']}: the genome has no contig {edit['contig']!r}; it has {', '.join(contigs)}")
    start = max(0, edit["position"] - reach)
    return {"start": start, "sequence": contigs[edit["contig"]][start : edit["position"] + reach]}


def design_edit(edit: Edit, window: Window, max_distance: int) -> Row:
    """Place one edit and design what it takes to make it.

    Args:
        edit: The edit.
        window: The genome around its expected position.
        max_distance: Largest edit distance at which a flank counts as found.
    """
    starts, distance = place(edit, window["sequence"], max_distance)
    row: Row = {
        "id": edit["id"],
        "status": "ambiguous" if starts else "failed",
        "name": None,
        "position": None,
        "candidates": [window["start"] + start for start in starts],
        "distance": distance,
        "donor": None,
        "guide": None,
    }
    if len(starts) == 1:
        start, end = starts[0], starts[0] + edit["length"]
        position = window["start"] + start
        left_arm, right_arm = window["sequence"][max(0, start - ARM) : start], window["sequence"][end : end + ARM]
        row["status"] = "placed"
        row["position"] = position
        row["name"] = variant_name(edit, position, replaced=window["sequence"][start:end])
        row["donor"] = left_arm + edit["sequence"] + right_arm
        row["guide"] = nearest_guide(window["sequence"], start)
    return row


def place(edit: Edit, genome: str, max_distance: int) -> tuple[list[int], int | None]:
    """Where in a piece of genome an edit may start, and the edit distance of its two flanks together.

    A place is one where a best alignment of the left flank ends and, `length` bases on, one of the right flank begins.
    None is found, or more than one, if several of the bases next to the edit differ from the genome: then a best
    alignment may put a gap there. The distance is None if a flank is not found.
    """
    # edlib lists all ends of best alignments, but one start each: reversed, the right flank's starts are ends, too.
    left = edlib.align(edit["flanks"]["left"], genome, mode="HW", k=max_distance)
    right = edlib.align(edit["flanks"]["right"][::-1], genome[::-1], mode="HW", k=max_distance)
    if -1 in (left["editDistance"], right["editDistance"]):
        return [], None
    # An end in edlib is the last base that is aligned.
    left_ends = [end + 1 for _, end in left["locations"]]
    right_starts = {len(genome) - (end + 1) for _, end in right["locations"]}
    starts = [end for end in left_ends if end + edit["length"] in right_starts]
    return starts, left["editDistance"] + right["editDistance"]


def nearest_guide(genome: str, position: int) -> str | None:
    """The protospacer, 20 bases, whose cut is nearest to a position, within 100 bases of it; None if there is none."""
    offset = max(0, position - 100)
    near = genome[offset : position + 100]
    forward = [(found.start() + 17, found[1]) for found in GUIDES[0].finditer(near)]
    reverse = [(found.start() + 6, found[1].translate(COMPLEMENT)[::-1]) for found in GUIDES[1].finditer(near)]
    _, guide = min(((abs(offset + cut - position), guide) for cut, guide in forward + reverse), default=(0, None))
    return guide


def variant_name(edit: Edit, position: int, *, replaced: str) -> str:
    """The edit in the manner of HGVS, such as `contig1:g.101A>G`; there bases count from 1."""
    first, last = position + 1, position + edit["length"]
    span = f"{first}_{last}" if last > first else f"{first}"
    if edit["kind"] == "insertion":
        change = f"{position}_{position + 1}ins{edit['sequence']}"
    elif edit["kind"] == "deletion":
        change = f"{span}del"
    elif edit["length"] == len(edit["sequence"]) == 1:
        change = f"{first}{replaced}>{edit['sequence']}"
    else:
        change = f"{span}delins{edit['sequence']}"
    return f"{edit['contig']}:g.{change}"


def design_table(rows: Iterable[Row], min_placed: float) -> Design:
    """The table with its summary; it is accepted if that fraction of its edits is placed."""
    rows = list(rows)
    counts = Counter(row["status"] for row in rows)
    distances = [row["distance"] for row in rows if row["status"] == "placed" and row["distance"] is not None]
    return {
        "rows": rows,
        "placed": counts["placed"],
        "ambiguous": counts["ambiguous"],
        "failed": counts["failed"],
        "mean_distance": sum(distances) / len(distances) if distances else None,
        "accepted": counts["placed"] >= min_placed * len(rows),
    }


def design_serially(
    genome: list[Contig], edits: list[Edit], *, reach: int = 2_000, max_distance: int = 6, min_placed: float = 0.95
) -> Design:
    """The same design in one loop, without fanout."""
    contigs = {contig["name"]: contig["sequence"] for contig in genome}
    rows = [design_edit(edit, window_around(edit, contigs, reach), max_distance) for edit in edits]
    return design_table(rows, min_placed)


def main() -> None:
    """Design 600 simulated edits in worker processes, and compare them with the truth of the simulation."""
    inputs, truth = simulate()
    design: Design = EditDesign.run(inputs, executor="processes")
    assert design == design_serially(**inputs)
    right = sum(row["position"] == true.position for row, true in zip(design["rows"], truth, strict=True))
    bases = sum(len(contig["sequence"]) for contig in inputs["genome"])
    print(f"{len(truth)} edits on {len(inputs['genome'])} contigs, {bases:,} bases; {right} at their true position")
    print(f"{design['placed']} placed, {design['ambiguous']} ambiguous, {design['failed']} failed", end="; ")
    print(f"the flanks of an edit differ from the genome in {design['mean_distance']:.1f} bases on average")
    for row, true in zip(design["rows"], truth, strict=True):
        if row["status"] != "placed" or row in design["rows"][:6]:
            place = row["name"] or f"may lie at {row['candidates'] or 'no place'}: {true.origin}"
            print(f"{row['id']}  {row['status']:9}  {place:40}  {row['guide'] or ''}")


if __name__ == "__main__":
    main()
