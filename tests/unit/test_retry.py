"""A job that has ended can be retried under the same id. Failed and missing work runs, in a new generation."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fanout import ConfigError, FailedItem, ForkJoinTask, JobCancelled, JobFailed, JobNotFound, JobState, RetryRefused
from fanout.abc import Delivery
from fanout.engines.stub import Chunk, Join, Setup, WorkerDied
from fanout.job import Job
from fanout.records.failure import Failure
from fanout.records.index import ALL_SWEPT_KEY
from fanout.records.keys import job_prefix, launch_of
from fanout.records.ledger import Ledger
from fanout.records.models import Continuation, OutcomeStatus
from fanout.stages import conclude, run_join, run_process, run_setup
from fanout.sweep import Move, sweep, sweep_job
from storage import StorageUnavailable
from tests.stores import Fault, fail_each_request

from .tasks import Numbers, Words
from .world import World

STALL_S = 60.0


class InjectedFaults:
    """The steps and items that fail, set by a test. Records the calls."""

    def __init__(self) -> None:
        self.failing: set[Any] = set()
        self.error: type[BaseException] = ValueError
        self.calls: list[Any] = []

    def call(self, name: Any) -> None:
        self.calls.append(name)
        if name in self.failing:
            raise self.error(f"{name} fails as injected")


def task_with(faults: InjectedFaults) -> type[ForkJoinTask]:
    class FaultyTask(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 2
        max_attempts = 1

        def setup(numbers):
            faults.call("setup")
            return ({"number": number} for number in numbers)

        def process(number):
            faults.call(number)
            return number

        def join(results):
            faults.call("join")
            return [result.item if isinstance(result, FailedItem) else result for result in results]

    return FaultyTask


@pytest.fixture
def faults() -> InjectedFaults:
    return InjectedFaults()


def ended_job(world: World, faults: InjectedFaults, *failing: Any, items: int = 10, **options: Any) -> Job:
    """Run a job to its end while these steps and items fail, and let none fail from then on."""
    faults.failing = set(failing)
    ledger = world.launch(task_with(faults), {"numbers": list(range(items))}, **options)
    world.dispatcher.drain(world.runtime)
    faults.failing, faults.calls = set(), []
    return world.job(ledger)


@pytest.mark.parametrize("how", ["raises", "kills"])
def test_only_failed_and_missing_chunks_run_again(world: World, faults: InjectedFaults, how: str) -> None:
    """Every good result is kept. Failed and missing chunks run once, and the value is that of all items."""
    faults.error = ValueError if how == "raises" else WorkerDied
    job = ended_job(world, faults, 4)
    with pytest.raises(JobFailed, match="as injected" if how == "raises" else "WorkerLost"):
        job.get(0)
    good = {2 * run.chunk for run in job.report().recorded.runs if not run.failed}
    assert 0 < len(good) < 5
    assert job.retry()
    assert job.state is JobState.PROCESSING
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert {number for number in faults.calls if number != "join"} == {
        number for first in range(0, 10, 2) if first not in good for number in (first, first + 1)
    }
    assert len(faults.calls) == len(set(faults.calls))
    assert Job(job.id, world.process()).get(0) == list(range(10))
    assert job.generation == 1


def test_a_setup_that_failed_runs_again(world: World, faults: InjectedFaults) -> None:
    """Without a manifest no result is kept, and the job begins again."""
    job = ended_job(world, faults, "setup")
    assert job.retry()
    assert world.dispatcher.waiting == [Setup(job.id, world.runtime.job(job.id).launch_id, generation=1)]
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


def test_a_join_that_failed_runs_alone(world: World, faults: InjectedFaults) -> None:
    """A job whose chunks all succeeded runs only its join."""
    job = ended_job(world, faults, "join")
    assert job.retry()
    assert world.dispatcher.waiting == [
        Join(job.id, world.runtime.job(job.id).launch_id, world.runtime.job(job.id).intent.task, None, generation=1)
    ]
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert faults.calls == ["join"]


def test_a_cancelled_job_is_continued_by_a_retry(world: World, faults: InjectedFaults) -> None:
    """Results from before the cancellation are kept."""
    ledger = world.prepare(task_with(faults), {"numbers": list(range(6))})
    job = world.job(ledger)
    run_process(world.runtime, world.refs[1])
    job.cancel()
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobCancelled):
        job.get(0)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(6))
    assert sorted(faults.calls[3:-1]) == [0, 1, 4, 5]


def test_a_job_cancelled_before_its_setup_is_continued_by_a_retry(world: World, faults: InjectedFaults) -> None:
    """The setup message of the first generation does nothing. That of the second one runs setup."""
    job = world.job(world.launch(task_with(faults), {"numbers": [1, 2, 3]}))
    job.cancel()
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1, 2, 3]
    assert faults.calls.count("setup") == 1


def test_tolerated_failures_can_be_retried(world: World, faults: InjectedFaults) -> None:
    """A job that succeeded without some of its items processes those, and gets a new outcome."""
    job = ended_job(world, faults, 4, 7, tolerate=2)
    assert [failed_item.item for failed_item in job.failures] == [4, 7]
    assert job.get(0) == list(range(10))
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.failures == []
    assert sorted(faults.calls[:-1]) == [4, 5, 6, 7]
    assert [outcome.failed for outcome in world.dispatcher.deliveries] == [2, 0]


def test_a_retry_may_fail_again_and_be_retried(world: World, faults: InjectedFaults) -> None:
    """Each generation has its own outcome, and the latest one counts."""
    job = ended_job(world, faults, 4)
    for generation in (1, 2, 3):
        faults.failing = {4} if generation < 3 else set()
        assert job.retry()
        world.dispatcher.drain(world.runtime)
        assert Job(job.id, world.process()).state is (JobState.FAILED if generation < 3 else JobState.SUCCEEDED)
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [OutcomeStatus.FAILED] * 3 + [
        OutcomeStatus.SUCCEEDED
    ]
    assert faults.calls.count(4) == 3
    stored = [launch_of(key)[1] for key in world.store.keys(job_prefix(job.id)) if key.endswith("outcome")]
    assert stored == ["generations/1/outcome", "generations/2/outcome", "generations/3/outcome", "outcome"]


def test_attempts_are_counted_anew(world: World, faults: InjectedFaults) -> None:
    """A generation gives each chunk `max_attempts` attempts again, and runs that kill the worker count."""
    faults.error = WorkerDied
    job = ended_job(world, faults, 4, max_attempts=3)
    faults.failing = {4}
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert faults.calls.count(4) == 3
    with pytest.raises(JobFailed, match=r"WorkerLost.*tried 3 times"):
        job.get(0)


# Options


def test_a_retry_may_change_options(world: World, faults: InjectedFaults) -> None:
    """A retry may set `tolerate` and `max_attempts`. The other options stay."""
    job = ended_job(world, faults, 4)
    faults.failing = {4}
    assert job.retry(tolerate=1, max_attempts=2)
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert ([failed_item.item for failed_item in job.failures], faults.calls.count(4)) == ([4], 2)
    assert job.retry(min_success=0.9)
    options = world.runtime.job(job.id, generation=2).options
    assert (options.tolerate, options.min_success, options.max_attempts, options.chunk_items) == (None, 0.9, 2, 2)


def test_a_deadline_counts_anew(world: World, faults: InjectedFaults) -> None:
    """A retried job that exceeded its deadline gets the same time again, or the `deadline_s` of the retry."""
    ledger = world.launch(task_with(faults), {"numbers": [1]}, deadline_s=1e-6)
    world.dispatcher.drain(world.runtime)
    job = world.job(ledger)
    with pytest.raises(JobFailed, match="deadline"):
        job.get(0)
    assert job.retry(deadline_s=1000)
    deadline_at = world.runtime.job(job.id, generation=1).deadline_at
    assert deadline_at is not None
    assert 900 < deadline_at - time.time() < 1000
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"chunk_items": 3}, "a retry can't change chunk_items; it can change max_attempts"),
        ({"nonsense": 3}, "a retry can't change nonsense"),
        ({"max_attempts": 0}, "max_attempts must be"),
        ({"tolerate": 1, "min_success": 1}, "give one of them"),
    ],
)
def test_wrong_options_are_refused(
    world: World, faults: InjectedFaults, changes: dict[str, Any], expected: str
) -> None:
    """An option that a retry cannot change, or out of range, is named, and no generation is started."""
    job = ended_job(world, faults, 4)
    with pytest.raises(ConfigError, match=expected):
        job.retry(**changes)
    assert Ledger.of(world.store, job.id).latest_generation() == 0


# Refusals


def test_a_success_is_not_retried(world: World, faults: InjectedFaults) -> None:
    """A job that succeeded has no failed item to run again."""
    job = ended_job(world, faults)
    with pytest.raises(RetryRefused, match="it has succeeded, and no item failed"):
        job.retry()


def test_a_running_job_is_not_retried(world: World, faults: InjectedFaults) -> None:
    """A job that has not ended is left alone, in its first generation and in a later one."""
    job = world.job(world.launch(task_with(faults), {"numbers": [1]}))
    assert not job.retry()
    job.cancel()
    assert job.retry()
    assert not job.retry()
    assert Ledger.of(world.store, job.id).latest_generation() == 1


def test_of_two_retries_one_starts_a_generation(world: World, faults: InjectedFaults) -> None:
    """Two callers that retry the same failed job start one generation, and its messages are sent once."""
    job = ended_job(world, faults, 4)
    results: list[bool] = []

    world.store.before_first("put", "/generations/", lambda: results.append(Job(job.id, world.process()).retry()))
    results.append(job.retry())
    assert sorted(results) == [False, True]
    refs = [message.ref for message in world.dispatcher.waiting if isinstance(message, Chunk)]
    assert len(refs) == len({ref.chunk for ref in refs})
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


def test_an_unknown_job_is_not_retried(world: World, faults: InjectedFaults) -> None:
    """A job that never existed, or that was removed while this process has it in its cache, is not found."""
    with pytest.raises(JobNotFound):
        Job("unknown-job", world.runtime).retry()
    job = ended_job(world, faults, 4)
    job.remove()
    with pytest.raises(JobNotFound):
        job.retry()
    assert world.store.keys() == []


@pytest.mark.parametrize("missing", ["pack", "index", "parameter"])
def test_a_retry_without_its_input_is_refused(missing: str, faults: InjectedFaults) -> None:
    """A retry whose input is missing is refused with the missing key, and no generation is started."""
    world = World(inline_bytes=1)
    job = ended_job(world, faults, 4, items=70, chunk_items=1)
    setup_id = world.refs[0].setup_id
    keys = Ledger.of(world.store, job.id).keys
    (parameter,) = world.store.keys("_parameters/")
    key = {"pack": keys.pack(setup_id, 0), "index": keys.index(setup_id, 0), "parameter": parameter}[missing]
    world.store.delete([key])
    with pytest.raises(RetryRefused, match=f"its input {key} is no longer in the store"):
        Job(job.id, world.process()).retry()
    assert Ledger.of(world.store, job.id).latest_generation() == 0


def test_a_stream_that_broke_off_is_not_retried(world: World, faults: InjectedFaults) -> None:
    """The caller of a broken stream had the only input. A stream that was read to its end can be retried."""

    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    broken = world.job(world.launch(Numbers, {"numbers": numbers()}))
    world.dispatcher.drain(world.runtime)
    with pytest.raises(RetryRefused, match="its caller had numbers and did not complete setup"):
        broken.retry()
    faults.failing = {1}
    whole = world.job(world.launch(task_with(faults), {"numbers": iter([1, 2, 3])}))
    world.dispatcher.drain(world.runtime)
    faults.failing = set()
    assert whole.retry()
    world.dispatcher.drain(world.runtime)
    assert whole.get(0) == [1, 2, 3]


# Workers of older generations, crashes and sweeps


def test_a_chunk_message_of_an_older_generation_is_dropped(world: World, faults: InjectedFaults) -> None:
    """A worker that gets a chunk message of an older generation finds the outcome of that generation."""
    job = ended_job(world, faults, 0)
    assert job.retry()
    run_process(world.process(), world.refs[0])
    assert faults.calls == []


@pytest.mark.parametrize("status", ["good", "bad"])
def test_a_worker_of_an_older_generation_does_no_harm(world: World, faults: InjectedFaults, status: str) -> None:
    """If a worker stops in generation 0 and wakes in generation 1, its good result counts and its failure does not."""
    job = ended_job(world, faults, 4)
    ref = next(entry for entry in world.refs if entry.chunk == 2)
    old = world.runtime.job(job.id)
    assert job.retry()
    # The worker had made all its checks when it was stopped.
    old.cached_ended = False
    old._ended_checked_at = float("inf")
    if status == "bad":
        faults.failing = {4}
    run_process(world.runtime, replace(ref, attempts=0))
    faults.failing = set()
    assert world.runtime.ledger(job.id, 1).outcome() is None
    faults.calls.clear()
    world.dispatcher.drain(world.process())
    assert Job(job.id, world.process()).get(0) == list(range(10))
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [
        OutcomeStatus.FAILED,
        OutcomeStatus.SUCCEEDED,
    ]


def test_a_setup_of_an_older_generation_may_write_the_manifest(world: World, faults: InjectedFaults) -> None:
    """If setups of two generations run at once, either may write the manifest. The newer generation gets its chunks."""
    ledger = world.launch(task_with(faults), {"numbers": [1, 2, 3]})
    job = world.job(ledger)

    def cancel_and_retry() -> None:
        """Cancel and retry the job before generation 0 writes its manifest, so that generation 1 runs setup."""
        job.cancel()
        assert job.retry()

    world.store.before_first("put", "/manifest", cancel_and_retry)
    run_setup(world.runtime, ledger.job_id)
    assert Ledger.of(world.store, job.id).latest_generation() == 1
    world.dispatcher.drain(world.process())
    assert job.get(0) == [1, 2, 3]


def test_a_join_of_an_older_generation_delivers_nothing(world: World, faults: InjectedFaults) -> None:
    """A delivery of generation 0 that comes after generation 1 has begun is dropped, because it is out of date."""
    job = ended_job(world, faults, 4)
    world.store.delete([Ledger.of(world.store, job.id).keys.delivered])
    assert run_join(world.process(), job.id, delivery=Delivery(redelivered=True)) is not None
    assert job.retry()
    assert run_join(world.process(), job.id, delivery=Delivery(redelivered=True)) is None


def test_a_join_whose_job_was_retried_delivers_nothing(world: World, faults: InjectedFaults) -> None:
    """A join that runs while its job is cancelled and retried delivers nothing. The next generation delivers."""
    ledger = world.launch(task_with(faults), {"numbers": [1, 2]})
    job = world.job(ledger)

    def overtake() -> None:
        job.cancel()
        assert job.retry()

    world.store.before_first("put", ledger.keys.outcome, overtake)
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1, 2]
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [OutcomeStatus.SUCCEEDED]


def test_group_complete_markers_of_an_older_generation_do_not_count(world: World, faults: InjectedFaults) -> None:
    """A group that was full with failed chunks is not full in the next generation, so no join is sent too early."""
    job = ended_job(world, faults, 0, 65, items=70, chunk_items=1, tolerate=2)
    assert job.retry()
    world.dispatcher.deliver(world.runtime, at=1)
    assert len(world.dispatcher.joins) == 1
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.joins) == 2
    assert job.get(0) == list(range(70))


def test_resends_of_an_older_generation_do_not_count(world: World, faults: InjectedFaults) -> None:
    """After five resends in one generation, a sweep resends in the next one after the first stall."""
    ledger = world.launch(task_with(faults), {"numbers": [1]})
    for resends in range(5):
        world.dispatcher.lose()
        world.store.age(STALL_S * 2**resends + 1)
        assert sweep_job(world.process(), ledger.job_id) == Move.SETUP_SENT
    job = world.job(ledger)
    job.cancel()
    assert job.retry()
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), ledger.job_id) == Move.SETUP_SENT


@pytest.mark.parametrize("lost", [Setup, Chunk, Join, None])
@pytest.mark.parametrize("failing", ["setup", 4, "join"])
def test_a_sweep_resends_lost_messages_of_a_retry(
    world: World, faults: InjectedFaults, lost: Any, failing: Any
) -> None:
    """If the messages of a retry are lost, a sweep resends them in the latest generation."""
    job = ended_job(world, faults, failing)
    assert job.retry()
    while world.dispatcher.waiting:
        world.dispatcher.lose(lost)
        if world.dispatcher.waiting:
            world.dispatcher.deliver(world.runtime)
    for _ in range(6):
        world.store.age(100 * STALL_S)
        sweep_job(world.process(), job.id)
        world.dispatcher.drain(world.process())
    assert job.get(0) == list(range(10))
    assert sweep_job(world.process(), job.id) == Move.NONE


def test_a_sweep_leaves_a_running_generation_alone(world: World, faults: InjectedFaults) -> None:
    """The age of the old generation and its resends do not make a sweep act on the new one."""
    job = ended_job(world, faults, 4)
    world.store.age(100 * STALL_S)
    assert job.retry()
    while world.dispatcher.waiting:
        assert sweep_job(world.process(), job.id) == Move.NONE
        world.dispatcher.deliver(world.runtime)
    assert job.get(0) == list(range(10))


def test_a_sweep_completes_the_retry_of_a_caller_that_died(world: World, faults: InjectedFaults) -> None:
    """The generation is written before its messages are sent, so a sweep sends the messages of a dead caller."""
    job = ended_job(world, faults, 4)

    fault = Fault("put", ("/generations/",), error=KeyboardInterrupt)
    with world.store.injecting(fault, after=True), pytest.raises(KeyboardInterrupt):
        job.retry()
    assert not job.retry()
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), job.id) == Move.CHUNKS_SENT
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


def test_a_retry_may_be_repeated_after_a_store_failure(faults: InjectedFaults) -> None:
    """If any request of a retry fails, the caller may retry again, and a sweep sends the missing messages."""
    for fault in fail_each_request():
        world = World()
        job = ended_job(world, faults, 4)
        with world.store.injecting(fault), contextlib.suppress(StorageUnavailable):
            Job(job.id, world.process()).retry()
        job.retry()
        world.store.age(STALL_S + 1)
        sweep_job(world.process(), job.id)
        world.dispatcher.drain(world.process())
        assert job.get(0) == list(range(10)), fault
        assert Ledger.of(world.store, job.id).latest_generation() == 1


def test_an_expired_job_may_be_retried(world: World) -> None:
    """A retried job does not expire, even if the message of its launch did."""
    submission = world.submission(Numbers, {"numbers": [1]})
    ledger = world.runtime.launch("job", submission.intent(launch="{}", expires_at=time.time() - 1)).ledger
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), "job") == Move.FAILED
    world.dispatcher.drain(world.runtime)
    job = world.job(ledger)
    assert job.retry()
    world.dispatcher.lose()
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), "job") == Move.SETUP_SENT
    ledger.write_continuation(Continuation(message="{}"))
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1]


def test_all_generations_of_a_job_are_removed_together(faults: InjectedFaults) -> None:
    """All generations of a job are removed together, when the latest one is old enough."""
    world = World(retention_s=1000.0)
    job = ended_job(world, faults, 4)
    world.store.age(2000)
    assert job.retry()
    assert dict(sweep(world.process()))[job.id] == Move.NONE
    world.dispatcher.drain(world.runtime)
    assert dict(sweep(world.process(), everything=True))[job.id] == Move.NONE
    world.store.age(2000)
    assert dict(sweep(world.process()))[job.id] == Move.REMOVED
    assert world.store.keys() == [ALL_SWEPT_KEY]


def test_a_half_removed_job_is_never_run_again(faults: InjectedFaults) -> None:
    """If a removal stops after any deletion, no sweep runs the job again."""
    for fault in fail_each_request("delete", error=KeyboardInterrupt):
        world = World()
        job = ended_job(world, faults, 4)
        job.retry()
        world.dispatcher.drain(world.runtime)
        with world.store.injecting(fault), contextlib.suppress(KeyboardInterrupt):
            job.remove()
        world.store.age(100 * STALL_S)
        faults.calls.clear()
        list(sweep(world.process()))
        world.dispatcher.drain(world.process())
        assert faults.calls == [], fault


def test_iteration_reads_the_latest_generation(world: World, faults: InjectedFaults) -> None:
    """Iteration over the results gives those of the retry."""
    job = ended_job(world, faults, 4, tolerate=1)
    assert isinstance(list(job)[4], FailedItem)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert list(Job(job.id, world.process())) == list(range(10))
    assert list(job) == list(range(10))


def test_cancel_ends_the_latest_generation(world: World, faults: InjectedFaults) -> None:
    """A `Job` that has not read the store since the retry cancels the generation that runs."""
    other = ended_job(world, faults, 4)
    job = Job(other.id, world.process())
    assert job.state is JobState.FAILED
    assert other.retry()
    assert job.cancel()
    assert other.state is JobState.CANCELLED


def test_a_retried_job_has_its_parameters(world: World) -> None:
    """A parameter that process takes is loaded in the next generation, too."""
    world = World(inline_bytes=1)
    ledger = world.prepare(Words, {"documents": ["a-b"] * 4, "delimiter": "-"}, chunk_items=1)
    job = world.runtime.job(ledger.job_id)
    conclude(world.runtime, job, OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x"))
    world.dispatcher.drain(world.runtime)
    retried = world.job(ledger)
    assert retried.retry()
    world.dispatcher.drain(world.process())
    assert retried.get(0) == {"a": 4, "b": 4}


@given(
    some.integers(0, 12),
    some.lists(some.sets(some.one_of(some.integers(0, 11), some.sampled_from(["setup", "join"]))), max_size=4),
    some.integers(1, 3),
    some.booleans(),
    some.randoms(use_true_random=False),
)
def test_any_failures_and_retries_end_in_the_right_value(
    items: int, failing_by_generation: list[set[Any]], copies: int, kills: bool, order: random.Random
) -> None:
    """After any failures in any generations, with doubled and shuffled messages, each generation has one outcome."""
    world, faults = World(copies=copies), InjectedFaults()
    faults.error = WorkerDied if kills else ValueError
    ledger = world.launch(task_with(faults), {"numbers": list(range(items))})
    job = world.job(ledger)
    for number, failing in enumerate([*failing_by_generation, set()]):
        faults.failing = failing
        latest = Job(job.id, world.process())
        if number and not (latest.ready and latest.ledger.outcome().final):  # type: ignore[union-attr]
            assert job.retry()
        world.dispatcher.drain(world.process(), order=order)
    assert Job(job.id, world.process()).get(0) == list(range(items))
    generations = Ledger.of(world.store, job.id).latest_generation() + 1
    outcomes = [Ledger.of(world.store, job.id, generation).outcome() for generation in range(generations)]
    assert all(outcomes)
    assert [outcome.status for outcome in outcomes if outcome][:-1] == [OutcomeStatus.FAILED] * (generations - 1)
    assert len(world.dispatcher.deliveries) == generations
