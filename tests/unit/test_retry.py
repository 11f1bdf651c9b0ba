"""A job that has ended can be run once more: what failed or is missing, under the same id, in a round of its own."""

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
from fanout.job import Job
from fanout.records.failure import Failure
from fanout.records.keys import job_prefix, launch_of
from fanout.records.ledger import Ledger
from fanout.records.models import Continuation, OutcomeStatus
from fanout.report import chunk_results
from fanout.stages import conclude, run_join, run_process, run_setup
from fanout.stages.delivery import Delivery
from fanout.sweep import Move, sweep, sweep_job
from storage import StorageUnavailable

from .dispatcher import Chunk, Join, Setup, WorkerDied
from .tasks import Numbers, Words
from .world import World

STALL_S = 60.0


class Weather:
    """What goes wrong while it is bad; a test lets it turn. Keeps what has run."""

    def __init__(self) -> None:
        self.bad: set[Any] = set()
        self.error: type[BaseException] = ValueError
        self.ran: list[Any] = []

    def meet(self, what: Any) -> None:
        self.ran.append(what)
        if what in self.bad:
            raise self.error(f"{what} in bad weather")


def outdoors(weather: Weather) -> type[ForkJoinTask]:
    class Outdoors(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 2
        max_attempts = 1

        def setup(numbers):
            weather.meet("setup")
            return ({"number": number} for number in numbers)

        def process(number):
            weather.meet(number)
            return number

        def join(results):
            weather.meet("join")
            return [result.item if isinstance(result, FailedItem) else result for result in results]

    return Outdoors


@pytest.fixture
def weather() -> Weather:
    return Weather()


def ended(world: World, weather: Weather, *bad: Any, items: int = 10, **options: Any) -> Job:
    """A job that has ended, with what went wrong; the weather has turned since."""
    weather.bad = set(bad)
    ledger = world.launch(outdoors(weather), {"numbers": list(range(items))}, **options)
    world.dispatcher.drain(world.runtime)
    weather.bad, weather.ran = set(), []
    return world.job(ledger)


@pytest.mark.parametrize("how", ["raises", "kills"])
def test_only_failed_and_missing_chunks_run_again(world: World, weather: Weather, how: str) -> None:
    """Every good result is kept; what failed, or was never run, runs once; the value is that of all items."""
    weather.error = ValueError if how == "raises" else WorkerDied
    job = ended(world, weather, 4)
    with pytest.raises(JobFailed, match="bad weather" if how == "raises" else "WorkerLost"):
        job.get(0)
    good = {chunk.first_item for chunk in chunk_results(job) if chunk.failed is None}
    assert 0 < len(good) < 5
    assert job.retry()
    assert job.state is JobState.PROCESSING
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert {number for number in weather.ran if number != "join"} == {
        number for first in range(0, 10, 2) if first not in good for number in (first, first + 1)
    }
    assert len(weather.ran) == len(set(weather.ran))
    assert Job(job.id, world.process()).get(0) == list(range(10))
    assert job.generation == 1


def test_a_setup_that_failed_runs_again(world: World, weather: Weather) -> None:
    """Without a manifest there is nothing to keep: the job begins anew."""
    job = ended(world, weather, "setup")
    assert job.retry()
    assert world.dispatcher.waiting == [Setup(job.id, world.runtime.job(job.id).launch_id, generation=1)]
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


def test_a_join_that_failed_runs_alone(world: World, weather: Weather) -> None:
    """A job whose chunks are all good runs nothing but its join."""
    job = ended(world, weather, "join")
    assert job.retry()
    assert world.dispatcher.waiting == [
        Join(job.id, world.runtime.job(job.id).launch_id, world.runtime.job(job.id).intent.task, None, generation=1)
    ]
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert weather.ran == ["join"]


def test_a_cancelled_job_goes_on(world: World, weather: Weather) -> None:
    """What was done before the cancellation is kept."""
    ledger = world.prepare(outdoors(weather), {"numbers": list(range(6))})
    job = world.job(ledger)
    run_process(world.runtime, world.refs[1])
    job.cancel()
    world.dispatcher.drain(world.runtime)
    with pytest.raises(JobCancelled):
        job.get(0)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(6))
    assert sorted(weather.ran[3:-1]) == [0, 1, 4, 5]


