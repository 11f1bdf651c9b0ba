"""A job that tolerates failures lists the failed items, keeps all other results, and fails if too many failed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fanout import FailedItem, ForkJoinTask, JobFailed, JobState, Options, Progress, Results
from fanout.engines.stub import WorkerDied
from fanout.records.batch import ResultEntry
from fanout.records.failure import Failure
from fanout.records.ledger import Ledger
from fanout.records.models import Outcome, OutcomeStatus
from fanout.report import describe_costs
from fanout.stages import run_process
from fanout.sweep import Move, sweep_job
from storage import StorageUnavailable
from tests.stores import fail_each_request, ignore, kind_of

from .world import World


def failing_task(
    fails: Callable[[int], bool], *, error: type[BaseException] = ValueError, join: Callable[[Results], Any] = list
) -> type[ForkJoinTask]:
    """Return a task with ten items per chunk, whose process raises for some of its numbers."""

    class Failing(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 10

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            runs.append(number)
            if fails(number):
                raise error(f"no {number}")
            return number

        def join(results):
            return join(results)

    runs: list[int] = []
    Failing.runs = runs  # type: ignore[attr-defined]
    return Failing


def launch_and_run(world: World, task: type[ForkJoinTask], items: int, **options: Any) -> Ledger:
    ledger = world.launch(task, {"numbers": list(range(items))}, **options)
    world.dispatcher.drain(world.runtime)
    return ledger


def outcome_of(ledger: Ledger) -> Outcome:
    outcome = ledger.outcome()
    assert outcome is not None
    return outcome


def describe_failures(results: Results) -> Any:
    """Return all that a join may ask of its results about failures."""
    return {
        "good": list(results.good()),
        "failed_at": [location for location, result in enumerate(results) if isinstance(result, FailedItem)],
        "failures": [
            (failed.item, failed.chunk, failed.error, failed.reason, failed.attempts) for failed in results.failures()
        ],
        "failed": results.failed,
        "length": len(results),
        "at": isinstance(results[13], FailedItem),
    }


def test_failed_items_have_their_place_in_the_results(world: World) -> None:
    """Each failed item has a FailedItem in its place. Every other result is kept, in order."""
    task = failing_task(lambda number: number in (3, 13, 14), join=describe_failures)
    ledger = launch_and_run(world, task, 30, tolerate=3)
    value: Any = ledger.value(outcome_of(ledger))
    assert value["good"] == [number for number in range(30) if number not in (3, 13, 14)]
    assert value["failed_at"] == [3, 13, 14]
    assert value["failures"] == [(n, n // 10, "ValueError", f"no {n}", 3) for n in (3, 13, 14)]
    assert (value["failed"], value["length"], value["at"]) == (3, 30, True)
    assert len(world.dispatcher.deliveries) == 1


def test_the_outcome_lists_the_failed_items(world: World) -> None:
    """Job, progress, outcome and report give the number of failed items. The job lists them."""
    ledger = launch_and_run(world, failing_task(lambda number: number % 10 == 4), 30, tolerate=0.1)
    job = world.job(ledger)
    assert job.state is JobState.SUCCEEDED
    assert job.progress() == Progress(JobState.SUCCEEDED, 3, 3, 30, 3)
    assert [(failed_item.item, failed_item.chunk) for failed_item in job.failures] == [(4, 0), (14, 1), (24, 2)]
    assert outcome_of(ledger).failed == 3
    assert "3 of which failed" in dict(describe_costs(job.report()))["chunks"]


def test_the_list_of_failed_items_is_bounded(world: World) -> None:
    """An outcome counts all failures and lists the first thousand."""
    ledger = launch_and_run(world, failing_task(lambda number: True, join=len), 1500, tolerate=1.0, max_attempts=1)
    outcome = outcome_of(ledger)
    assert (ledger.value(outcome), outcome.failed) == (1500, 1500)
    assert [failed_item.item for failed_item in outcome.failed_items] == list(range(1000))


def test_a_failed_item_is_false_and_is_encoded_as_its_fields(world: World) -> None:
    """`filter(None, …)` drops a FailedItem, and a join that returns one returns a dict."""
    task = failing_task(lambda number: number == 2, join=lambda results: results[2:4])
    ledger = launch_and_run(world, task, 10, tolerate=1)
    assert ledger.value(outcome_of(ledger)) == [
        {"item": 2, "chunk": 0, "error": "ValueError", "reason": "no 2", "attempts": 3},
        3,
    ]
    assert not FailedItem(2, 0, "ValueError", "no 2")
    assert str(FailedItem(2, 0, "ValueError", "no 2")) == "item 2: ValueError: no 2"


def test_items_fail_in_the_last_attempt_only(world: World) -> None:
    """A chunk with an item that raises runs up to its last attempt before the item counts as failed."""
    calls: list[int] = []

    def fails(number: int) -> bool:
        calls.append(number)
        return number == 1 and calls.count(1) < 3

    ledger = launch_and_run(world, failing_task(fails), 3, tolerate=1)
    outcome = outcome_of(ledger)
    assert (ledger.value(outcome), outcome.failed) == ([0, 1, 2], 0)
    assert calls == [0, 1, 0, 1, 0, 1, 2]


def test_a_chunk_that_kills_its_worker_fails_as_a_whole(world: World) -> None:
    """All items of the chunk fail as lost, and all other items keep their results."""
    task = failing_task(lambda number: number == 12, error=WorkerDied, join=describe_failures)
    ledger = launch_and_run(world, task, 30, tolerate=10)
    value: Any = ledger.value(outcome_of(ledger))
    assert value["good"] == [*range(10), *range(20, 30)]
    assert [entry[:3] for entry in value["failures"]] == [(n, 1, "WorkerLost") for n in range(10, 20)]


def test_a_result_that_cannot_be_encoded_is_a_failed_item(world: World) -> None:
    """An item whose result can't be encoded fails, with the path of the value as the reason."""

    class Odd(ForkJoinTask):
        input_schema: Any = {}
        tolerate = 1
        chunk_items = 3

        def setup():
            return [{"number": number} for number in range(3)]

        def process(number):
            return object() if number == 1 else number

        def join(results):
            return list(results.good())

    ledger = world.launch(Odd, {})
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == [0, 2]
    assert outcome_of(ledger).failed_items[0].reason.startswith("results[1] is a builtins.object")


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"tolerate": 4}, "at most 4 may (tolerate=4)"),
        ({"tolerate": 0.2}, "at most 4 may (tolerate=0.2)"),
        ({"min_success": 16}, "at most 4 may (min_success=16)"),
        ({"min_success": 0.8}, "at most 4 may (min_success=0.8)"),
    ],
)
@pytest.mark.parametrize("chunk_items", [1, 3, 20])
def test_too_many_failures_fail_the_job(world: World, options: dict[str, Any], limit: str, chunk_items: int) -> None:
    """The error has the number of failed items, the limit, the first failed items, and the traceback of one."""
    task = failing_task(lambda number: number >= 15)
    job = world.job(launch_and_run(world, task, 20, chunk_items=chunk_items, max_attempts=1, **options))
    with pytest.raises(JobFailed) as caught:
        job.get()
    assert "of 20 items failed, " + limit in caught.value.reason
    assert "item 15: ValueError: no 15; item 16: ValueError: no 16" in caught.value.reason
    assert "in process" in caught.value.traceback_text
    assert [failed_item.item for failed_item in job.failures] == [15, 16, 17, 18, 19]
    assert job.state is JobState.FAILED


