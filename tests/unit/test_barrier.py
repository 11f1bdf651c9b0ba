"""The join starts once every chunk has its result, and never before."""

from __future__ import annotations

import random
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.records.batch import BatchResult
from fanout.records.failure import FailedItem
from fanout.records.keys import ResultKey, launch_of
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Manifest, Note
from fanout.stages import run_process
from fanout.stages.barrier import (
    Completion,
    completion_of,
    find_first_missing,
    groups_of,
    is_near_end,
    levels_of,
    width_of,
)
from storage import CountingStore, MemoryStore
from tests.stores import ScriptedStore, ignore

from .tasks import Numbers
from .world import World

WIDTHS = [0, 1, 2, 31, 32, 33, 64, 100]


def check_completion(ledger: Ledger, manifest: Manifest) -> Completion:
    """Return the completion of a job without a combine."""
    return completion_of(ledger, manifest, combines=False)


def manifest_of(chunks: int, setup_id: str = "a") -> Manifest:
    return Manifest(setup_id=setup_id, chunks=chunks, items=chunks, input_bytes=0, shards=[], stats=[])


class Workers:
    """The workers of a job, whose requests happen one after the other in any order.

    Each worker writes its result, reads the manifest, and looks for the first chunk without a result. Setup writes the
    manifest and checks the whole job. Any other request may happen between two of these.

    Args:
        chunks: Number of chunks.
        processes: Number of processes with a cursor of their own. Chunk i belongs to process i modulo this number.
    """

    def __init__(self, chunks: int, processes: int = 3) -> None:
        self.chunks = chunks
        self.store = ScriptedStore()
        self.ledger = Ledger(self.store, "job", "launch")
        self.done = [0] * processes
        self.starts = 0
        self.early = 0

    def finish(self, chunk: int, count: int = 1) -> None:
        """Write the result of a chunk or a batch and check whether the job is complete."""
        self.write(chunk, count)
        self.check(chunk)

    def write(self, chunk: int, count: int = 1) -> None:
        if count == 1:
            self.ledger.write_result("a", ChunkResult(chunk=chunk, first_item=chunk, items=1, values=b"", stats=[]))
        else:
            self.ledger.write_batch_result(
                "a", count, BatchResult(chunk=chunk, done=count, values=[b""] * count, stats=[])
            )

    def share(self, chunk: int, count: int, done: int) -> None:
        """Share out all but the first `done` chunks of a batch, each by itself."""
        self.ledger.mark_shared("a", chunk, count, done=done, note=Note(by="x"))
        result = BatchResult(chunk=chunk, done=done, values=[b""] * done, stats=[], parts=[1] * (count - done))
        self.ledger.write_batch_result("a", count, result)

    def check(self, chunk: int) -> None:
        manifest = self.ledger.manifest()
        process = chunk % len(self.done)
        if manifest is None or manifest.setup_id != "a":
            return
        self.done[process] = find_first_missing(self.ledger, "a", manifest.chunks, done=self.done[process])
        if self.done[process] >= manifest.chunks:
            self._start()

    def set_up(self) -> None:
        """Write the manifest and check whether the job is complete."""
        self.ledger.write_manifest(manifest_of(self.chunks))
        if not check_completion(self.ledger, manifest_of(self.chunks)).due:
            self._start()

    def _start(self) -> None:
        self.starts += 1
        counts = [ResultKey.read(key).count for key in self.store.keys(self.ledger.keys.results("a"))]
        if sum(counts) != self.chunks or not self.store.keys(self.ledger.keys.manifest):
            self.early += 1


def listed(store: ScriptedStore) -> list[str]:
    """Return the prefix of each listing so far, within the launch."""
    return [launch_of(prefix)[1] for verb, prefix in store.log if verb == "list"]


@pytest.mark.parametrize("chunks", WIDTHS)
def test_groups_hold_all_chunks(chunks: int) -> None:
    """The widths of the groups add up to the chunks, and only the last group is narrower than 32."""
    widths = [width_of(group, chunks) for group in range(groups_of(chunks))]
    assert sum(widths) == chunks
    assert all(width == 32 for width in widths[:-1])
    assert all(widths)


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        (0, [0]),
        (1, [1]),
        (32, [32]),
        (33, [33, 2]),
        (1024, [1024, 32]),
        (1025, [1025, 33, 2]),
        (32**3 + 1, [32769, 1025, 33, 2]),
    ],
)
def test_levels_end_at_32_nodes_or_fewer(chunks: int, expected: list[int]) -> None:
    """Each level has one node per group of the level below. The last level has at most 32 nodes."""
    assert levels_of(chunks) == expected


