"""Records are read back as they were written. Anything else is refused with the key of the object."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import JobCancelled, JobFailed
from fanout.errors import is_transient
from fanout.records.attempt import Attempt, AttemptState
from fanout.records.batch import BatchResult, Landed, ResultEntry, Share
from fanout.records.chunk_ref import ChunkLocation, ChunkRef
from fanout.records.failure import Failure
from fanout.records.keys import GROUP_WIDTH, MOST_CHUNKS
from fanout.records.models import (
    ChunkResult,
    Continuation,
    IndexShard,
    Intent,
    Manifest,
    Note,
    Outcome,
    OutcomeStatus,
    Record,
)
from fanout.records.run_stats import RunStats, StoreUsage
from storage import CorruptObject, NewerFormat, Slice, decode, encode

NUMBERS = st.integers(0, 2**63)
TIMES = st.floats(0, 1e12)
DIGESTS = st.text("0123456789abcdef", min_size=32, max_size=32)
IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", fullmatch=True)
SLICES = st.builds(Slice, NUMBERS, NUMBERS, NUMBERS, DIGESTS)
# Few different sizes, so that some chunks beside each other have the same.
SIZES = st.lists(st.integers(1, 3) | NUMBERS, min_size=1, max_size=GROUP_WIDTH).map(tuple)
LOCATIONS = st.builds(ChunkLocation, SLICES, NUMBERS, SIZES)
PARTS = st.builds(ChunkLocation, SLICES, NUMBERS, SIZES, NUMBERS)


@st.composite
def chunk_refs(draw: st.DrawFn) -> ChunkRef:
    """Draw a reference to a batch, whose chunks are in one group."""
    location = draw(PARTS)
    chunk = draw(NUMBERS) * GROUP_WIDTH + draw(st.integers(0, GROUP_WIDTH - len(location.sizes)))
    ids = draw(st.tuples(IDS, IDS, IDS))
    return ChunkRef(*ids, chunk, location, draw(NUMBERS), draw(st.booleans()), draw(st.integers(0, 3)))


CHUNK_REFS = chunk_refs()
FAILURES = st.builds(
    Failure, st.text(), st.text(), st.text(), st.text(), st.none() | NUMBERS, st.none() | NUMBERS, NUMBERS
)
USAGES = st.none() | st.builds(StoreUsage, TIMES, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
STATS = st.builds(
    lambda a, b, c, d, usage, took: RunStats(a, b, c, d, 5, None, usage.to_row() if usage else (), took).to_row(),
    TIMES,
    TIMES,
    NUMBERS,
    st.text(),
    USAGES,
    st.lists(NUMBERS, max_size=3),
)
MAYBE = st.none() | TIMES

RECORDS = st.one_of(
    st.builds(
        Intent,
        task=st.text(),
        inline=st.binary(),
        references=st.dictionaries(st.text(), DIGESTS),
        options=st.dictionaries(st.text(), st.none() | NUMBERS),
        created_at=TIMES,
        deadline_at=MAYBE,
        caller_parameters=st.lists(st.text()).map(tuple),
        receives=st.none() | st.text(),
        not_before=MAYBE,
        expires_at=MAYBE,
        launch=st.none() | st.text(),
    ),
    st.builds(
        Manifest,
        setup_id=IDS,
        chunks=st.integers(0, MOST_CHUNKS),
        items=NUMBERS,
        input_bytes=NUMBERS,
        shards=st.lists(DIGESTS),
        stats=STATS,
    ),
    st.builds(
        ChunkResult,
        chunk=NUMBERS,
        first_item=NUMBERS,
        items=NUMBERS,
        values=st.binary(),
        stats=STATS,
        failure=st.none() | FAILURES,
    ),
    st.builds(
        BatchResult,
        chunk=NUMBERS,
        done=NUMBERS,
        values=st.lists(st.binary()),
        stats=STATS,
        parts=st.lists(NUMBERS),
        begun=st.booleans(),
        by=st.text(),
    ),
    st.builds(Attempt, state=st.sampled_from(AttemptState), at=TIMES, failure=st.none() | FAILURES),
    st.builds(
        Outcome,
        status=st.sampled_from(OutcomeStatus),
        task=st.text(),
        stats=STATS,
        value=st.none() | st.binary(),
        value_digest=st.none() | DIGESTS,
        failure=st.none() | FAILURES,
    ),
    st.builds(Note, by=st.text(), at=TIMES),
    st.builds(Continuation, message=st.text()),
)

SAMPLES: list[Record] = [
    Intent(launch_id="launch", task="T", inline=b"", references={}, options={}, created_at=1.0),
    Manifest(setup_id="a", chunks=1, items=1, input_bytes=1, shards=[], stats=[]),
    ChunkResult(chunk=0, first_item=0, items=1, values=b"", stats=[]),
    BatchResult(chunk=0, done=2, values=[b"", b""], stats=[]),
    Attempt(state=AttemptState.LOST, at=1.0),
    Outcome(status=OutcomeStatus.SUCCEEDED, task="T", stats=[]),
    Note(by="x", at=1.0),
    Continuation(message="m"),
    IndexShard(first_chunk=0, rows=[]),
]


def plain(record: Record) -> dict[str, Any]:
    """Return the fields of a record, with the failure as a value."""
    body = {entry.name: getattr(record, entry.name) for entry in fields(record)}  # type: ignore[arg-type]
    if "failure" in body:
        body["failure"] = Failure.read(body["failure"])
    return body


@given(RECORDS)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    """The bytes of a record give a record with equal fields, and equal records give equal bytes."""
    data = record.to_bytes()
    copy = type(record).from_bytes(data, key="k")
    assert plain(copy) == plain(record)
    assert copy.to_bytes() == data


@given(st.lists(LOCATIONS, max_size=5), NUMBERS)
def test_an_index_is_read_back_as_it_was_written(locations: list[ChunkLocation], first: int) -> None:
    """The locations in an index object are read back in order, each under the index of its first chunk."""
    data = IndexShard(first_chunk=first, rows=list(locations)).to_bytes()
    firsts = accumulate((len(location.sizes) for location in locations), initial=first)
    assert list(IndexShard.from_bytes(data, key="k").batches.items()) == list(zip(firsts, locations, strict=False))


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: record.kind)
def test_a_record_of_another_format_is_refused(record: Record) -> None:
    """A record of a newer release is left to a newer worker. One of no release is damaged. The errors name the key."""
    for version, kind in ((2, NewerFormat), (0, CorruptObject), (None, CorruptObject), ("1", CorruptObject)):
        body = decode(record.to_bytes()) | {"format": version}
        with pytest.raises(kind, match=f"job/x has record format {version!r}") as caught:
            type(record).from_bytes(encode(body), key="job/x")
        assert caught.value.key == "job/x"
        assert is_transient(caught.value) == (kind is NewerFormat)


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: record.kind)
def test_a_record_of_another_kind_is_refused(record: Record) -> None:
    """The error of an object that holds another value names the key and the expected kind."""
    other = next(sample for sample in SAMPLES if sample.kind != record.kind)
    for data in (other.to_bytes(), encode({}), encode([1]), encode(None)):
        with pytest.raises(CorruptObject, match=rf"job/x is no {record.kind} record") as caught:
            type(record).from_bytes(data, key="job/x")
        assert caught.value.key == "job/x"


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: record.kind)
def test_a_record_that_lacks_a_field_is_refused(record: Record) -> None:
    """The error of a missing field, or of one too many, names the key and the field."""
    body = decode(record.to_bytes())
    field = next(name for name in body if name not in ("record", "format"))
    for wrong in ({name: value for name, value in body.items() if name != field}, body | {"surplus": 1}, body | {3: 1}):
        with pytest.raises(CorruptObject, match=r"job/x lacks fields") as caught:
            type(record).from_bytes(encode(wrong), key="job/x")
        assert caught.value.key == "job/x"


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x9fobj"])
def test_bytes_that_are_no_record_are_refused(data: bytes) -> None:
    """The error of bytes that are no encoded value names the key."""
    with pytest.raises(CorruptObject) as caught:
        Note.from_bytes(data, key="job/x")
    assert caught.value.key == "job/x"


# Chunk refs


@given(CHUNK_REFS)
def test_a_chunk_ref_is_read_back_from_its_row(ref: ChunkRef) -> None:
    """The row of a chunk ref, as a list or a tuple, gives an equal chunk ref."""
    assert ChunkRef.from_row(ref.to_row()) == ChunkRef.from_row(tuple(ref.to_row())) == ref


@given(CHUNK_REFS, st.data())
def test_a_part_of_a_batch_has_the_location_of_its_items(ref: ChunkRef, data: st.DataObject) -> None:
    """A part, or a part of a part, has the slice of its batch, its own chunks and items, and none of the attempts."""
    start = data.draw(st.integers(0, ref.count - 1))
    part = ref.part(start, data.draw(st.integers(1, ref.count - start)))
    assert part.chunks == ref.chunks[start : start + part.count]
    assert part.location.sizes == ref.location.sizes[start : start + part.count]
    before = sum(ref.location.sizes[:start])
    assert part.location.first_item - ref.location.first_item == part.location.skip - ref.location.skip == before
    assert (part.location.slice_, part.attempts, part.resent) == (ref.location.slice_, 0, ref.resent)
    assert part.part(part.count - 1) == ref.part(start + part.count - 1)
    counts = [start, part.count, ref.count - start - part.count]
    parts = list(ref.parts(counts[1:], start=start))
    assert parts[0] == part
    assert [chunk for part in parts for chunk in part.chunks] == list(ref.chunks[start:])


@pytest.mark.parametrize(
    ("sizes", "field"),
    [((4,), 4), ((4, 4), [4, 2]), ((4, 4, 1), [4, 2, 1, 1]), ((1, 2), [1, 1, 2, 1]), ((1,) * 32, [1, 32])],
)
def test_sizes_of_equal_chunks_are_one_run(sizes: tuple[int, ...], field: object) -> None:
    """A row has the size of the only chunk, as before batches, or runs of equal sizes: size, number of chunks."""
    ref = ChunkRef("job", "launch", "setup_id", 32, ChunkLocation(Slice(0, 1, 2, "d" * 32), 3, sizes))
    row = ref.to_row()
    assert row[9] == field
    assert ChunkRef.from_row(row) == ref


def test_a_row_leaves_out_defaults_at_its_end() -> None:
    """A row of a chunk of generation 0 has 12 fields. Generation and skip follow if they are needed."""
    ref = ChunkRef("job", "launch", "setup_id", 1, ChunkLocation(Slice(0, 1, 2, "d" * 32), 3, (4,)))
    assert len(ref.to_row()) == 12
    assert replace(ref, generation=2).to_row()[12:] == [2]
    part = replace(ref, location=replace(ref.location, skip=7))
    assert part.to_row()[12:] == [0, 7]
    assert ChunkRef.from_row(part.to_row()) == part


ROW = ChunkRef("job", "launch", "setup_id", 1, ChunkLocation(Slice(0, 1, 2, "d" * 32), 3, (4,)), 0, False).to_row()
NUMERIC = [3, 4, 5, 6, 8, 9, 10]
FORGED = [
    None,
    "abcdefghijkl",
    {},
    [],
    ROW[:-1],
    [*ROW, -1],
    [*ROW, True],
    [*ROW, "1"],
    [*ROW, 1, -1],
    [*ROW, 1, True],
    [*ROW, 1, None],
    [*ROW, 1, 0, 0],
    *([*ROW[:at], bad, *ROW[at + 1 :]] for at in NUMERIC for bad in (-1, True, False, 1.0, "1", None, [], {}, 10.5)),
    *(
        [*ROW[:at], bad, *ROW[at + 1 :]]
        for at in (0, 1, 2)
        for bad in ("", "../other", "a/b", "..", "a..b", "a" * 129, "a" * 10**6, 3, None, True, [], "a\x00")
    ),
    *([*ROW[:7], bad, *ROW[8:]] for bad in (3, None, [], b"d" * 32)),
]


@pytest.mark.parametrize("row", FORGED, ids=lambda row: f"{row!r:.60}")
def test_a_forged_chunk_ref_is_refused(row: object) -> None:
    """A row of the wrong length, or with a field that is no index, size, id or digest, is refused."""
    with pytest.raises(ValueError, match=r"."):
        ChunkRef.from_row(row)


FORGED_BATCHES = [
    ([4, 0], 0, "a batch has 1 to 32 chunks, not 0"),
    ([4, 33], 0, "a batch has 1 to 32 chunks, not 33"),
    ([4, 10**12], 0, "a batch has 1 to 32 chunks, not 1000000000000"),
    ([4, 20, 5, 20], 0, "a batch has 1 to 32 chunks, not 40"),
    ([4, 32], 1, "chunks 1 to 32 are not in one group"),
    ([4, 2], 31, "chunks 31 to 32 are not in one group"),
    ([4], 0, "neither a number of items nor runs"),
    ([4, 1, 4], 0, "neither a number of items nor runs"),
    ([1, 1] * 33, 0, "neither a number of items nor runs"),
    ({"4": 1}, 0, "neither a number of items nor runs"),
    ("41", 0, "neither a number of items nor runs"),
    ([-4, 2], 0, "-4 is not an index or a size"),
    ([4, -2], 0, "-2 is not an index or a size"),
    ([4, 2, 4, -1], 0, "-1 is not an index or a size"),
    ([True, 2], 0, "True is not an index or a size"),
    ([4, True], 0, "True is not an index or a size"),
    ([4.0, 2], 0, "4.0 is not an index or a size"),
    ([[4], 2], 0, "is not an index or a size"),
    ([4, "2"], 0, "'2' is not an index or a size"),
]


@pytest.mark.parametrize(("sizes", "chunk", "message"), FORGED_BATCHES, ids=lambda value: f"{value!r:.40}")
def test_a_forged_batch_is_refused(sizes: object, chunk: int, message: str) -> None:
    """A batch with too many chunks, with chunks of two groups, or with sizes that are none, is refused in words."""
    row = [*ROW[:3], chunk, *ROW[4:9], sizes, *ROW[10:]]
    with pytest.raises(ValueError, match=message):
        ChunkRef.from_row(row)
    assert ChunkRef.from_row([*ROW[:3], 0, *ROW[4:9], [4, 2], *ROW[10:]]).count == 2


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 9, 10])
def test_a_refusal_is_short(at: int) -> None:
    """The refusal of a message of a megabyte is one short line in the log."""
    with pytest.raises(ValueError, match=r".") as caught:
        ChunkRef.from_row([*ROW[:at], "a" * 10**6, *ROW[at + 1 :]])
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(("at", "bad"), [(7, ""), (7, "x" * 10**6), (7, "../"), (11, "yes"), (11, [1]), (11, 7)])
def test_every_field_of_a_chunk_ref_is_checked(at: int, bad: object) -> None:
    """A digest must be 32 hexadecimal digits, and the resent flag 0 or 1."""
    with pytest.raises(ValueError, match=r"."):
        ChunkRef.from_row([*ROW[:at], bad, *ROW[at + 1 :]])


# Failures


def test_a_failure_has_the_details_of_the_exception() -> None:
    """Type, message, traceback and location of an error are in its failure, and so is its cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as error:
        failure = Failure.of("process", error, chunk=3, item=17, attempts=2)
    assert (failure.error, failure.reason) == ("ValueError", "outer")
    assert "KeyError: 'inner'" in failure.traceback_text
    assert replace(failure, traceback_text="") == Failure("process", "ValueError", "outer", "", 3, 17, 2)