@pytest.mark.parametrize("failed", [4, 5])
@pytest.mark.parametrize("options", [{"tolerate": 4}, {"tolerate": 0.2}, {"min_success": 16}, {"min_success": 0.8}])
def test_the_limit_is_exact(world: World, options: dict[str, Any], failed: int) -> None:
    """As many failures as allowed do not fail the job, and one more does."""
    task = failing_task(lambda number: number < failed, join=lambda results: sum(results.good()))
    ledger = launch_and_run(world, task, 20, chunk_items=2, max_attempts=1, **options)
    assert outcome_of(ledger).status == (OutcomeStatus.SUCCEEDED if failed == 4 else OutcomeStatus.FAILED)


def test_a_count_is_checked_at_each_chunk(world: World) -> None:
    """The job fails with the first chunk that exceeds the count, and the other chunks do not run."""
    task = failing_task(lambda number: True)
    launch_and_run(world, task, 1000, chunk_items=1, tolerate=3, max_attempts=1)
    assert len(task.runs) == 4  # type: ignore[attr-defined]


def test_a_fraction_is_checked_with_the_manifest(world: World) -> None:
    """If chunks fail before setup knows the number of items, the job fails when setup has counted them."""
    runs: list[int] = []

    class Eager(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1
        max_attempts = 1
        tolerate = 0.5

        def setup():
            for number in range(4):
                yield {"number": number}
                for ref in world.refs[len(runs) :]:
                    run_process(world.runtime, ref)

        def process(number):
            runs.append(number)
            raise ValueError("no")

        def join(results):
            return list(results)

    world = World(pack_bytes=1)
    ledger = world.launch(Eager, {})
    world.dispatcher.deliver(world.runtime)
    for ref in world.refs[len(runs) : 3]:
        run_process(world.runtime, ref)
    outcome = outcome_of(ledger)
    assert outcome.status == OutcomeStatus.FAILED
    assert "of 4 items failed, at most 2 may" in outcome.error("j").reason


def test_fewer_items_than_must_succeed_fail_the_job(world: World) -> None:
    """A job with fewer items than must succeed fails when its setup ends, without a failed item."""
    ledger = world.prepare(failing_task(lambda number: False), {"numbers": [1, 2]}, min_success=3)
    with pytest.raises(JobFailed, match=r"there are 2 items, fewer than must succeed \(min_success=3\)"):
        world.job(ledger).get()


@pytest.mark.parametrize("options", [{"tolerate": 0.5}, {"tolerate": 2}, {"min_success": 0.5}, {"min_success": 0}])
def test_a_job_without_items_succeeds(world: World, options: dict[str, Any]) -> None:
    """A job without items has no failed items."""
    ledger = launch_and_run(world, failing_task(lambda number: True), 0, **options)
    assert outcome_of(ledger).status == OutcomeStatus.SUCCEEDED


def test_tolerance_costs_a_good_chunk_nothing(world: World) -> None:
    """With tolerance, a good chunk costs one write and one listing, as without. Its neighbour's read served it."""
    world.prepare(failing_task(lambda number: False), {"numbers": list(range(1000))}, tolerate=0.1)
    runtime = world.process()
    run_process(runtime, world.refs[0])
    world.store.log.clear()
    run_process(runtime, world.refs[1])
    assert [(verb, kind_of(key)) for verb, key in world.store.log] == [("put", "results"), ("list", "results")]


def test_iteration_gives_failed_items(world: World) -> None:
    """A caller who iterates gets each result, and each FailedItem in its place."""
    job = world.job(launch_and_run(world, failing_task(lambda number: number == 11), 20, tolerate=1))
    results = list(job)
    assert results[:11] + results[12:] == [*range(11), *range(12, 20)]
    assert results[11] == FailedItem(11, 1, "ValueError", "no 11", 3)


def test_failed_items_of_a_worker_that_dies_are_kept(world: World) -> None:
    """If a worker dies after it wrote a result with failed items, the next worker fails the job from that result."""

    def die(verb: str, key: str) -> None:
        if key.split("/")[-1].count("-"):
            world.store.after = ignore
            raise WorkerDied

    world.store.after = die
    ledger = launch_and_run(world, failing_task(lambda number: number == 5), 20, tolerate=0)
    outcome = outcome_of(ledger)
    assert outcome.status == OutcomeStatus.FAILED
    assert "1 of 20 items failed" in outcome.error("j").reason


def test_a_good_result_replaces_a_failed_one(world: World) -> None:
    """If one run of a chunk fails and a later one succeeds before the join, the good result counts."""
    task = failing_task(lambda number: number == 5 and len(task.runs) < 10)  # type: ignore[attr-defined]
    ledger = world.prepare(task, {"numbers": list(range(20))}, tolerate=1, max_attempts=1)
    first, second = world.refs
    run_process(world.runtime, first)
    assert ledger.landed(first.setup_id).entries == (ResultEntry(0, failed=1),)
    run_process(world.runtime, first)
    assert ledger.landed(first.setup_id).entries == (ResultEntry(0),)
    run_process(world.runtime, second)
    world.dispatcher.drain(world.runtime)
    outcome = outcome_of(ledger)
    assert (ledger.value(outcome), outcome.failed) == (list(range(20)), 0)


def test_a_lost_join_is_sent_again_if_a_chunk_failed(world: World) -> None:
    """A sweep sees a job whose only failed chunk has a result as complete, and sends its join again."""
    ledger = world.prepare(failing_task(lambda number: number == 5), {"numbers": list(range(20))}, tolerate=1)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    world.dispatcher.lose()
    world.store.age(61)
    assert sweep_job(world.process(), ledger.job_id) == Move.JOIN_SENT
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).failed == 1