@pytest.mark.parametrize("chunks", [chunks for chunks in WIDTHS if chunks])
def test_the_last_worker_starts_the_join(chunks: int) -> None:
    """With the manifest written first, the worker of the last chunk starts the join, and no worker before it."""
    for last in {0, 1, 30, 31, 32, 63, 64, chunks - 1} & set(range(chunks)):
        workers = Workers(chunks)
        workers.set_up()
        others = [chunk for chunk in range(chunks) if chunk != last]
        random.Random(last).shuffle(others)
        for chunk in others:
            workers.finish(chunk)
        assert workers.starts == 0
        workers.finish(last)
        assert (workers.starts, workers.early) == (1, 0)


@pytest.mark.parametrize("chunks", WIDTHS)
@pytest.mark.parametrize("seed", range(3))
def test_setup_starts_the_join_if_it_is_last(chunks: int, seed: int) -> None:
    """If all chunks have results before the manifest, setup starts the join. This includes a job without chunks."""
    workers = Workers(chunks)
    order = list(range(chunks))
    random.Random(seed).shuffle(order)
    for chunk in order:
        workers.finish(chunk)
    assert workers.starts == 0
    workers.set_up()
    assert (workers.starts, workers.early) == (1, 0)


@pytest.mark.parametrize("chunks", [width for width in WIDTHS if width])
@pytest.mark.parametrize("seed", range(4))
def test_setup_may_write_the_manifest_at_any_time(chunks: int, seed: int) -> None:
    """The join starts once all results and the manifest are written, in whatever order."""
    picked = random.Random(seed)
    order: list[Any] = list(range(chunks))
    picked.shuffle(order)
    order.insert(picked.randrange(chunks + 1), None)
    workers = Workers(chunks)
    for chunk in order:
        assert workers.starts == 0
        if chunk is None:
            workers.set_up()
        else:
            workers.finish(chunk)
    assert workers.starts >= 1
    assert workers.early == 0


@given(data=st.data())
def test_no_order_of_writes_and_checks_misses_the_end(data: st.DataObject) -> None:
    """However the writes and the checks of the workers interleave, the join starts, and not too early."""
    chunks = data.draw(st.sampled_from([1, 2, 32, 33, 35]))
    done_before = data.draw(st.integers(0, chunks - 1))
    workers = Workers(chunks, processes=data.draw(st.sampled_from([1, 2, 50])))
    for chunk in range(done_before):
        workers.finish(chunk)
    steps: list[tuple[str, int]] = [("write", chunk) for chunk in range(done_before, chunks)] + [("set up", -1)]
    while steps:
        kind, chunk = steps.pop(data.draw(st.integers(0, len(steps) - 1)))
        if kind == "write":
            workers.write(chunk)
            steps.append(("check", chunk))
        elif kind == "check":
            workers.check(chunk)
        else:
            workers.set_up()
    assert workers.starts >= 1
    assert workers.early == 0


class RequestScheduler:
    """Runs threads whose requests to a store happen one at a time, in an order that a test picks."""

    def __init__(self, store: ScriptedStore) -> None:
        self._changed = threading.Condition()
        self._stopped: list[threading.Thread] = []
        self._threads: list[threading.Thread] = []
        self._store = store

    def run(self, actions: list[Callable[[], None]], pick: Callable[[int], int]) -> None:
        """Run each action in its own thread, which stops before each of its requests."""
        self._store.before = lambda verb, key: self._wait()
        self._threads = [threading.Thread(target=self._run_action, args=(action,)) for action in actions]
        for thread in self._threads:
            thread.start()
        with self._changed:
            while self._threads:
                assert self._changed.wait_for(lambda: len(self._stopped) == len(self._threads), timeout=30)
                # In the order of `actions`, so that the same picks give the same run.
                self._stopped.sort(key=self._threads.index)
                if self._stopped:
                    self._stopped.pop(pick(len(self._stopped)))
                    self._changed.notify_all()
        self._store.before = ignore

    def _run_action(self, action: Callable[[], None]) -> None:
        try:
            action()
        finally:
            with self._changed:
                self._threads.remove(threading.current_thread())
                self._changed.notify_all()

    def _wait(self) -> None:
        thread = threading.current_thread()
        if thread not in self._threads:
            return
        with self._changed:
            self._stopped.append(thread)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: thread not in self._stopped, timeout=30)


