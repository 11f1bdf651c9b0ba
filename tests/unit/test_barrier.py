"""The join starts when every chunk has its result: never before, and always once it has."""

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


def looked(ledger: Ledger, manifest: Manifest, *, by: str = "x") -> Completion:
    """How a job without a combine stands."""
    return completion_of(ledger, manifest, combines=False, by=by)


def manifest_of(chunks: int, setup_id: str = "a") -> Manifest:
    return Manifest(setup_id=setup_id, chunks=chunks, items=chunks, input_bytes=0, shards=[], stats=[])


class Workers:
    """The workers of a job, whose requests happen one after the other in any order.

    Each worker writes its result, lists its group, marks it if it is full, and lists the marks; setup writes the
    manifest, and looks itself. Between any two requests any other may happen.
    """

    def __init__(self, chunks: int) -> None:
        self.chunks = chunks
        self.store = ScriptedStore()
        self.ledger = Ledger(self.store, "job", "launch")
        self.starts = 0
        self.early = 0

    def finish(self, chunk: int) -> None:
        """Write a chunk's result and look for the end."""
        self.write(chunk)
        self.look(chunk)

    def write(self, chunk: int) -> None:
        self.ledger.write_result(
            "a", ChunkResult(chunk=chunk, first_item=chunk, items=1, values=b"", stats=[], failure=None)
        )

    def look(self, chunk: int) -> None:
        if complete_after(self.ledger, "a", chunk, self.ledger.manifest, by=f"{chunk}"):
            self._start()

    def set_up(self) -> None:
        """Write the manifest and look for the end."""
        self.ledger.write_manifest(manifest_of(self.chunks))
        if not looked(self.ledger, manifest_of(self.chunks), by="setup").due:
            self._start()

    def _start(self) -> None:
        self.starts += 1
        if len(self.store.keys(self.ledger.keys.results("a"))) != self.chunks or not self.store.keys(
            self.ledger.keys.manifest
        ):
            self.early += 1


@pytest.mark.parametrize("chunks", WIDTHS)
def test_groups_hold_all_chunks(chunks: int) -> None:
    """The widths of the groups add up, and only the last group is narrower than 32."""
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
def test_levels_go_up_to_a_fan_in_of_32(chunks: int, expected: list[int]) -> None:
    """Each level has a node for each group of the one below, up to the first that join can be given whole."""
    assert levels_of(chunks) == expected


@pytest.mark.parametrize("chunks", WIDTHS)
def test_whoever_is_last_starts_the_join(chunks: int) -> None:
    """With the manifest there first, the last worker starts the join and nobody before it."""
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
    """With every chunk done before the manifest, setup starts the join; a job of no chunks is one of these."""
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
def test_the_manifest_may_come_at_any_time(chunks: int, seed: int) -> None:
    """Wherever the manifest falls among the results, whatever their order, the join starts once all are in."""
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


def test_a_narrow_group_that_was_full_before_the_manifest_is_marked_later() -> None:
    """The last, narrow group finishes when nobody can know that it is full; the join starts all the same."""
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


def test_what_landed_while_it_looked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that becomes complete between the listing of results and that of marks is told with all of its results."""
    workers = Workers(38)
    for chunk in [*range(31), *range(32, 38)]:
        workers.finish(chunk)
    complete_groups = workers.ledger.complete_groups

    def marking(setup_id: str) -> set[int]:
        monkeypatch.undo()
        found = complete_groups(setup_id)
        workers.finish(31)
        return found

    workers.set_up()
    monkeypatch.setattr(workers.ledger, "complete_groups", marking)
    workers.ledger.store.delete([workers.ledger.keys.group_marker("a", 1)])
    completion = looked(workers.ledger, manifest_of(38))
    assert completion.missing == []
    assert list(completion.landed) == list(range(38))


def test_a_group_that_fills_while_setup_marks_is_not_overlooked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setup lists, the last worker finishes and sees no mark of the narrow group, setup marks it: setup must start."""
    workers = Workers(38)
    for chunk in [*range(31), *range(32, 38)]:
        workers.finish(chunk)
    landed = workers.ledger.landed

    def listing(setup_id: str, group: int | None = None) -> dict[int, int]:
        found = landed(setup_id, group)
        if group is None:
            monkeypatch.undo()
            workers.finish(31)
        return found

    monkeypatch.setattr(workers.ledger, "landed", listing)
    workers.set_up()
    assert workers.starts >= 1
    assert workers.early == 0


