"""Batches are cut in setup, found again by sweeps and retries, and read by joins and callers as their chunks are."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import FailedItem, ForkJoinTask
from fanout.engines.stub import WorkerDied
from fanout.records.batch import BatchResult, ResultEntry, Share
from fanout.records.chunk_ref import ChunkLocation, ChunkRef
from fanout.records.keys import GROUP_WIDTH, INDEXED_CHUNKS
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Note
from fanout.stages import batch_run, batch_writer
from fanout.stages.batch_writer import BATCH_BYTES
from fanout.stages.resend import find_parts
from fanout.stages.result_reader import entry_values
from fanout.sweep import Move, sweep_job
from storage import CorruptObject, Slice, encode
from tests.stores import ScriptedStore

from .behaviour import ItemBehaviour, failure_of, outcome_of, task_with
from .sharing import Clock
from .tasks import Numbers, Words
from .world import World


@pytest.fixture
def world() -> World:
    """Return a world whose setup makes batches of up to 32 chunks."""
    return World(batch_chunks=GROUP_WIDTH)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stop the clock of batches, so that parts have as many chunks as a stopped clock gives them."""
    clock = Clock()
    clock.replace_in(monkeypatch)
    return clock


def counts(world: World) -> list[int]:
    return [ref.count for ref in world.refs]


def run_all(world: World, ledger: Ledger) -> Any:
    """Run all messages, and return the job's value."""
    world.dispatcher.drain(world.process())
    return ledger.value(outcome_of(ledger))


# Setup