@given(last=st.sampled_from([(0, 32), (0, 1), (32, 33)]), seed=st.integers(0, 2**32))
def test_no_order_of_requests_misses_the_end(last: tuple[int, int], seed: int) -> None:
    """The join starts, and not too early, for any order of the requests of setup and the two last workers."""
    workers = Workers(34)
    for chunk in set(range(34)) - set(last):
        workers.finish(chunk)
    actions = [lambda chunk=chunk: workers.finish(chunk) for chunk in last]
    RequestScheduler(workers.store).run([*actions, workers.set_up], random.Random(seed).randrange)
    assert workers.starts >= 1
    assert workers.early == 0


def test_results_of_a_superseded_setup_do_not_count() -> None:
    """A worker of a superseded setup never starts the join, and its results do not fill the current setup's groups."""
    workers = Workers(1)
    workers.ledger.write_manifest(manifest_of(1, "b"))
    workers.finish(0)
    assert workers.starts == 0
    assert [*check_completion(workers.ledger, manifest_of(1, "b")).missing] == [0]


def test_a_chunk_in_the_middle_costs_one_listing() -> None:
    """While results of its group are missing, a worker lists its group once and makes no other request."""
    counting = CountingStore(MemoryStore())
    ledger = Ledger(counting, "job", "launch")
    assert find_first_missing(ledger, "a", 10, done=0) == 0
    assert counting.requests == {"list": 1}


# The first chunk without a result


def workers_without(*missing: int, chunks: int) -> Workers:
    """Return workers of a job that lacks the results of some chunks. The log of its store is empty."""
    workers = Workers(chunks)
    for chunk in sorted(set(range(chunks)) - set(missing)):
        workers.write(chunk)
    workers.store.log.clear()
    return workers


@pytest.mark.parametrize("straggler", [0, 1, 3, 31])
def test_a_straggler_in_the_first_group_ends_the_search(straggler: int) -> None:
    """A check lists the first incomplete group only, whatever number of results comes after it."""
    workers = workers_without(straggler, 40, chunks=200)
    assert find_first_missing(workers.ledger, "a", 200, done=0) == straggler
    assert listed(workers.store) == ["results/a/000000/"]


@pytest.mark.parametrize("straggler", [32, 33, 63, 64, 100, 198, 199])
def test_a_straggler_in_a_later_group_costs_one_more_listing(straggler: int) -> None:
    """If the group of the cursor is full, one listing over all later groups ends at the first missing chunk."""
    workers = workers_without(straggler, chunks=200)
    assert find_first_missing(workers.ledger, "a", 200, done=0) == straggler
    assert listed(workers.store) == ["results/a/000000/", "results/a/"]


@pytest.mark.parametrize("done", [64, 70, 95])
def test_a_check_begins_in_the_group_of_the_cursor(done: int) -> None:
    """A check lists no group before that of the first chunk which the process has not seen done."""
    workers = workers_without(95, chunks=200)
    assert find_first_missing(workers.ledger, "a", 200, done=done) == 95
    assert listed(workers.store) == ["results/a/000002/"]


