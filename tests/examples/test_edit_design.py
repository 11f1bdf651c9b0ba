"""The edit design against the truth of its simulation, and its input against its schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from examples.edit_design import (
    Design,
    Edit,
    EditDesign,
    Row,
    design_serially,
    find_guide,
    name_variant,
    place,
)
from examples.simulated_edits import Truth, simulate
from fanout import InvalidInput, JobFailed

GENOME = "TTGACCATGCAAGCTTGGCACTGGCCGTCGTTTTACAACGTCGTGACTGGGAAAACCCTGGC"


@pytest.fixture(scope="module", params=[2017, 1, 7])
def simulated(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[Truth], Design]:
    """The input of a simulation, the truth about it and its design."""
    inputs, truth = simulate(seed=request.param)
    return inputs, truth, EditDesign.run(inputs)


def mismatches_next_to(edit: Edit, truth: Truth, contigs: dict[str, str]) -> int:
    """Count the mismatches of an edit's flanks within four bases of the edit."""
    contig, start, end = contigs[edit["contig"]], truth.position, truth.position + edit["length"]
    there = contig[start - 4 : start] + contig[end : end + 4]
    read = edit["flanks"]["left"][-4:] + edit["flanks"]["right"][:4]
    return sum(a != b for a, b in zip(there, read, strict=True))


def test_edits_are_placed_where_they_are(simulated: tuple[dict[str, Any], list[Truth], Design]) -> None:
    """At least 99 % of the edits are placed, at their true positions, and the others are not, for known reasons."""
    inputs, truth, design = simulated
    contigs = {contig["name"]: contig["sequence"] for contig in inputs["genome"]}
    pairs: list[tuple[Row, Truth, Edit]] = list(zip(design["rows"], truth, inputs["edits"], strict=True))
    right = [row for row, true, _ in pairs if row["position"] == true.position]
    assert len(right) >= 0.99 * len(truth)
    assert len(right) == design["placed"]
    for row, true, edit in pairs:
        if true.origin == "foreign":
            assert (row["status"], row["distance"]) == ("failed", None)
        elif true.origin == "repeat":
            assert row["status"] == "ambiguous"
            assert row["candidates"] == [true.position, true.position + 400]
        elif row["status"] == "ambiguous":
            assert true.position in row["candidates"]
            assert mismatches_next_to(edit, true, contigs) >= 2
        elif row["status"] == "failed":
            assert mismatches_next_to(edit, true, contigs) >= 2


def test_rows_are_in_the_order_of_the_edits(simulated: tuple[dict[str, Any], list[Truth], Design]) -> None:
    """The table has one row per edit, in the order of the input, and a consistent summary."""
    inputs, _, design = simulated
    assert [row["id"] for row in design["rows"]] == [edit["id"] for edit in inputs["edits"]]
    assert design["placed"] + design["ambiguous"] + design["failed"] == len(inputs["edits"])


def test_donors_carry_the_edit_between_arms_of_the_genome(
    simulated: tuple[dict[str, Any], list[Truth], Design],
) -> None:
    """A donor is the new sequence between homology arms that match the genome exactly."""
    inputs, _, design = simulated
    contigs = {contig["name"]: contig["sequence"] for contig in inputs["genome"]}
    for row, edit in zip(design["rows"], inputs["edits"], strict=True):
        if row["position"] is not None:
            start, contig = row["position"], contigs[edit["contig"]]
            end = start + edit["length"]
            assert row["donor"] == contig[start - 40 : start] + edit["sequence"] + contig[end : end + 40]


def test_equal_seeds_give_equal_simulations() -> None:
    """A seed determines genome, edits and truth, and another seed gives others."""
    assert simulate(edits=20, seed=3) == simulate(edits=20, seed=3)
    assert simulate(edits=20, seed=3) != simulate(edits=20, seed=4)


def test_max_distance_is_bound_to_process() -> None:
    """Process receives a stricter `max_distance`: it no longer finds flanks with mismatches."""
    inputs, _ = simulate(edits=60)
    strict = EditDesign.run({**inputs, "max_distance": 0})
    assert strict == design_serially(**inputs, max_distance=0)
    assert 0 < strict["placed"] < EditDesign.run(inputs)["placed"]
    assert strict["mean_distance"] == 0


def test_min_placed_is_bound_to_join() -> None:
    """Join receives a stricter `min_placed`: the rows are unchanged, and the table is not accepted."""
    inputs, _ = simulate(edits=60)
    lax, strict = EditDesign.run({**inputs, "min_placed": 0.5}), EditDesign.run({**inputs, "min_placed": 1})
    assert lax == {**strict, "accepted": True}
    assert not strict["accepted"]