def test_a_job_cancelled_before_its_setup_goes_on(world: World, weather: Weather) -> None:
    """A setup message of the first round does nothing, that of the second does it all."""
    job = world.job(world.launch(outdoors(weather), {"numbers": [1, 2, 3]}))
    job.cancel()
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1, 2, 3]
    assert weather.ran.count("setup") == 1


def test_tolerated_failures_can_be_made_good(world: World, weather: Weather) -> None:
    """A job that succeeded without some of its items gets those, and a new outcome."""
    job = ended(world, weather, 4, 7, tolerate=2)
    assert [mark.item for mark in job.failures] == [4, 7]
    assert job.get(0) == list(range(10))
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert job.failures == []
    assert sorted(weather.ran[:-1]) == [4, 5, 6, 7]
    assert [outcome.failed for outcome in world.dispatcher.deliveries] == [2, 0]


def test_a_retry_may_fail_again_and_be_retried(world: World, weather: Weather) -> None:
    """Each round has one outcome of its own; the latest one counts."""
    job = ended(world, weather, 4)
    for generation in (1, 2, 3):
        weather.bad = {4} if generation < 3 else set()
        assert job.retry()
        world.dispatcher.drain(world.runtime)
        assert Job(job.id, world.process()).state is (JobState.FAILED if generation < 3 else JobState.SUCCEEDED)
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [OutcomeStatus.FAILED] * 3 + [
        OutcomeStatus.SUCCEEDED
    ]
    assert weather.ran.count(4) == 3
    stored = [launch_of(key)[1] for key in world.store.keys(job_prefix(job.id)) if key.endswith("outcome")]
    assert stored == ["generations/1/outcome", "generations/2/outcome", "generations/3/outcome", "outcome"]


def test_tries_count_anew(world: World, weather: Weather) -> None:
    """A round gives each chunk its `max_attempts` again, kills of its worker included."""
    weather.error = WorkerDied
    job = ended(world, weather, 4, max_attempts=3)
    weather.bad = {4}
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert weather.ran.count(4) == 3
    with pytest.raises(JobFailed, match=r"WorkerLost.*tried 3 times"):
        job.get(0)


# Options


def test_options_may_be_changed(world: World, weather: Weather) -> None:
    """A retry may tolerate what the job did not, and try more often; the rest stays."""
    job = ended(world, weather, 4)
    weather.bad = {4}
    assert job.retry(tolerate=1, max_attempts=2)
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))
    assert ([mark.item for mark in job.failures], weather.ran.count(4)) == ([4], 2)
    assert job.retry(min_success=0.9)
    options = world.runtime.job(job.id, generation=2).options
    assert (options.tolerate, options.min_success, options.max_attempts, options.chunk_items) == (None, 0.9, 2, 2)


def test_a_deadline_counts_anew(world: World, weather: Weather) -> None:
    """A job that ran out of time gets as much again, or what the retry says."""
    ledger = world.launch(outdoors(weather), {"numbers": [1]}, deadline_s=1e-6)
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
    ("changes", "said"),
    [
        ({"chunk_items": 3}, "a retry can't change chunk_items; it can change max_attempts"),
        ({"nonsense": 3}, "a retry can't change nonsense"),
        ({"max_attempts": 0}, "max_attempts must be"),
        ({"tolerate": 1, "min_success": 1}, "give one of them"),
    ],
)
def test_wrong_options_are_refused(world: World, weather: Weather, changes: dict[str, Any], said: str) -> None:
    """An option that has no meaning any more, or is out of range, is named, and no round is started."""
    job = ended(world, weather, 4)
    with pytest.raises(ConfigError, match=said):
        job.retry(**changes)
    assert Ledger.of(world.store, job.id).latest_generation() == 0


# Refusals


def test_a_success_is_not_retried(world: World, weather: Weather) -> None:
    """There is nothing to run again."""
    job = ended(world, weather)
    with pytest.raises(RetryRefused, match="it has succeeded, and no item failed"):
        job.retry()


def test_a_running_job_is_not_retried(world: World, weather: Weather) -> None:
    """A job that has not ended is left alone, in its first round and in a later one."""
    job = world.job(world.launch(outdoors(weather), {"numbers": [1]}))
    assert not job.retry()
    job.cancel()
    assert job.retry()
    assert not job.retry()
    assert Ledger.of(world.store, job.id).latest_generation() == 1


