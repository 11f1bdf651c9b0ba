"""The join starts once every chunk has its result, and never before."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Manifest
from fanout.stages.barrier import Completion, complete_after, completion_of, groups_of, levels_of, width_of
from storage import CountingStore, MemoryStore

from .stores import ScriptedStore

WIDTHS = [0, 1, 2, 31, 32, 33, 64, 100]


def check_completion(ledger: Ledger, manifest: Manifest, *, by: str = "x") -> Completion:
    """Return the completion of a job without a combine."""
    return completion_of(ledger, manifest, combines=False, by=by)


def manifest_of(chunks: int, setup_id: str = "a") -> Manifest:
    return Manifest(setup_id=setup_id, chunks=chunks, items=chunks, input_bytes=0, shards=[], stats=[])


class Workers:
    """The workers of a job, whose requests happen one after the other in any order.

    Each worker writes its result and lists the results of its group. If the group is full, it writes the group-complete
    marker and lists the markers. Setup writes the manifest and checks the whole job. Any other request may happen
    between two of these.
    """

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.store = ScriptedStore()
        self.ledger = Ledger(self.store, "job", "launch")
        self.starts = 0
        self.early = 0

    def finish(self, chunk: int) -> None:
        """Write a chunk's result and check whether the job is complete."""
        self.write(chunk)
        self.check(chunk)

    def write(self, chunk: int) -> None:
        self.ledger.write_result(
            "a", ChunkResult(chunk=chunk, first_item=chunk, items=1, values=b"", stats=[], failure=None)
        )

    def check(self, chunk: int) -> None:
        if complete_after(self.ledger, "a", chunk, self.ledger.manifest, by=f"{chunk}"):
            self._start()

    def set_up(self) -> None:
        """Write the manifest and check whether the job is complete."""
        self.ledger.write_manifest(manifest_of(self.chunks))
        if not check_completion(self.ledger, manifest_of(self.chunks), by="setup").due:
            self._start()

    def _start(self) -> None:
        self.starts += 1
        if len(self.store.keys(self.ledger.keys.results("a"))) != self.chunks or not self.store.keys(
            self.ledger.keys.manifest
        ):
            self.early += 1


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


@pytest.mark.parametrize("chunks", WIDTHS)
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


def test_setup_marks_a_narrow_group_that_filled_before_the_manifest() -> None:
    """Setup writes the marker of a last, narrow group that filled before the manifest. The join starts in time."""
    workers = Workers(38)
    for chunk in range(32, 38):
        workers.finish(chunk)
    assert workers.ledger.complete_groups("a") == set()
    workers.set_up()
    assert workers.ledger.complete_groups("a") == {1}
    for chunk in range(32):
        assert workers.starts == 0
        workers.finish(chunk)
    assert (workers.starts, workers.early) == (1, 0)


def test_a_job_that_completes_during_the_check_reports_all_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check returns all results if the last one is written between the listings of results and of markers."""
    workers = Workers(38)
    for chunk in [*range(31), *range(32, 38)]:
        workers.finish(chunk)
    complete_groups = workers.ledger.complete_groups

    def list_markers_then_finish(setup_id: str) -> set[int]:
        monkeypatch.undo()
        groups = complete_groups(setup_id)
        workers.finish(31)
        return groups

    workers.set_up()
    monkeypatch.setattr(workers.ledger, "complete_groups", list_markers_then_finish)
    workers.ledger.store.delete([workers.ledger.keys.group_marker("a", 1)])
    current = check_completion(workers.ledger, manifest_of(38))
    assert current.missing == []
    assert list(current.landed) == list(range(38))


def test_setup_starts_the_join_if_a_group_fills_during_its_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setup starts the join if the last worker finishes between setup's listing and its marker of the narrow group."""
    workers = Workers(38)
    for chunk in [*range(31), *range(32, 38)]:
        workers.finish(chunk)
    landed = workers.ledger.landed

    def list_results_then_finish(setup_id: str, group: int | None = None) -> dict[int, int]:
        results = landed(setup_id, group)
        if group is None:
            monkeypatch.undo()
            workers.finish(31)
        return results

    monkeypatch.setattr(workers.ledger, "landed", list_results_then_finish)
    workers.set_up()
    assert workers.starts >= 1
    assert workers.early == 0


@given(data=st.data())
def test_no_order_of_writes_and_checks_misses_the_end(data: st.DataObject) -> None:
    """However the writes and the checks of the workers interleave, the join starts, and not too early."""
    chunks = data.draw(st.sampled_from([1, 2, 32, 33, 35]))
    done_before = data.draw(st.integers(0, chunks - 1))
    workers = Workers(chunks)
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
        self._store.before = lambda verb, key: None

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
    assert check_completion(workers.ledger, manifest_of(1, "b")).missing == [0]


def test_a_chunk_in_the_middle_costs_one_listing() -> None:
    """While results of its group are missing, a worker lists its group once and makes no other request."""
    counting = CountingStore(MemoryStore())
    ledger = Ledger(counting, "job", "launch")
    assert not complete_after(ledger, "a", 3, lambda: manifest_of(10), by="x")
    assert counting.requests == {"list": 1}