def test_an_outcome_gives_the_error_of_its_status() -> None:
    """A failed outcome gives JobFailed with step, chunk and item, a cancelled one JobCancelled, and a success none."""
    failed = Outcome(
        status=OutcomeStatus.FAILED, task="T", stats=[], failure=Failure("process", "E", "r", "tb", 1, 2, 3)
    )
    copy = Outcome.from_bytes(failed.to_bytes(), key="k")
    error = copy.error("job")
    assert type(error) is JobFailed
    assert error.args == ("job", "T", "process", "E: r", 1, 2, 3, "tb")
    cancelled = Outcome(
        status=OutcomeStatus.CANCELLED, task="T", stats=[], failure=Failure("job", "JobCancelled", "why")
    )
    assert type(cancelled.error("job")) is JobCancelled
    assert cancelled.error("job").reason == "why"
    with pytest.raises(ValueError, match="has a value"):
        Outcome(status=OutcomeStatus.SUCCEEDED, task="T", stats=[], value=b"").error("job")


def test_the_content_digest_of_a_result_ignores_run_stats() -> None:
    """Two results with equal values have equal digests, on any worker and at any time."""
    result = ChunkResult(chunk=0, first_item=0, items=1, values=b"v", stats=[1])
    assert result.content_digest() == replace(result, stats=[2]).content_digest()
    assert result.content_digest() != replace(result, values=b"w").content_digest()