def test_of_two_retries_one_starts_a_round(world: World, weather: Weather) -> None:
    """Two that find the same failed job make one round, and its messages are sent once."""
    job = ended(world, weather, 4)
    results: list[bool] = []

    def overtake(verb: str, key: str) -> None:
        if verb == "put" and "/generations/" in key:
            world.store.before = lambda verb, key: None
            results.append(Job(job.id, world.process()).retry())

    world.store.before = overtake
    results.append(job.retry())
    assert sorted(results) == [False, True]
    refs = [message.ref for message in world.dispatcher.waiting if isinstance(message, Chunk)]
    assert len(refs) == len({ref.chunk for ref in refs})
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


def test_no_job_no_retry(world: World, weather: Weather) -> None:
    """A job that was never there, or was removed, also while this process has it at hand, is not found."""
    with pytest.raises(JobNotFound):
        Job("nobody", world.runtime).retry()
    job = ended(world, weather, 4)
    job.remove()
    with pytest.raises(JobNotFound):
        job.retry()
    assert world.store.keys() == []


@pytest.mark.parametrize("what", ["pack", "index", "parameter"])
def test_an_input_that_is_gone_is_named(what: str, weather: Weather) -> None:
    """A retry that would fail for want of its input is refused with the key, and no round is started."""
    world = World(inline_bytes=1)
    job = ended(world, weather, 4, items=70, chunk_items=1)
    setup_id = world.refs[0].setup_id
    keys = Ledger.of(world.store, job.id).keys
    (parameter,) = world.store.keys("_parameters/")
    key = {"pack": keys.pack(setup_id, 0), "index": keys.index(setup_id, 0), "parameter": parameter}[what]
    world.store.delete([key])
    with pytest.raises(RetryRefused, match=f"its input {key} is no longer in the store"):
        Job(job.id, world.process()).retry()
    assert Ledger.of(world.store, job.id).latest_generation() == 0


def test_a_stream_that_broke_off_is_not_retried(world: World, weather: Weather) -> None:
    """Its caller had the input, and nobody else; one that was read to its end is as good as any."""

    def numbers() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    broken = world.job(world.launch(Numbers, {"numbers": numbers()}))
    world.dispatcher.drain(world.runtime)
    with pytest.raises(RetryRefused, match="its caller had numbers and did not complete setup"):
        broken.retry()
    weather.bad = {1}
    whole = world.job(world.launch(outdoors(weather), {"numbers": iter([1, 2, 3])}))
    world.dispatcher.drain(world.runtime)
    weather.bad = set()
    assert whole.retry()
    world.dispatcher.drain(world.runtime)
    assert whole.get(0) == [1, 2, 3]


# Zombies, crashes and sweeps


def test_a_chunk_message_of_an_older_round_is_dropped(world: World, weather: Weather) -> None:
    """It finds the outcome of its own round."""
    job = ended(world, weather, 0)
    assert job.retry()
    run_process(world.process(), world.refs[0])
    assert weather.ran == []


@pytest.mark.parametrize("status", ["good", "bad"])
def test_a_zombie_of_an_older_round_does_no_harm(world: World, weather: Weather, status: str) -> None:
    """A worker that was stopped in round 0 and wakes in round 1: its good result counts, its failure does not."""
    job = ended(world, weather, 4)
    ref = next(entry for entry in world.refs if entry.chunk == 2)
    old = world.runtime.job(job.id)
    assert job.retry()
    # It was past all its looks at the store when it was stopped.
    old.cached_ended = False
    old._ended_checked_at = float("inf")
    if status == "bad":
        weather.bad = {4}
    run_process(world.runtime, replace(ref, attempts=0))
    weather.bad = set()
    assert world.runtime.ledger(job.id, 1).outcome() is None
    weather.ran.clear()
    world.dispatcher.drain(world.process())
    assert Job(job.id, world.process()).get(0) == list(range(10))
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [
        OutcomeStatus.FAILED,
        OutcomeStatus.SUCCEEDED,
    ]


