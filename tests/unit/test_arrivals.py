"""A caller gets results in the order in which they arrive, each once and with the index of its item."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fanout import FailedItem, ForkJoinTask, JobCancelled, JobFailed, JobNotFound, JobTimeout
from fanout.job import Job
from fanout.records import result_ledger
from fanout.records.ledger import Ledger
from fanout.waiting.results import wait_for_arrivals
from fanout.waiting.scan import ResultScan
from fanout.waiting.steps import Pause
from fanout.waiting.view import JobView
from fanout.waiting.wait import Wait
from tests.stores import kind_of

from .sharing import Clock
from .tasks import Numbers
from .world import World


def fragile(fails: set[int], *, sharing: tuple[World, set[int]] | None = None) -> type[ForkJoinTask]:
    """Return a task with two items per chunk. It raises for some, and its batches are shared out at others."""
    world, shares = sharing or (None, set())

    class Fragile(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 2

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            # A chunk that runs by itself has no batch to share out.
            if world is not None and number in shares and world.timers.is_waiting:
                shares.discard(number)
                world.timers.share_out()
            if number in fails:
                raise ValueError(f"no {number}")
            return number * 10

        def join(results):
            return list(results)

    return Fragile


class Sums(ForkJoinTask):
    """Adds its numbers, two items per chunk."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        if number < 0:
            raise ValueError("negative")
        return number

    def combine(parts):
        return sum(parts)

    def join(parts):
        return list(parts)


def follow(world: World, ledger: Ledger, work: Callable[[], object]) -> list[tuple[int, Any]]:
    """Return what a caller gets, while `work` is done in each of its pauses."""
    view = JobView(ledger.job_id, world.runtime, ledger.launch_id)
    got: list[tuple[int, Any]] = []
    for step in wait_for_arrivals(view, Wait(view)):
        if isinstance(step, Pause):
            work()
        else:
            got += [pair for read in step for pair in read()]
    return got


@settings(max_examples=12)
@example(items=88, batch_chunks=32, shares={87}, fails={86}, page=4, order=random.Random(1))
@given(
    items=st.integers(0, 150),
    batch_chunks=st.sampled_from([1, 5, 32]),
    shares=st.sets(st.integers(0, 149), max_size=4),
    fails=st.sets(st.integers(0, 149), max_size=3),
    page=st.sampled_from([4, 7, 1_000]),
    order=st.randoms(use_true_random=False),
)
def test_each_result_comes_once_with_its_index(
    items: int, batch_chunks: int, shares: set[int], fails: set[int], page: int, order: random.Random
) -> None:
    """In any order of work, with batches whole or shared out and on pages of any size, no item is missed or doubled."""
    world = World(batch_chunks=batch_chunks)
    with pytest.MonkeyPatch.context() as patch:
        Clock().replace_in(patch)
        patch.setattr(result_ledger, "PAGE", page)
        task = fragile(fails, sharing=(world, set(shares)))
        ledger = world.launch(task, {"numbers": list(range(items))}, tolerate=1.0, max_attempts=2)

        def work() -> None:
            if world.dispatcher.waiting:
                world.dispatcher.deliver(world.runtime, order.randrange(len(world.dispatcher.waiting)))

        got = follow(world, ledger, work)
        world.dispatcher.drain(world.runtime)
        manifest = ledger.manifest()
        assert manifest is not None
        scan = ResultScan(manifest, read_shares=False)
        for _ in range(2 * manifest.chunks):
            scan.advance(ledger)
    assert sorted(index for index, _ in got) == list(range(items))
    assert {index for index, result in got if isinstance(result, FailedItem)} == {at for at in fails if at < items}
    assert all(result == index * 10 for index, result in got if not isinstance(result, FailedItem))
    assert all(result.item == index for index, result in got if isinstance(result, FailedItem))
    assert (scan.done, scan.items_failed) == (manifest.chunks, len([at for at in fails if at < items]))


@pytest.mark.parametrize("read_shares", [True, False])
def test_pages_show_what_one_listing_shows(monkeypatch: pytest.MonkeyPatch, read_shares: bool) -> None:
    """Wherever a page ends, also between a batch and its share marker, each object is seen once and as it is."""
    world = World(batch_chunks=32)
    Clock().replace_in(monkeypatch)
    task = fragile(set(), sharing=(world, {5, 70, 151}))
    ledger = world.launch(task, {"numbers": list(range(200))})
    world.dispatcher.drain(world.runtime)
    manifest = ledger.manifest()
    assert manifest is not None
    expected = list(ledger.result_entries(manifest.setup_id))
    assert len(expected) > 12
    for page in range(4, 14):
        monkeypatch.setattr(result_ledger, "PAGE", page)
        scan = ResultScan(manifest, read_shares=read_shares)
        seen = []
        while not scan.at_end:
            seen += scan.advance(Ledger(world.store, ledger.job_id, ledger.launch_id))
        assert seen == expected


def test_a_later_result_comes_first(world: World) -> None:
    """A result that arrives before those of earlier items is not held back."""
    ledger = world.prepare(Numbers, {"numbers": list("abcd")})
    order = iter([3, 0, 1, 0])
    got = follow(world, ledger, lambda: world.dispatcher.deliver(world.runtime, next(order)))
    assert got == [(3, "d"), (0, "a"), (2, "c"), (1, "b")]