def test_a_damaged_result_with_failed_items_is_named(world: World) -> None:
    """The join finds a flipped byte in the result of a chunk with failed items, and names its key."""
    ledger = world.prepare(failing_task(lambda number: number == 5), {"numbers": list(range(20))}, tolerate=1)
    world.dispatcher.drain(world.runtime, until=lambda: bool(world.dispatcher.joins))
    key = ledger.keys.bad_result(world.refs[0].setup_id, 0, 1)
    world.store.flip(key)
    world.dispatcher.drain(world.runtime)
    failure = Failure.read(outcome_of(ledger).failure)
    assert failure is not None
    assert (failure.step, failure.error) == ("join", "CorruptObject")
    assert key in failure.reason


def test_a_store_that_fails_at_any_request_passes_through() -> None:
    """If any request fails while items are recorded as failed, the outcome is right after the redelivery."""
    for fault in fail_each_request():
        world = World()
        ledger = world.prepare(
            failing_task(lambda number: number == 5), {"numbers": list(range(10))}, tolerate=1, max_attempts=2
        )
        with world.store.injecting(fault):
            for _ in range(10):
                if not world.dispatcher.waiting:
                    break
                with suppress(StorageUnavailable):
                    world.dispatcher.deliver(world.process())
        assert not world.dispatcher.waiting
        outcome = outcome_of(ledger)
        # A redelivered message counts as a run that died, so the chunk may be given up as a whole.
        assert outcome.status == OutcomeStatus.SUCCEEDED or (fault.injected and outcome.failed == 10), fault