@given(data=st.data())
def test_no_interleaving_misses_the_end(data: st.DataObject) -> None:
    """Writing and looking are two acts of each worker; however they interleave, the join starts, and not too early."""
    chunks = data.draw(st.sampled_from([1, 2, 32, 33, 35]))
    done_before = data.draw(st.integers(0, chunks - 1))
    workers = Workers(chunks)
    for chunk in range(done_before):
        workers.finish(chunk)
    acts: list[tuple[str, int]] = [("write", chunk) for chunk in range(done_before, chunks)] + [("set up", -1)]
    while acts:
        kind, chunk = acts.pop(data.draw(st.integers(0, len(acts) - 1)))
        if kind == "write":
            workers.write(chunk)
            acts.append(("look", chunk))
        elif kind == "look":
            workers.look(chunk)
        else:
            workers.set_up()
    assert workers.starts >= 1
    assert workers.early == 0


class Turns:
    """Threads whose requests to a store happen one at a time, in an order that a test picks."""

    def __init__(self, store: ScriptedStore) -> None:
        self._changed = threading.Condition()
        self._parked: list[threading.Thread] = []
        self._threads: list[threading.Thread] = []
        self._store = store

    def run(self, acts: list[Callable[[], None]], pick: Callable[[int], int]) -> None:
        """Run each act in a thread of its own, stopped in front of each of its requests."""
        self._store.before = lambda verb, key: self._wait()
        self._threads = [threading.Thread(target=self._act, args=(act,)) for act in acts]
        for thread in self._threads:
            thread.start()
        with self._changed:
            while self._threads:
                assert self._changed.wait_for(lambda: len(self._parked) == len(self._threads), timeout=30)
                # By their order in `acts`, so that the same picks give the same run.
                self._parked.sort(key=self._threads.index)
                if self._parked:
                    self._parked.pop(pick(len(self._parked)))
                    self._changed.notify_all()
        self._store.before = lambda verb, key: None

    def _act(self, act: Callable[[], None]) -> None:
        try:
            act()
        finally:
            with self._changed:
                self._threads.remove(threading.current_thread())
                self._changed.notify_all()

    def _wait(self) -> None:
        me = threading.current_thread()
        if me not in self._threads:
            return
        with self._changed:
            self._parked.append(me)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: me not in self._parked, timeout=30)


@given(last=st.sampled_from([(0, 32), (0, 1), (32, 33)]), seed=st.integers(0, 2**32))
def test_no_interleaving_of_requests_misses_the_end(last: tuple[int, int], seed: int) -> None:
    """With every single request of the two last workers and of setup in any order, the join starts, not too early."""
    workers = Workers(34)
    for chunk in set(range(34)) - set(last):
        workers.finish(chunk)
    acts = [lambda chunk=chunk: workers.finish(chunk) for chunk in last]
    Turns(workers.store).run([*acts, workers.set_up], random.Random(seed).randrange)
    assert workers.starts >= 1
    assert workers.early == 0


def test_results_of_another_attempt_do_not_count() -> None:
    """A worker of the attempt that lost never starts the join, nor do its results fill the winner's groups."""
    workers = Workers(1)
    workers.ledger.write_manifest(manifest_of(1, "b"))
    workers.finish(0)
    assert workers.starts == 0
    assert looked(workers.ledger, manifest_of(1, "b")).missing == [0]


def test_a_chunk_in_the_middle_costs_one_listing() -> None:
    """While others of its group are missing, a worker lists its own group once and asks for nothing else."""
    counting = CountingStore(MemoryStore())
    ledger = Ledger(counting, "job", "launch")
    assert not complete_after(ledger, "a", 3, lambda: manifest_of(10), by="x")
    assert counting.requests == {"list": 1}