def test_a_poll_is_one_listing(world: World) -> None:
    """A caller of many chunks makes one listing per poll and reads each object once."""
    ledger = world.prepare(Numbers, {"numbers": list(range(200))})
    polls = 0

    def work() -> None:
        nonlocal polls
        polls += 1
        reading.append(len(world.store.log))
        for _ in range(50 if polls > 1 else 0):
            world.dispatcher.deliver(world.process())
        del world.store.log[reading.pop() :]

    reading: list[int] = []
    world.store.log.clear()
    assert [index for index, _ in follow(world, ledger, work)] == list(range(200))
    verbs = [(verb, kind_of(key)) for verb, key in world.store.log]
    assert verbs.count(("list", "results")) == polls + 1
    assert verbs.count(("get", "results")) == 200
    assert verbs.count(("get", "input")) == 1, "the one index shard"
    assert len(verbs) <= 200 + 2 * polls + 5


@pytest.mark.parametrize("batch_chunks", [1, 32])
def test_a_combined_value_has_the_index_of_its_first_item(batch_chunks: int) -> None:
    """Values of chunks or of whole batches have the index of the first item below them, failed items their own."""
    world = World(batch_chunks=batch_chunks)
    numbers = [*range(10), -1, *range(11, 80)]
    ledger = world.launch(Sums, {"numbers": numbers}, tolerate=1, max_attempts=1 if batch_chunks == 1 else 2)
    got = follow(world, ledger, lambda: world.dispatcher.deliver(world.process()) if world.dispatcher.waiting else 0)
    values = {index: value for index, value in got if not isinstance(value, FailedItem)}
    assert sum(values.values()) == sum(numbers) + 1
    starts = sorted(values)
    bounds = [*starts[1:], len(numbers)]
    assert [values[at] for at in starts] == [
        sum(number for number in numbers[at:end] if number >= 0) for at, end in zip(starts, bounds, strict=True)
    ]
    assert [index for index, value in got if isinstance(value, FailedItem)] == [10]


def test_a_failure_comes_after_the_results(world: World) -> None:
    """A caller gets the results that exist and then the error that `get` raises, although the outcome is written."""
    ledger = world.launch(fragile({1}), {"numbers": list(range(6))}, max_attempts=1)
    world.dispatcher.deliver(world.runtime)
    for at in (1, 1, 0):
        world.dispatcher.deliver(world.runtime, at)
    got: list[tuple[int, Any]] = []
    with pytest.raises(JobFailed) as arrived:
        got.extend(world.job(ledger).as_completed(timeout=30))
    assert sorted(got) == [(2, 20), (3, 30), (4, 40), (5, 50)]
    with pytest.raises(JobFailed) as gotten:
        world.job(ledger).get()
    assert str(arrived.value) == str(gotten.value)


def test_a_cancelled_job_ends_the_iteration(world: World) -> None:
    """A caller that waits for the rest of a job gets JobCancelled when another process cancels it."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    world.dispatcher.deliver(world.runtime)
    arriving = iter(world.job(ledger).as_completed(timeout=30))
    assert next(arriving) == (0, 1)
    assert Job(ledger.job_id, world.process()).cancel()
    with pytest.raises(JobCancelled):
        next(arriving)


def test_a_retry_is_followed(world: World) -> None:
    """After a retry, results of both generations come, and no failed item of the first, also in a new process."""
    fails = {1, 4}
    ledger = world.launch(fragile(fails), {"numbers": list(range(6))}, max_attempts=1, tolerate=2)
    world.dispatcher.drain(world.runtime)
    job = world.job(ledger)
    assert [index for index, result in job.as_completed() if isinstance(result, FailedItem)] == [1, 4]
    fails.clear()
    assert job.retry()

    def work() -> None:
        world.dispatcher.deliver(world.runtime)

    assert sorted(follow(world, ledger, work)) == [(number, number * 10) for number in range(6)]
    assert sorted(job.as_completed()) == [(number, number * 10) for number in range(6)]


def test_a_timeout_ends_the_iteration(world: World) -> None:
    """JobTimeout comes when not all results are there in time, and a new loop begins anew."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    world.dispatcher.deliver(world.runtime)
    arrivals = world.job(ledger).as_completed(timeout=0)
    got: list[tuple[int, Any]] = []
    with pytest.raises(JobTimeout, match="has not ended within 0 s"):
        got.extend(arrivals)
    assert got == [(0, 1)]
    world.dispatcher.drain(world.runtime)
    assert list(arrivals) == [(0, 1), (1, 2)]


def test_an_unknown_job_is_not_found(world: World) -> None:
    """The loop raises JobNotFound, not the call."""
    arrivals = Job("unknown-job", world.runtime).as_completed()
    with pytest.raises(JobNotFound, match=world.store.url):
        next(iter(arrivals))


def test_iteration_in_order_reads_ahead(world: World) -> None:
    """A caller that takes the first of many results has up to 8 objects fetched, and no more."""
    ledger = world.launch(Numbers, {"numbers": list(range(40))})
    world.dispatcher.drain(world.runtime)
    results = iter(world.job(ledger))
    world.store.log.clear()
    assert next(results) == 0
    read = [key for verb, key in world.store.log if (verb, kind_of(key)) == ("get", "results")]
    assert 1 < len(read) <= 8
    assert list(results) == list(range(1, 40))