def test_a_setup_of_an_older_round_may_win(world: World, weather: Weather) -> None:
    """Two setups of two rounds run at once; whichever manifest stands, the newer round gets its chunks."""
    ledger = world.launch(outdoors(weather), {"numbers": [1, 2, 3]})
    job = world.job(ledger)
    started: list[str] = []

    def interrupt(verb: str, key: str) -> None:
        """Before round 0 writes its manifest it is cancelled and retried, and round 1 sets up."""
        if verb == "put" and key.endswith("/manifest") and not started:
            started.append(key)
            job.cancel()
            assert job.retry()

    world.store.before = interrupt
    run_setup(world.runtime, ledger.job_id)
    world.dispatcher.drain(world.process())
    assert job.get(0) == [1, 2, 3]


def test_an_old_join_delivers_nothing(world: World, weather: Weather) -> None:
    """A delivery of round 0 that comes after round 1 has begun is dropped: what it would say is no longer so."""
    job = ended(world, weather, 4)
    world.store.delete([Ledger.of(world.store, job.id).keys.delivered])
    assert run_join(world.process(), job.id, delivery=Delivery(redelivered=True)) is not None
    assert job.retry()
    assert run_join(world.process(), job.id, delivery=Delivery(redelivered=True)) is None


def test_a_join_that_was_overtaken_delivers_nothing(world: World, weather: Weather) -> None:
    """A join at work while its job is cancelled and retried keeps its value to itself; the next round has its own."""
    ledger = world.launch(outdoors(weather), {"numbers": [1, 2]})
    job = world.job(ledger)

    def overtake(verb: str, key: str) -> None:
        if verb == "put" and key == ledger.keys.outcome:
            world.store.before = lambda verb, key: None
            job.cancel()
            assert job.retry()

    world.store.before = overtake
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == [1, 2]
    assert [outcome.status for outcome in world.dispatcher.deliveries] == [OutcomeStatus.SUCCEEDED]


def test_marks_of_an_older_round_do_not_count(world: World, weather: Weather) -> None:
    """A group that was full with failed chunks is not full in the next round: no join is sent before its time."""
    job = ended(world, weather, 0, 65, items=70, chunk_items=1, tolerate=2)
    assert job.retry()
    world.dispatcher.deliver(world.runtime, at=1)
    assert len(world.dispatcher.joins) == 1
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.joins) == 2
    assert job.get(0) == list(range(70))


def test_nudges_of_an_older_round_do_not_count(world: World, weather: Weather) -> None:
    """However often a sweep had to move the round before, the next one is moved after the first stall."""
    ledger = world.launch(outdoors(weather), {"numbers": [1]})
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
@pytest.mark.parametrize("bad", ["setup", 4, "join"])
def test_a_sweep_moves_a_round(world: World, weather: Weather, lost: Any, bad: Any) -> None:
    """What a retry sent may be lost: a sweep sees it in the latest round and sends it again."""
    job = ended(world, weather, bad)
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


def test_a_round_that_goes_well_is_left_alone(world: World, weather: Weather) -> None:
    """Neither the old round's silence nor its nudges count; one listing looks at it all."""
    job = ended(world, weather, 4)
    world.store.age(100 * STALL_S)
    assert job.retry()
    while world.dispatcher.waiting:
        assert sweep_job(world.process(), job.id) == Move.NONE
        world.dispatcher.deliver(world.runtime)
    assert job.get(0) == list(range(10))


def test_a_caller_that_died_while_it_retried_is_made_up_for(world: World, weather: Weather) -> None:
    """The round stands before its messages are sent; if they never are, a sweep sends them."""
    job = ended(world, weather, 4)

    def die(verb: str, key: str) -> None:
        if verb == "put" and "/generations/" in key:
            world.store.after = lambda verb, key: None
            raise KeyboardInterrupt

    world.store.after = die
    with pytest.raises(KeyboardInterrupt):
        job.retry()
    assert not job.retry()
    world.store.age(STALL_S + 1)
    assert sweep_job(world.process(), job.id) == Move.CHUNKS_SENT
    world.dispatcher.drain(world.runtime)
    assert job.get(0) == list(range(10))


@pytest.mark.parametrize("number", range(1, 20))
def test_a_store_that_fails_while_a_job_is_retried(world: World, weather: Weather, number: int) -> None:
    """Whichever request of a retry fails, it may be called again, and a sweep sends what was not sent."""
    job = ended(world, weather, 4)
    requests = iter(range(1, 10**6))

    def fail(verb: str, key: str) -> None:
        if next(requests) == number:
            raise StorageUnavailable(f"{verb} {key}", key=key)

    world.store.before = fail
    with contextlib.suppress(StorageUnavailable):
        Job(job.id, world.process()).retry()
    world.store.before = lambda verb, key: None
    job.retry()
    world.store.age(STALL_S + 1)
    sweep_job(world.process(), job.id)
    world.dispatcher.drain(world.process())
    assert job.get(0) == list(range(10))
    assert Ledger.of(world.store, job.id).latest_generation() == 1