@pytest.mark.parametrize(
    ("path", "spoil"),
    [
        ("edits[3].kind", lambda inputs: inputs["edits"][3].update(kind="inversion")),
        ("edits[3].kind", lambda inputs: inputs["edits"][3].update(kind=["deletion"])),
        ("edits[3].kind", lambda inputs: inputs["edits"][3].pop("kind")),
        ("edits[3]", lambda inputs: inputs["edits"][3].update(kind="insertion", length=2)),
        ("edits[3]", lambda inputs: inputs["edits"][3].update(kind="deletion", sequence="A", length=1)),
        ("edits[3]", lambda inputs: inputs["edits"].insert(3, "30A>G")),
        ("edits[3].position", lambda inputs: inputs["edits"][3].update(position=-1)),
        ("edits[3].sequence", lambda inputs: inputs["edits"][3].update(sequence="ACGU")),
        ("edits[3].flanks.left", lambda inputs: inputs["edits"][3]["flanks"].update(left="ACGT")),
        ("edits[3].flanks.right", lambda inputs: inputs["edits"][3]["flanks"].pop("right")),
        ("edits[3].comment", lambda inputs: inputs["edits"][3].update(comment="mine")),
        ("genome[1].sequence", lambda inputs: inputs["genome"][1].update(sequence="acgt")),
        ("genome[4].sequence", lambda inputs: inputs["genome"][4].update(sequence="ACGT\n")),
        ("genome", lambda inputs: inputs.update(genome=[])),
        ("reach", lambda inputs: inputs.update(reach=10)),
        ("max_distance", lambda inputs: inputs.update(max_distance=1.5)),
        ("min_placed", lambda inputs: inputs.update(min_placed=2)),
        ("max_distances", lambda inputs: inputs.update(max_distances=3)),
    ],
)
def test_bad_input_is_refused_by_its_path(path: str, spoil: Callable[[dict[str, Any]], None]) -> None:
    """The error names exactly the invalid field, at any depth, by its path."""
    inputs, _ = simulate(edits=4)
    spoil(inputs)
    with pytest.raises(InvalidInput) as refused:
        EditDesign.run(inputs)
    assert list(refused.value.errors) == [path]


def test_an_unknown_contig_is_named() -> None:
    """An edit on a contig that the genome lacks fails the job in setup, and the error names both."""
    inputs, _ = simulate(edits=4)
    inputs["edits"][2]["contig"] = "plasmid"
    with pytest.raises(JobFailed, match=r"edit003: the genome has no contig 'plasmid'; it has contig1") as failed:
        EditDesign.run(inputs)
    assert failed.value.step == "setup"


def edit_at(start: int, end: int, *, new: str = "", **changes: Any) -> Edit:
    """Return an edit of `GENOME` with flanks of 20 bases."""
    kind = "insertion" if start == end else "substitution" if new else "deletion"
    flanks = {"left": GENOME[start - 20 : start], "right": GENOME[end : end + 20]}
    made = {"id": "e", "contig": "c", "position": start, "kind": kind, "length": end - start, "sequence": new}
    return cast(Edit, {**made, "flanks": flanks, **changes})


@pytest.mark.parametrize("length", [0, 1, 5])
def test_exact_flanks_place_an_edit(length: int) -> None:
    """An edit of any length is placed between its flanks, at distance 0."""
    assert place(edit_at(25, 25 + length), GENOME, max_distance=0) == ([25], 0)


def test_flanks_too_far_apart_place_nothing() -> None:
    """Flanks whose distance is not `length` give no place."""
    assert place(edit_at(25, 27, length=3), GENOME, max_distance=0) == ([], 0)


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (edit_at(30, 31, new="A"), "c:g.31T>A"),
        (edit_at(30, 33, new="AGA"), "c:g.31_33delinsAGA"),
        (edit_at(30, 31), "c:g.31del"),
        (edit_at(30, 33), "c:g.31_33del"),
        (edit_at(30, 30, new="GG"), "c:g.30_31insGG"),
    ],
)
def test_names(edit: Edit, name: str) -> None:
    """Names of edits follow HGVS, with bases counted from 1."""
    start, end = edit["position"], edit["position"] + edit["length"]
    assert name_variant(edit, start, replaced=GENOME[start:end]) == name


def test_a_guide_lies_next_to_its_pam_on_either_strand() -> None:
    """A site and its reverse complement have the same guide. Without a PAM there is none."""
    site = "A" * 5 + "GATTACAGATTACAGATTAC" + "TGG" + "A" * 5
    reverse = site.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    assert find_guide(site, 22) == find_guide(reverse, len(site) - 22) == "GATTACAGATTACAGATTAC"
    assert find_guide("AT" * 50, 50) is None