NUMBERS = some.lists(some.booleans(), max_size=40)


@given(NUMBERS, some.integers(1, 7), some.integers(1, 3), some.randoms(use_true_random=False), some.integers(1, 3))
def test_failed_items_are_exactly_those_that_failed(
    fails: Sequence[bool], chunk_items: int, copies: int, order: random.Random, attempts: int
) -> None:
    """With any failures, chunks, copies and orders, the results are in item order, and the failing items failed."""
    world = World(copies=copies)
    task = failing_task(lambda number: fails[number])
    ledger = world.launch(
        task,
        {"numbers": list(range(len(fails)))},
        chunk_items=chunk_items,
        tolerate=1.0,
        max_attempts=attempts,
    )
    world.dispatcher.drain(world.runtime, order=order)
    outcome = outcome_of(ledger)
    value: Any = ledger.value(outcome)
    assert outcome.failed == sum(fails)
    assert [entry["item"] if isinstance(entry, dict) else -1 for entry in value] == [
        number if failed else -1 for number, failed in enumerate(fails)
    ]
    assert [entry for entry in value if not isinstance(entry, dict)] == [
        n for n, failed in enumerate(fails) if not failed
    ]
    assert len(world.dispatcher.deliveries) == 1


@given(NUMBERS, some.integers(1, 5), some.integers(0, 10), some.randoms(use_true_random=False))
def test_a_limit_holds_in_any_order(fails: Sequence[bool], chunk_items: int, limit: int, order: random.Random) -> None:
    """The job succeeds if and only if no more items failed than allowed, with its messages in any order."""
    world = World()
    ledger = world.launch(
        failing_task(lambda number: fails[number]),
        {"numbers": list(range(len(fails)))},
        chunk_items=chunk_items,
        tolerate=limit,
        max_attempts=1,
    )
    world.dispatcher.drain(world.runtime, order=order)
    assert (outcome_of(ledger).status == OutcomeStatus.SUCCEEDED) == (sum(fails) <= limit)


# In the caller's process


class Fussy(ForkJoinTask):
    """A task whose process refuses odd numbers."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 2
    max_attempts = 1
    tolerate = 0.5

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number

    def join(results):
        return {"sum": sum(results.good()), "failed": [failed_item.item for failed_item in results.failures()]}


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_run_tolerates(executor: Any) -> None:
    """Each executor records the failed items, and gives the same error if there are too many."""
    assert Fussy.run({"numbers": [0, 1, 2, 3]}, executor=executor, workers=2) == {"sum": 2, "failed": [1, 3]}
    with pytest.raises(JobFailed, match=r"at most 1 may \(tolerate=1\): item \d: ValueError: \d is odd"):
        Fussy.run({"numbers": [1, 3, 5, 7]}, executor=executor, workers=2, tolerate=1)
    with pytest.raises(JobFailed, match=r"Fussy.process, chunk 0, item 1: ValueError: 1 is odd"):
        Fussy.run({"numbers": [0, 1]}, executor=executor, workers=2, tolerate=None)


def test_a_class_attribute_sets_the_policy() -> None:
    """A class attribute sets the policy, as any other option."""
    assert Fussy.declaration.options == Options(chunk_items=2, max_attempts=1, tolerate=0.5)


@pytest.mark.parametrize(("fails", "note"), [(3, "3 of the 30 results of this join are FailedItem"), (0, "")])
def test_a_join_that_trips_over_failed_items_learns_of_them(world: World, fails: int, note: str) -> None:
    """The failure of a join says how many of its results are failed items, and how to leave them out."""
    task = failing_task(lambda number: number < fails, join=lambda results: sum(results) + "")  # type: ignore[operator]
    failure = Failure.read(outcome_of(launch_and_run(world, task, 30, tolerate=3)).failure)
    assert failure is not None
    assert (failure.step, failure.error) == ("join", "TypeError")
    assert note in failure.reason
    assert ("results.good() yields the others" in failure.reason) == bool(note)