def test_an_expired_job_may_be_retried(world: World) -> None:
    """Its message came too late; a retry is a launch that nobody has to hurry for."""
    order = world.submission(Numbers, {"numbers": [1]})
    ledger = world.runtime.launch("job", order.intent(launch="{}", expires_at=time.time() - 1)).ledger
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


def test_a_retried_job_is_removed_as_one(weather: Weather) -> None:
    """All rounds of a job go together, and so long after the end of the latest one."""
    world = World(retention_s=1000.0)
    job = ended(world, weather, 4)
    world.store.age(2000)
    assert job.retry()
    assert dict(sweep(world.process()))[job.id] == Move.NONE
    world.dispatcher.drain(world.runtime)
    assert dict(sweep(world.process()))[job.id] == Move.NONE
    world.store.age(2000)
    assert dict(sweep(world.process()))[job.id] == Move.REMOVED
    assert world.store.keys() == []


@pytest.mark.parametrize("deletions", range(1, 30))
def test_a_half_removed_job_never_looks_unfinished(world: World, weather: Weather, deletions: int) -> None:
    """Wherever a removal breaks off, no sweep runs the job again."""
    job = ended(world, weather, 4)
    job.retry()
    world.dispatcher.drain(world.runtime)
    counted = iter(range(1, 10**6))

    def die(verb: str, key: str) -> None:
        if verb == "delete" and next(counted) == deletions:
            raise KeyboardInterrupt

    world.store.before = die
    with contextlib.suppress(KeyboardInterrupt):
        job.remove()
    world.store.before = lambda verb, key: None
    world.store.age(100 * STALL_S)
    weather.ran.clear()
    list(sweep(world.process()))
    world.dispatcher.drain(world.process())
    assert weather.ran == []


def test_iteration_follows_the_latest_round(world: World, weather: Weather) -> None:
    """A caller who iterates gets what the retry made good."""
    job = ended(world, weather, 4, tolerate=1)
    assert isinstance(list(job)[4], FailedItem)
    assert job.retry()
    world.dispatcher.drain(world.runtime)
    assert list(Job(job.id, world.process())) == list(range(10))
    assert list(job) == list(range(10))


def test_a_cancelled_round_is_cancelled(world: World, weather: Weather) -> None:
    """A handle that has not looked since the retry cancels the round that runs."""
    other = ended(world, weather, 4)
    job = Job(other.id, world.process())
    assert job.state is JobState.FAILED
    assert other.retry()
    assert job.cancel()
    assert other.state is JobState.CANCELLED


def test_a_retry_of_a_job_that_shares_parameters(world: World) -> None:
    """A parameter that process needs is there in the next round, too."""
    world = World(inline_bytes=1)
    ledger = world.prepare(Words, {"documents": ["a-b"] * 4, "delimiter": "-"}, chunk_items=1)
    job = world.runtime.job(ledger.job_id)
    conclude(world.runtime, job, OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x"))
    world.dispatcher.drain(world.runtime)
    ref = world.job(ledger)
    assert ref.retry()
    world.dispatcher.drain(world.process())
    assert ref.get(0) == {"a": 4, "b": 4}


@given(
    some.integers(0, 12),
    some.lists(some.sets(some.one_of(some.integers(0, 11), some.sampled_from(["setup", "join"]))), max_size=4),
    some.integers(1, 3),
    some.booleans(),
    some.randoms(use_true_random=False),
)
def test_any_weather_passes(items: int, storms: list[set[Any]], copies: int, kills: bool, order: random.Random) -> None:
    """Whatever fails in however many rounds, doubled and shuffled: one outcome a round, at the end the right one."""
    world, weather = World(copies=copies), Weather()
    weather.error = WorkerDied if kills else ValueError
    ledger = world.launch(outdoors(weather), {"numbers": list(range(items))})
    job = world.job(ledger)
    for number, storm in enumerate([*storms, set()]):
        weather.bad = storm
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