def test_the_content_digest_of_a_batch_ignores_run_and_worker() -> None:
    """Two results of a batch with equal values have equal digests, whatever run gave them."""
    result = BatchResult(chunk=0, done=2, values=[b"v", b"w"], stats=[1], by="x")
    assert result.content_digest() == replace(result, stats=[2], by="y").content_digest()
    assert result.content_digest() != replace(result, values=[b"v", b"x"]).content_digest()


def test_a_share_has_the_parts_of_its_batch() -> None:
    """A batch that was not shared out has no parts."""
    shared = BatchResult(chunk=4, done=1, values=[b"v"], stats=[], parts=[1, 2], begun=True)
    assert Share.of(shared) == Share(1, (1, 2))
    assert Share.of(replace(shared, done=4, values=[b"v"] * 4, parts=[])) == Share(4, ())


# Results that have landed


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 5), st.integers(0, 3)), max_size=8), st.integers(0, 60))
def test_landed_chunks_are_those_of_the_entries(drawn: list[tuple[int, int, int]], count: int) -> None:
    """The chunks between the entries, and after them, are missing."""
    entries, index = [], 0
    for gap, chunks, failed in drawn:
        index += gap
        entries.append(ResultEntry(index, chunks, max(chunks, 2), 0 if chunks > 1 else failed))
        index += chunks
    landed = Landed(entries)
    chunks = [chunk for entry in entries for chunk in range(entry.index, entry.index + entry.count)]
    assert len(landed) == len(chunks)
    assert [chunk for chunk in range(index + 5) if chunk in landed] == chunks
    assert [*landed.missing(count + index)] == [chunk for chunk in range(count + index) if chunk not in chunks]
    assert landed.failed == {entry.index: entry.failed for entry in entries if entry.failed}
    assert landed.failed_count == sum(entry.failed for entry in entries)


def test_the_failure_of_a_huge_exception_is_short() -> None:
    """Of a megabyte in an exception, the failure has the beginning and the end."""
    failure = Failure.of("process", ValueError("begin" + "x" * 10**6 + "end"))
    assert len(failure.reason) < 2_100
    assert len(failure.traceback_text) < 16_100
    assert failure.reason.startswith("begin")
    assert failure.reason.endswith("end")
    assert "characters left out" in failure.reason
