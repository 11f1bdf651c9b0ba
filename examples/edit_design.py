"""Edit design: the positions of 600 edits on a genome, and the DNA that makes each of them.

Edits are written against a reference genome. The strain to be edited has its own assembly: coordinates are shifted, and
single bases differ. So each edit has flanks, the reference sequence to its left and right. The task places the edit by
an alignment of the flanks to the strain's genome around the expected position.

    setup    yields one item per edit, with the window of the genome around its expected position
    process  aligns the flanks to the window, places the edit, designs its donor and its guide
    join     returns the design table in the order of the edits, and a summary

Parameters are bound by name: setup receives `genome`, `edits` and `reach`, process `max_distance`, join `min_placed`.
A worker receives the few kilobases that its edits need, and never the genome.

Run it without a server (it needs `pip install edlib`):

    python -m examples.edit_design

Run it over Celery, with a worker of `examples.celery_app`:

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
        Human Mutation 37:564-569. The names here are HGVS-like: in repeats they are not shifted to the 3' end.
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
    """A replacement of `length` bases from `position` (expected, counted from 0) by `sequence`."""

    id: str
    contig: str
    position: int
    kind: Literal["substitution", "insertion", "deletion"]
    length: int
    sequence: str
    flanks: Flanks


class Window(TypedDict):
    """A part of a contig, from its base `start` on."""

    start: int
    sequence: str


class Row(TypedDict):
    """The design of one edit. An edit without a place has no name, position, donor and guide."""

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
"""Maps a kind of edit to two facts: whether it replaces bases, and whether it has new ones."""


def check_kind(field: Any, edit: dict[str, Any], error: Callable[[Any, str], None]) -> None:
    """Check a rule across fields, as a validator of Cerberus."""
    has = bool(edit.get("length")), bool(edit.get("sequence"))
    if has != KINDS.get(str(edit.get("kind")), has):
        error(field, f"length {edit.get('length')} and sequence {edit.get('sequence')!r} are no {edit['kind']}")


# Cerberus ends a pattern with $, which matches before a final newline. Hence the \Z.
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
    """The placement of edits on a genome, with a donor and a guide for each."""

    input_schema: ClassVar[dict[str, Any]] = {
        "genome": {"type": "list", "required": True, "minlength": 1, "schema": {"type": "dict", "schema": CONTIG}},
        "edits": {
            "type": "list",
            "required": True,
            "schema": {"type": "dict", "schema": EDIT, "check_with": check_kind},
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
            yield {"edit": edit, "window": cut_window(edit, contigs, reach)}

    @staticmethod
    def process(edit: Edit, window: Window, max_distance: int) -> Row:
        return design_edit(edit, window, max_distance)

    @staticmethod
    def join(rows: Iterable[Row], min_placed: float) -> Design:
        return summarize_rows(rows, min_placed)


def cut_window(edit: Edit, contigs: Mapping[str, str], reach: int) -> Window:
    """Return the genome within `reach` bases of the edit's expected position.

    Raises:
        ValueError: The genome has no such contig.
    """
    if edit["contig"] not in contigs:
        raise ValueError(f"{edit['id']}: the genome has no contig {edit['contig']!r}; it has {', '.join(contigs)}")
    start = max(0, edit["position"] - reach)
    return {"start": start, "sequence": contigs[edit["contig"]][start : edit["position"] + reach]}


def design_edit(edit: Edit, window: Window, max_distance: int) -> Row:
    """Place one edit and design its donor and guide.

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
        row["name"] = name_variant(edit, position, replaced=window["sequence"][start:end])
        row["donor"] = left_arm + edit["sequence"] + right_arm
        row["guide"] = find_guide(window["sequence"], start)
    return row


def place(edit: Edit, genome: str, max_distance: int) -> tuple[list[int], int | None]:
    """Return the possible starts of an edit in a part of the genome, and the sum of its flanks' edit distances.

    At a start, a best alignment of the left flank ends, and one of the right flank begins `length` bases later. There
    is no start, or more than one, if several of the bases next to the edit differ from the genome, because a best
    alignment may then have a gap there. The distance is None if a flank is not found.
    """
    # edlib lists all ends of best alignments, but one start per end. So the right flank is aligned in reverse.
    left = edlib.align(edit["flanks"]["left"], genome, mode="HW", k=max_distance)
    right = edlib.align(edit["flanks"]["right"][::-1], genome[::-1], mode="HW", k=max_distance)
    if -1 in (left["editDistance"], right["editDistance"]):
        return [], None
    # An end in edlib is the last aligned base.
    left_ends = [end + 1 for _, end in left["locations"]]
    right_starts = {len(genome) - (end + 1) for _, end in right["locations"]}
    starts = [end for end in left_ends if end + edit["length"] in right_starts]
    return starts, left["editDistance"] + right["editDistance"]


def find_guide(genome: str, position: int) -> str | None:
    """Return the protospacer (20 bases) whose cut is nearest to a position, or None if none is within 100 bases."""
    offset = max(0, position - 100)
    near = genome[offset : position + 100]
    forward = [(match.start() + 17, match[1]) for match in GUIDES[0].finditer(near)]
    reverse = [(match.start() + 6, match[1].translate(COMPLEMENT)[::-1]) for match in GUIDES[1].finditer(near)]
    _, guide = min(((abs(offset + cut - position), guide) for cut, guide in forward + reverse), default=(0, None))
    return guide


def name_variant(edit: Edit, position: int, *, replaced: str) -> str:
    """Return the edit's name in the style of HGVS, such as `contig1:g.101A>G`. HGVS counts bases from 1."""
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


def summarize_rows(rows: Iterable[Row], min_placed: float) -> Design:
    """Return the table with its summary. The table is accepted if that fraction of its edits is placed."""
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
    """Return the design, computed in one loop without fanout."""
    contigs = {contig["name"]: contig["sequence"] for contig in genome}
    rows = [design_edit(edit, cut_window(edit, contigs, reach), max_distance) for edit in edits]
    return summarize_rows(rows, min_placed)


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
            place = row["name"] or f"may be at {row['candidates'] or 'no place'}: {true.origin}"
            print(f"{row['id']}  {row['status']:9}  {place:40}  {row['guide'] or ''}")


if __name__ == "__main__":
    main()