@pytest.mark.parametrize("chunks", [width for width in WIDTHS if width])
def test_a_complete_job_has_no_missing_chunk(chunks: int) -> None:
    """The answer is the number of chunks from any cursor. A job of one group costs one listing, others two."""
    workers = workers_without(chunks=chunks)
    for done in {0, 1, chunks // 2, chunks - 1}:
        workers.store.log.clear()
        assert find_first_missing(workers.ledger, "a", chunks, done=done) == chunks
        assert len(listed(workers.store)) == (1 if done // 32 == (chunks - 1) // 32 else 2)


def test_failed_chunks_are_done() -> None:
    """A chunk with failed items has a result, in its generation only."""
    workers = workers_without(3, 5, chunks=9)
    bad = ChunkResult(
        chunk=3,
        first_item=3,
        items=1,
        values=b"",
        stats=[],
        failures=[FailedItem(item=3, chunk=3, error="E", reason="why", attempts=1)],
    )
    workers.ledger.write_result("a", bad)
    assert find_first_missing(workers.ledger, "a", 9, done=0) == 5
    assert find_first_missing(Ledger(workers.store, "job", "launch", generation=1), "a", 9, done=0) == 3


def test_batches_fill_a_group() -> None:
    """A batch covers all its chunks. The search goes on after it, also in the middle of a group."""
    workers = Workers(70)
    for chunk, count in ((0, 20), (20, 1), (21, 11), (32, 2), (35, 29), (64, 6)):
        workers.write(chunk, count)
    assert find_first_missing(workers.ledger, "a", 70, done=0) == 34
    workers.write(34)
    for done in (0, 20, 21, 32, 34, 35, 64):
        assert find_first_missing(workers.ledger, "a", 70, done=done) == 70


def test_a_shared_batch_covers_its_first_chunks_only() -> None:
    """Of a batch that was shared out, the chunks in its object are done, and each other one once it has its own."""
    workers = Workers(40)
    workers.share(0, 8, done=3)
    for chunk in (4, 5):
        workers.write(chunk)
    assert find_first_missing(workers.ledger, "a", 40, done=0) == 3
    workers.write(3)
    assert find_first_missing(workers.ledger, "a", 40, done=3) == 6
    workers.write(6, 2)
    workers.write(8, 24)
    assert find_first_missing(workers.ledger, "a", 40, done=6) == 32
    workers.share(32, 8, done=0)
    assert find_first_missing(workers.ledger, "a", 40, done=32) == 32
    workers.share(32, 4, done=1)
    assert find_first_missing(workers.ledger, "a", 40, done=32) == 33
    workers.write(33, 3)
    workers.write(36, 4)
    assert find_first_missing(workers.ledger, "a", 40, done=33) == 40
    assert not check_completion(workers.ledger, manifest_of(40)).due


def test_a_marker_without_its_batch_shows_nothing() -> None:
    """A worker that dies between the marker and the object leaves the batch without results."""
    workers = Workers(8)
    workers.ledger.mark_shared("a", 0, 8, done=3, note=Note(by="x"))
    assert find_first_missing(workers.ledger, "a", 8, done=0) == 0
    assert [*check_completion(workers.ledger, manifest_of(8)).missing] == list(range(8))
    workers.write(0, 8)
    # Another run of the batch was done first. The marker remains, and the object says that no chunk was shared out.
    assert find_first_missing(workers.ledger, "a", 8, done=0) == 8
    assert not check_completion(workers.ledger, manifest_of(8)).due


@given(data=st.data())
def test_the_first_missing_chunk_is_found_from_every_cursor(data: st.DataObject) -> None:
    """However the chunks are divided into batches, shares and single chunks, the answer is the first gap."""
    workers, chunk, done = Workers(100), 0, set[int]()
    while chunk < 100:
        kind = data.draw(st.sampled_from(["chunk", "batch", "shared", "gap"]))
        count = min(data.draw(st.integers(2, 32)), 32 - chunk % 32, 100 - chunk) if kind in ("batch", "shared") else 1
        if kind == "shared" and count > 1:
            kept = data.draw(st.integers(0, count - 1))
            workers.share(chunk, count, done=kept)
            rest = [part for part in range(chunk + kept, chunk + count) if data.draw(st.booleans())]
            for part in rest:
                workers.write(part)
            done |= {*range(chunk, chunk + kept), *rest}
        elif kind != "gap":
            workers.write(chunk, count)
            done |= {*range(chunk, chunk + count)}
        chunk += count
    first = next((chunk for chunk in range(100) if chunk not in done), 100)
    # A cursor is the answer of an earlier check, so no object covers chunks on both sides of it.
    earlier = [entry.index for entry in workers.ledger.result_entries("a") if entry.index <= first]
    for cursor in {0, first if first < 100 else 0, *earlier}:
        assert find_first_missing(workers.ledger, "a", 100, done=cursor) == first
    assert [*check_completion(workers.ledger, manifest_of(100)).missing] == sorted(set(range(100)) - done)


def test_a_missing_chunk_takes_few_bytes() -> None:
    """The completion of a job without results has less than a word for each chunk."""
    ledger, chunks = Workers(0).ledger, 50_000
    tracemalloc.start()
    try:
        completion = check_completion(ledger, manifest_of(chunks))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(completion.due), completion.due[0], completion.due[-1]) == (chunks, 0, chunks - 1)
    assert held_bytes < 8 * chunks


def test_a_process_remembers_how_far_its_job_is(world: World) -> None:
    """A worker's next check begins where its last one ended: with the group of the first chunk without a result."""
    world.prepare(Numbers, {"numbers": list(range(100))})
    runtime = world.process()
    for ref in world.refs[:70]:
        run_process(world.process(), ref)
    run_process(runtime, world.refs[70])
    job = runtime.job(world.refs[0].job_id, world.refs[0].launch_id)
    assert job.done == 71
    world.store.log.clear()
    run_process(runtime, world.refs[72])
    assert job.done == 71
    (listing,) = listed(world.store)
    assert listing.endswith("/000002/")


def test_the_last_chunks_are_near_the_end() -> None:
    """A worker checks at once after any of the last four chunks of the job."""
    assert [chunk for chunk in range(40) if is_near_end(chunk, 40)] == [36, 37, 38, 39]
    assert all(is_near_end(chunk, 3) for chunk in range(3))