@pytest.mark.parametrize("container", [list, iter])
@pytest.mark.parametrize(
    ("batch_chunks", "chunks", "expected"),
    [
        (1, 3, [1, 1, 1]),
        (2, 5, [2, 2, 1]),
        (5, 32, [5, 5, 5, 5, 5, 5, 2]),
        (5, 34, [5, 5, 5, 5, 5, 5, 2, 2]),
        (20, 70, [20, 12, 20, 12, 6]),
        (32, 1, [1]),
        (32, 31, [31]),
        (32, 32, [32]),
        (32, 33, [32, 1]),
        (32, 100, [32, 32, 32, 4]),
    ],
)
def test_a_batch_ends_with_its_group(batch_chunks: int, chunks: int, expected: list[int], container: Any) -> None:
    """A batch has at most `batch_chunks` chunks, all of one group, whether setup returns a list or yields."""
    world = World(batch_chunks=batch_chunks)

    class Cut(Numbers):
        def setup(numbers):
            return container([{"number": number} for number in numbers])

    ledger = world.prepare(Cut, {"numbers": list(range(chunks))})
    assert counts(world) == expected
    assert [chunk for ref in world.refs for chunk in ref.chunks] == list(range(chunks))
    assert all(ref.chunks[0] // GROUP_WIDTH == ref.chunks[-1] // GROUP_WIDTH for ref in world.refs)
    assert run_all(world, ledger) == list(range(chunks))


def test_a_job_of_one_attempt_has_batches_of_one(world: World) -> None:
    """The run of a batch is not recorded. So with `max_attempts=1` each chunk is sent alone."""
    ledger = world.prepare(Numbers, {"numbers": list(range(5))}, max_attempts=1)
    assert counts(world) == [1] * 5
    assert run_all(world, ledger) == list(range(5))


@pytest.mark.parametrize("container", [list, iter])
def test_a_batch_ends_at_its_size(world: World, container: Any) -> None:
    """A batch is closed before it exceeds `BATCH_BYTES`, if its chunks are of similar size."""
    size = BATCH_BYTES // 5
    ledger = world.prepare(padded(container), {"sizes": [size] * 13})
    assert set(counts(world)[:-1]) <= {4, 5}
    assert sum(counts(world)) == 13
    slices = [ref.location.slice_ for ref in world.refs]
    assert all(slice_.length <= BATCH_BYTES * 1.1 for slice_ in slices)
    assert run_all(world, ledger) == [size] * 13


@pytest.mark.parametrize("container", [list, iter])
def test_a_large_chunk_is_a_batch_of_its_own(world: World, container: Any) -> None:
    """A chunk of one item that is larger than `BATCH_BYTES` is alone in its batch, also between small ones."""
    sizes = [10, 20, 2 * BATCH_BYTES, 30, 40, 3 * BATCH_BYTES]
    ledger = world.prepare(padded(container), {"sizes": sizes})
    assert counts(world) == [2, 1, 2, 1]
    assert run_all(world, ledger) == sizes


def padded(container: Callable[[list[Any]], Any]) -> type[ForkJoinTask]:
    """Return a task of which each item has so many bytes, and is a chunk of its own."""

    class Padded(ForkJoinTask):
        input_schema = {"sizes": {"type": "list"}}
        chunk_items = 1

        def setup(sizes):
            return container([{"body": random.Random(index).randbytes(size)} for index, size in enumerate(sizes)])

        def process(body):
            return len(body)

        def join(results):
            return list(results)

    return Padded


def test_a_batch_is_sent_when_setup_is_slow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """If setup yields slowly, a batch is closed once its first chunk has waited for `LINGER_S`, and is sent soon."""
    now = [0.0]
    monkeypatch.setattr(batch_writer, "time", SimpleNamespace(monotonic=lambda: now[0]))

    class Slow(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1

        def setup():
            for number in range(9):
                if number == 4:
                    now[0] += batch_writer.LINGER_S
                yield {"number": number}

        def process(number):
            return number

        def join(results):
            return list(results)

    ledger = world.prepare(Slow, {})
    assert counts(world) == [5, 4]
    assert run_all(world, ledger) == list(range(9))


def test_the_items_of_a_batch_are_those_of_its_chunks(world: World) -> None:
    """A batch tells the number of items of each chunk. A message of one has the same form as without batches."""
    world.prepare(Words, {"documents": ["x"] * 100}, chunk_items=3)
    first, second = world.refs
    assert first.location.sizes == (3,) * 32
    assert second.location.sizes == (3, 1)
    assert (first.location.first_item, second.location.first_item) == (0, 96)
    assert first.to_row()[9] == [3, 32]


@pytest.mark.parametrize(
    ("chunks", "shards", "rows"), [(INDEXED_CHUNKS - 1, 0, 2), (INDEXED_CHUNKS, 1, 0), (1100, 2, 0)]
)
def test_the_index_has_one_row_per_batch(world: World, chunks: int, shards: int, rows: int) -> None:
    """The manifest or the index shards tell the location of each batch by its first chunk."""
    ledger = world.prepare(Numbers, {"numbers": list(range(chunks))})
    manifest = ledger.manifest()
    assert manifest is not None
    assert (len(manifest.shards), len(manifest.rows)) == (shards, rows)
    records = [ledger.shard(manifest, shard) for shard in range(shards or 1)]
    located = [entry for record in records for entry in record.batches.items()]
    assert located == [(ref.chunk, ref.location) for ref in world.refs]


@given(
    sizes=st.lists(st.sampled_from([0, 1, 50, 3000, BATCH_BYTES // 3, BATCH_BYTES + 1]), max_size=40),
    chunk_items=st.integers(1, 5),
    chunk_bytes=st.sampled_from([100, 10_000, BATCH_BYTES, 8 * 2**20]),
    batch_chunks=st.sampled_from([1, 3, 32]),
)
def test_lists_and_streams_have_the_same_chunks(
    sizes: list[int], chunk_items: int, chunk_bytes: int, batch_chunks: int
) -> None:
    """Each item is in one chunk, in order, whatever the sizes are, and each chunk is as large as the options say."""
    chunks = []
    for container in (list, iter):
        world = World(batch_chunks=batch_chunks)
        options = {"chunk_items": chunk_items, "chunk_bytes": chunk_bytes}
        ledger = world.prepare(padded(container), {"sizes": sizes}, **options)
        following = 0
        for ref in world.refs:
            assert ref.location.first_item == following
            assert ref.count <= batch_chunks
            assert ref.chunks[0] // GROUP_WIDTH == ref.chunks[-1] // GROUP_WIDTH
            items = world.runtime.job(ledger.job_id).items(ref.setup_id, ref.location.slice_)
            assert [len(item["body"]) for item in items] == sizes[following : following + ref.location.items]
            following += ref.location.items
        assert following == len(sizes)
        cut = [size for ref in world.refs for size in ref.location.sizes]
        for index, size in enumerate(cut):
            bodies = sizes[sum(cut[:index]) :][:size]
            assert size <= chunk_items
            assert size == chunk_items or sum(bodies) + 100 * size >= chunk_bytes or index == len(cut) - 1
            assert sum(bodies[:-1]) < chunk_bytes
        chunks.append(cut)
        assert run_all(world, ledger) == sizes
    assert chunks[0] == chunks[1]


# The listing of results


class Records:
    """The results of a setup, as workers write them."""

    def __init__(self) -> None:
        self.store = ScriptedStore()
        self.ledger = Ledger(self.store, "job", "launch")

    def write(self, chunk: int, count: int = 1, *, done: int | None = None, begun: bool = False) -> None:
        """Write the results of a chunk or a batch, of which `done` chunks are done and the others shared out."""
        if count == 1:
            self.ledger.write_result(
                "a", ChunkResult(chunk=chunk, first_item=chunk, items=1, values=encode([chunk]), stats=[])
            )
            return
        done = count if done is None else done
        if done < count:
            self.ledger.mark_shared("a", chunk, count, done=done, note=Note(by="x"))
        values = [encode([index]) for index in range(chunk, chunk + done)]
        parts = [1] * (count - done)
        self.ledger.write_batch_result(
            "a", count, BatchResult(chunk=chunk, done=done, values=values, stats=[], parts=parts, begun=begun)
        )

    @property
    def entries(self) -> list[tuple[int, int, int]]:
        """Chunk, number of chunks and width of each entry."""
        return [(entry.index, entry.count, entry.width) for entry in self.ledger.result_entries("a")]


def test_entries_are_in_chunk_order_whatever_holds_them() -> None:
    """Whole and shared batches, their parts, also with the same first chunk, and single chunks follow each other."""
    records = Records()
    records.write(0, 8, done=0)
    records.write(0, 4, done=2)
    records.write(2)
    records.write(3)
    records.write(4, 4)
    records.write(8, 24)
    records.write(32, 32, done=5)
    records.write(37, 27)
    records.write(64)
    expected = [(0, 2, 4), (2, 1, 1), (3, 1, 1), (4, 4, 4), (8, 24, 24), (32, 5, 32), (37, 27, 27), (64, 1, 1)]
    assert records.entries == expected
    assert [*records.ledger.landed("a").missing(66)] == [65]
    in_group = [entry.index for entry in records.ledger.result_entries("a", group=1)]
    assert in_group == [32, 37]
    from_chunk = [entry.index for entry in records.ledger.result_entries("a", first_chunk=37)]
    assert from_chunk == [37, 64]


def test_an_announcement_and_a_part_show_a_share_without_reading_it() -> None:
    """A listing tells how much of a batch is done if one run has announced a share and a part has a result."""
    records = Records()
    records.write(0, 8, done=3)
    read: list[str] = []
    records.store.before = lambda verb, key: read.append(key) if verb == "get" else None
    records.write(5)
    assert records.entries == [(0, 3, 8), (5, 1, 1)]
    assert read == []
    # Another run has announced that it shares out what it has not done, and has found the object in its place.
    records.ledger.mark_shared("a", 0, 8, done=6, note=Note(by="y"))
    assert records.entries == [(0, 3, 8), (5, 1, 1)]
    assert read == [records.ledger.keys.batch_result("a", 0, 8)]


def test_a_share_of_a_removed_job_holds_nothing() -> None:
    """A listing of a shared batch whose object was removed meanwhile goes on without it."""
    records = Records()
    records.write(0, 4, done=2)
    records.write(4)
    key = records.ledger.keys.batch_result("a", 0, 4)

    records.store.before_first("get", key, lambda: records.store.delete([key]))
    assert records.entries == [(4, 1, 1)]


def test_the_failed_chunk_of_a_share_counts_in_its_generation() -> None:
    """A bad result of a chunk that a batch shared out counts in its generation, until there is a good one."""
    records = Records()
    later = Ledger(records.store, "job", "launch", generation=1)
    records.write(0, 3, done=0)
    failed = [FailedItem(item=0, chunk=0, error="E", reason="why", attempts=1)]
    records.ledger.write_result("a", ChunkResult(chunk=0, first_item=0, items=1, values=b"", stats=[], failures=failed))
    assert [(entry.index, entry.failed) for entry in records.ledger.landed("a").entries] == [(0, 1)]
    assert len(later.landed("a")) == 0
    records.write(0)
    for ledger in (records.ledger, later):
        assert [(entry.index, entry.failed) for entry in ledger.landed("a").entries] == [(0, 0)]


def test_the_values_of_an_entry_are_those_of_its_chunks() -> None:
    """One request reads the results of all chunks in an object, those that a shared batch holds included."""
    records = Records()
    records.write(0, 4)
    records.write(4, 4, done=2)
    for entry, values in ((ResultEntry(0, 4, 4), [0, 1, 2, 3]), (ResultEntry(4, 2, 4), [4, 5])):
        records.store.log.clear()
        assert entry_values(records.ledger, "a", entry) == values
        assert [verb for verb, _ in records.store.log] == ["get"]


def test_an_entry_that_is_missing_or_other_than_listed_is_refused() -> None:
    """The error names the key of the batch."""
    records = Records()
    records.write(4, 4, done=2)
    with pytest.raises(CorruptObject, match="holds the results of 2 chunks, not of 4") as caught:
        entry_values(records.ledger, "a", ResultEntry(4, 4, 4))
    assert caught.value.key == records.ledger.keys.batch_result("a", 4, 4)
    with pytest.raises(CorruptObject, match="was listed but does not exist") as caught:
        entry_values(records.ledger, "a", ResultEntry(0, 4, 4))
    assert caught.value.key == records.ledger.keys.batch_result("a", 0, 4)


# Parts


REF = ChunkRef("job", "launch", "a", 32, ChunkLocation(Slice(0, 0, 9, "d" * 32), 70, (2,) * 8), resent=True)


def parts_of(
    wanted: list[int], shares: dict[tuple[int, int], Share], attempts: dict[int, int] | None = None
) -> list[tuple[int, int, int]]:
    """Return first chunk, number of chunks, and attempts of each part that has a message of its own."""
    parts = find_parts(
        REF,
        wanted,
        share_of=lambda ref: shares.get((ref.chunk, ref.count)),
        attempts_of=lambda chunk: (attempts or {}).get(chunk, 0),
    )
    return [(part.chunk, part.count, part.attempts) for part in parts]


@pytest.mark.parametrize(
    ("wanted", "shares", "expected"),
    [
        ([], {}, []),
        ([31, 40], {}, []),
        ([35], {}, [(32, 8, 0)]),
        ([32, 39], {}, [(32, 8, 0)]),
        ([35], {(32, 8): Share(2, (1, 4, 1))}, [(35, 4, 0)]),
        ([34, 39], {(32, 8): Share(2, (1, 4, 1))}, [(34, 1, 2), (39, 1, 0)]),
        ([33], {(32, 8): Share(2, (1, 4, 1))}, [(32, 8, 0)]),
        ([33, 36], {(32, 8): Share(2, (1, 4, 1))}, [(32, 8, 0), (35, 4, 0)]),
        ([36, 38], {(32, 8): Share(2, (1, 4, 1)), (35, 4): Share(1, (1, 2))}, [(36, 1, 0), (37, 2, 0)]),
        ([37], {(32, 8): Share(2, (1, 4, 1)), (35, 4): Share(1, (3,)), (36, 3): Share(1, (1, 1))}, [(37, 1, 1)]),
        ([32], {(32, 8): Share(8, ())}, [(32, 8, 0)]),
    ],
)
def test_the_parts_with_a_message_of_their_own_are_found(
    wanted: list[int], shares: dict[tuple[int, int], Share], expected: list[tuple[int, int, int]]
) -> None:
    """Of a batch, the smallest parts that are known to have a message are sent, if they hold a wanted chunk.

    If a chunk that the batch itself holds is wanted, the batch is sent. Only single chunks have attempts.
    """
    assert parts_of(wanted, shares, {34: 2, 37: 1}) == expected


def test_a_part_is_resent_as_its_batch_is() -> None:
    """The messages of parts have the marks of the message of the batch."""
    (part,) = find_parts(REF, [36], share_of=lambda ref: Share(0, (1,) * 8) if ref == REF else None, attempts_of=int)
    assert part.resent
    assert part.attempts == 36
    assert part.location.skip == 8


# Sweeps


def test_a_sweep_sends_the_lost_parts_of_a_shared_batch(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep sends the parts without a result again, as they were shared out, and not their batch."""
    monkeypatch.setattr(batch_run, "PART_S", 4 / 32)
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 10:
            world.timers.share_out()
        clock.now += 1 / 32
        return number

    behaviour.act = act
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(24))})
    world.dispatcher.deliver(world.process())
    assert [(ref.chunk, ref.count) for ref in world.refs[1:]] == [(11, 4), (15, 4), (19, 4), (23, 1)]
    world.dispatcher.deliver(world.process(), at=1)
    world.dispatcher.lose()
    world.store.age(10**6)
    assert sweep_job(world.process(), ledger.job_id) is Move.CHUNKS_SENT
    assert [(ref.chunk, ref.count, ref.resent) for ref in world.refs[5:]] == [
        (11, 4, True),
        (19, 4, True),
        (23, 1, True),
    ]
    assert run_all(world, ledger) == list(range(24))
    assert sorted(behaviour.runs) == list(range(24))


def test_a_sweep_leaves_the_chunk_at_work_alone(world: World) -> None:
    """While a run goes on with a chunk of its batch, the heartbeat of this chunk keeps it from being sent again."""
    behaviour = ItemBehaviour()
    moves: list[Move] = []

    def act(number: int, run: int) -> int:
        if number == 3:
            world.timers.share_out()
            world.dispatcher.lose()
            world.store.age(10**6)
            job.ledger.write_heartbeat(f"{world.refs[0].setup_id}/00000003", Note(by="x"))
            moves.append(sweep_job(world.process(), ledger.job_id))
        return number

    behaviour.act = act
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(12))})
    job = world.runtime.job(ledger.job_id)
    world.dispatcher.deliver(world.process())
    assert moves == [Move.CHUNKS_SENT]
    resent = [chunk for ref in world.refs if ref.resent for chunk in ref.chunks]
    assert resent == list(range(4, 12))
    assert run_all(world, ledger) == list(range(12))
    assert sorted(behaviour.runs) == list(range(12))


# Retries


def test_a_retry_runs_only_what_failed(world: World) -> None:
    """A retry keeps the results of whole batches and of those before the chunk that failed."""
    behaviour = ItemBehaviour()
    broken = [True]

    def act(number: int, run: int) -> int:
        if number == 40 and broken:
            raise ValueError("no")
        return number

    behaviour.act = act
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(70))}, max_attempts=2)
    world.dispatcher.drain(world.process())
    assert failure_of(ledger).chunk == 40
    kept = {
        chunk
        for entry in ledger.landed(world.refs[0].setup_id).entries
        for chunk in range(entry.index, entry.index + entry.count)
    }
    assert set(range(40)) <= kept
    broken.clear()
    behaviour.runs.clear()
    world.dispatcher.lose()
    sent = len(world.refs)
    assert world.job(ledger).retry()
    assert all(ref.generation == 1 and not ref.resent for ref in world.refs[sent:])
    world.dispatcher.drain(world.process())
    assert world.job(ledger).get(1) == list(range(70))
    assert sorted(behaviour.runs) == sorted(set(range(70)) - kept | {40})


def test_a_retry_before_any_chunk_sends_the_batches(world: World) -> None:
    """The messages of a retried job without results are those of its setup, in the new generation."""
    ledger = world.prepare(Numbers, {"numbers": list(range(40))})
    first = world.refs
    world.dispatcher.lose()
    world.job(ledger).cancel()
    world.dispatcher.drain(world.process())
    world.dispatcher.lose()
    assert world.job(ledger).retry()
    second = world.refs[len(first) :]
    assert [(ref.chunk, ref.location, ref.generation) for ref in second] == [
        (ref.chunk, ref.location, 1) for ref in first
    ]
    world.dispatcher.drain(world.process())
    assert world.job(ledger).get(1) == list(range(40))


def test_a_retry_of_tolerated_failures_keeps_the_batches(world: World) -> None:
    """Only the chunk with the failed item runs again in the next generation."""
    behaviour = ItemBehaviour()
    broken = [True]

    def act(number: int, run: int) -> int:
        if number == 5 and broken:
            raise ValueError("no")
        return number

    behaviour.act = act
    ledger = world.prepare(task_with(behaviour), {"numbers": list(range(20))}, tolerate=1, max_attempts=2)
    world.dispatcher.drain(world.process())
    assert outcome_of(ledger).failed == 1
    broken.clear()
    behaviour.runs.clear()
    assert world.job(ledger).retry()
    world.dispatcher.drain(world.process())
    assert world.job(ledger).get(1) == list(range(20))
    assert behaviour.runs == [5]


# Reading


class Indexing(ForkJoinTask):
    """Reads its results in every way that a join may. Items are in chunks of three; some kill, raise or last."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 3

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return number

    def join(results):
        count = len(results)
        indices = [*range(count), *range(-count, 0)]
        random.Random(1).shuffle(indices)
        return {
            "list": list(results),
            "right": all(results[index] == range(count)[index] for index in indices),
            "slices": [results[2:9:2], results[-3:], results[::-1][:4]],
            "len": count,
            "sum": sum(results),
        }


def shared_at(world: World, task: type[ForkJoinTask], shares: set[int]) -> type[ForkJoinTask]:
    """Return a task of which each batch that comes to one of these items is shared out while it is at work."""

    class Sharing(task):  # type: ignore[misc,valid-type]
        def process(number):
            if number in shares:
                shares.discard(number)
                world.timers.share_out()
            return number

    return Sharing


@pytest.mark.parametrize("shares", [set(), {0}, {7}, {7, 100, 110, 200}], ids=len)
def test_join_reads_results_by_index(world: World, shares: set[int]) -> None:
    """Indices, slices and iteration give the same results, whatever objects hold them."""
    task = shared_at(world, Indexing, set(shares))
    ledger = world.launch(task, {"numbers": list(range(250))})
    value = run_all(world, ledger)
    assert value["list"] == list(range(250))
    assert value["right"]
    assert value["slices"] == [[2, 4, 6, 8], [247, 248, 249], [249, 248, 247, 246]]
    assert (value["len"], value["sum"]) == (250, sum(range(250)))


@pytest.mark.parametrize("shares", [set(), {0}, {7, 100, 110, 200}], ids=len)
def test_a_caller_reads_the_results_of_batches_as_they_come(world: World, shares: set[int]) -> None:
    """Iterating over a job yields the results in item order, while later batches are still to run."""
    task = shared_at(world, Indexing, set(shares))
    ledger = world.prepare(task, {"numbers": list(range(250))})
    results = iter(world.job(ledger))
    world.dispatcher.deliver(world.process())
    assert next(results) == 0
    # The last messages first, so that later results exist before those that come next.
    while world.dispatcher.waiting and not world.dispatcher.joins:
        world.dispatcher.deliver(world.process(), at=-1)
    assert list(results) == list(range(1, 250))


def test_progress_counts_the_chunks_of_batches(world: World) -> None:
    """A caller sees the number of chunks, not of batches."""
    ledger = world.prepare(Numbers, {"numbers": list(range(100))})
    assert world.job(ledger).progress().chunks_done == 0
    world.dispatcher.deliver(world.process(), at=1)
    progress = world.job(ledger).progress()
    assert (progress.chunks_done, progress.chunks, progress.items) == (32, 100, 100)
    world.dispatcher.drain(world.process())
    assert world.job(ledger).progress().chunks_done == 100


def test_a_report_has_a_run_per_batch(world: World) -> None:
    """The report reads the record of each batch, part and single chunk once."""
    task = shared_at(world, Indexing, {7})
    ledger = world.launch(task, {"numbers": list(range(200))})
    run_all(world, ledger)
    report = world.job(ledger).report()
    runs = report.recorded.runs
    assert report.progress.chunks == sum(run.chunks for run in runs) == 67
    assert report.stages["process"].runs == len(runs) < 67
    assert {1} < {run.chunks for run in runs}
    assert [run.chunk for run in runs] == sorted(run.chunk for run in runs)


@pytest.mark.parametrize("shares", [set(), {0}, {7}, {0, 7, 100}], ids=len)
def test_a_report_counts_the_messages_of_batches_that_were_shared_out(world: World, shares: set[int]) -> None:
    """The report's messages are those that were sent, also for a batch that was shared out before its first result."""
    ledger = world.launch(shared_at(world, Indexing, set(shares)), {"numbers": list(range(250))})
    run_all(world, ledger)
    assert world.job(ledger).report().messages == len(world.dispatcher.sent)


# Combine


class Pairs(ForkJoinTask):
    """Combines numbers to text, so that a test sees the order."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return number

    def combine(parts):
        return "+".join(map(str, parts))

    def join(parts):
        return "+".join(parts)


@pytest.mark.parametrize("chunks", [1, 5, 32, 33, 70, 200])
@pytest.mark.parametrize("shares", [set(), {0}, {7, 41, 100, 110, 200}], ids=len)
@pytest.mark.parametrize("batch_chunks", [3, 32])
def test_the_results_of_batches_are_combined_in_order(chunks: int, shares: set[int], batch_chunks: int) -> None:
    """The tree over batches, parts and chunks gives the value in item order, whatever order they run in."""
    numbers = list(range(2 * chunks))
    for seed in range(3):
        world = World(batch_chunks=batch_chunks)
        task = shared_at(world, Pairs, shares & set(numbers))
        ledger = world.launch(task, {"numbers": numbers})
        world.dispatcher.drain(world.process(), order=random.Random(seed))
        assert ledger.value(outcome_of(ledger)) == "+".join(map(str, numbers))


def test_a_caller_reads_combined_values_of_batches(world: World) -> None:
    """Iterating over a job with a combine yields one value per object: of a whole batch, or of a chunk."""
    ledger = world.launch(Pairs, {"numbers": list(range(70))})
    world.dispatcher.drain(world.process())
    assert list(world.job(ledger)) == ["+".join(map(str, range(64))), "64+65+66+67+68+69"]


def test_failed_items_below_a_node_leave_the_others(world: World) -> None:
    """In a job that tolerates failures, the chunk with the failed item is combined with the batches around it."""

    class Failing(Pairs):
        def process(number):
            if number == 21:
                raise ValueError("no")
            return number

    ledger = world.launch(Failing, {"numbers": list(range(100))}, tolerate=1, max_attempts=2)
    world.dispatcher.drain(world.process())
    assert outcome_of(ledger).failed == 1
    assert ledger.value(outcome_of(ledger)) == "+".join(str(number) for number in range(100) if number != 21)


# Any course of a job


@given(data=st.data())
def test_any_course_of_a_job_gives_its_value(data: st.DataObject) -> None:
    """Batches die, raise, last and arrive twice, in any order. The job ends with the right value."""
    chunks = data.draw(st.sampled_from([2, 5, 33, 40]))
    world = World(batch_chunks=data.draw(st.sampled_from([4, 32])), copies=data.draw(st.sampled_from([1, 2])))
    events: dict[int, str] = data.draw(
        st.dictionaries(st.integers(0, chunks - 1), st.sampled_from(["raise", "die", "share", "both"]), max_size=4)
    )
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        event = events.pop(number, "")
        if event in ("share", "both") and world.timers.is_waiting:
            world.timers.share_out()
        if event == "raise":
            raise ValueError("not yet")
        if event in ("die", "both"):
            raise WorkerDied
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": list(range(chunks))}, max_attempts=5)
    order = random.Random(data.draw(st.integers(0, 2**32)))
    world.dispatcher.drain(world.process(), order=order)
    # Only results count here: a message that was delivered twice may leave a check to a sweep.
    for _ in range(10):
        if ledger.has_outcome():
            break
        world.store.age(10**7)
        sweep_job(world.process(), ledger.job_id)
        world.dispatcher.drain(world.process(), order=order)
    assert ledger.value(outcome_of(ledger)) == list(range(chunks))
    manifest = ledger.manifest()
    assert manifest is not None
    landed = ledger.landed(manifest.setup_id)
    assert not landed.missing(chunks)
    covered = Counter(chunk for entry in landed.entries for chunk in range(entry.index, entry.index + entry.count))
    assert set(covered.values()) == {1}
