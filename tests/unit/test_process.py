"""Process runs each chunk until it has a result, at most `max_attempts` times."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from fanout import ForkJoinTask
from fanout.background.debouncer import Debouncer
from fanout.records.failure import Failure
from fanout.records.keys import process_step
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Outcome, OutcomeStatus
from fanout.removal import remove_job
from fanout.stages import conclude, run_process
from fanout.stages.delivery import FIRST, Delivery
from fanout.stages.result_reader import chunk_values
from storage import StorageUnavailable
from tests.tasks import FailingTask

from .dispatcher import WorkerDied
from .stores import kind_of, refusing
from .tasks import Numbers, Words
from .world import World


class Deed:
    """What process does with its item, told by a test; counts its runs."""

    def __init__(self) -> None:
        self.runs: list[int] = []
        self.act: Any = lambda number, run: number

    def __call__(self, number: int) -> Any:
        self.runs.append(number)
        return self.act(number, self.runs.count(number))


def doing(deed: Deed, join: Any = list) -> type[ForkJoinTask]:
    class Doing(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 1

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            return deed(number)

        def join(results):
            return join(results)

    return Doing


def outcome_of(ledger: Ledger) -> Outcome:
    outcome = ledger.outcome()
    assert outcome is not None
    return outcome


def failure_of(ledger: Ledger) -> Failure:
    outcome = outcome_of(ledger)
    assert outcome.status == OutcomeStatus.FAILED
    failure = Failure.read(outcome.failure)
    assert failure is not None
    return failure


@pytest.mark.parametrize(("size", "carried"), [(1, list), (100_000, list), (100_000, iter)])
def test_a_chunk_costs_three_requests_when_nothing_is_amiss(world: World, size: int, carried: Any) -> None:
    """One ranged read, one write and one listing; a small chunk is read along with its neighbour, and costs two.

    So is one that borrows, which reads its slice of what setup was given.
    """
    ledger = world.launch(Words, {"documents": carried(["x" * size] * 4)}, chunk_items=1)
    if carried is list:
        world.dispatcher.deliver(world.runtime)
    runtime = world.process()
    run_process(runtime, world.refs[0])
    world.store.log.clear()
    run_process(runtime, world.refs[1])
    kinds = [(verb, kind_of(key)) for verb, key in world.store.log]
    read = "_parameters" if carried is list else "input"
    assert kinds == [("get", read), ("put", "results"), ("list", "results")][size == 1 :]
    assert ledger.finished_chunks(world.refs[0].setup_id) == [0, 1]


def test_a_worker_that_has_more_of_a_group_looks_once(world: World) -> None:
    """After any but the last chunks of a group the look waits until the worker is idle; one does for all of them."""
    world.prepare(Numbers, {"numbers": list(range(12))}, chunk_items=1)
    runtime = world.process()
    runtime.debouncer = Debouncer()
    with runtime.debouncer.work():
        for ref in world.refs[:8]:
            run_process(runtime, ref)
        assert not [key for verb, key in world.store.log if verb == "list"]
        runtime.debouncer.flush()
        assert len([key for verb, key in world.store.log if verb == "list"]) == 1
        assert not world.dispatcher.joins
        for ref in world.refs[8:]:
            run_process(runtime, ref)
        # The last four look at once, and the last of them sees all.
        assert len([key for verb, key in world.store.log if verb == "list"]) == 5
        assert len(world.dispatcher.joins) == 1


def test_whoever_looks_late_sees_that_the_join_has_begun(world: World) -> None:
    """A look that waited while others completed the job starts no second join."""
    world.prepare(Numbers, {"numbers": list(range(6))}, chunk_items=1)
    slow, quick = world.process(), world.process()
    slow.debouncer = Debouncer()
    with slow.debouncer.work():
        run_process(slow, world.refs[0])
        for ref in world.refs[1:]:
            run_process(quick, ref)
        [join] = world.dispatcher.joins
        join.run(quick)
        slow.debouncer.flush()
    assert world.dispatcher.joins == [join]


def test_whoever_is_last_and_looks_late_starts_the_join(world: World) -> None:
    """The last result of all is not one of the last chunks: the look that waited completes the job."""
    world.prepare(Numbers, {"numbers": list(range(6))}, chunk_items=1)
    runtime = world.process()
    runtime.debouncer = Debouncer()
    with runtime.debouncer.work():
        for ref in reversed(world.refs):
            run_process(runtime, ref)
        assert not world.dispatcher.joins
        runtime.debouncer.flush()
    assert len(world.dispatcher.joins) == 1


def test_a_chunk_that_a_sweep_sent_is_looked_after_at_once(world: World) -> None:
    """Somebody has waited long enough."""
    world.prepare(Numbers, {"numbers": list(range(6))}, chunk_items=1)
    runtime = world.process()
    runtime.debouncer = Debouncer()
    with runtime.debouncer.work():
        for ref in world.refs[1:]:
            run_process(world.runtime, ref)
        run_process(runtime, replace(world.refs[0], resent=True))
    assert len(world.dispatcher.joins) == 1


def test_a_step_that_raises_is_tried_again(world: World) -> None:
    """A step that raises twice and then not costs three runs and nothing else."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if number == 1 and run < 3:
            raise ValueError("not yet")
        return number

    deed.act = act
    ledger = world.launch(doing(deed), {"numbers": [0, 1, 2]})
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == [0, 1, 2]
    assert deed.runs.count(1) == 3
    assert [message.ref.attempts for message in world.dispatcher.chunks if message.ref.chunk == 1] == [0, 1, 2]


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_a_step_that_always_raises_fails_the_job(world: World, attempts: int) -> None:
    """It runs exactly `max_attempts` times; the failure names chunk, item, reason, traceback and tries."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if number == 7:
            raise ValueError(f"no, {run}")
        return number

    deed.act = act
    ledger = world.launch(doing(deed), {"numbers": list(range(9))}, chunk_items=3, max_attempts=attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert deed.runs.count(7) == attempts
    assert (failure.step, failure.error, failure.reason) == ("process", "ValueError", f"no, {attempts}")
    assert (failure.chunk, failure.item, failure.attempts) == (2, 7, attempts)
    assert "in process" in failure.traceback_text
    assert ("tried" in str(outcome_of(ledger).error("j"))) is (attempts > 1)


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_a_chunk_that_always_kills_its_worker_is_given_up(world: World, attempts: int) -> None:
    """It runs exactly `max_attempts` times; the failure names the chunk and says that its worker was lost."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if number == 1:
            raise WorkerDied
        return number

    deed.act = act
    ledger = world.launch(doing(deed), {"numbers": [0, 1, 2]}, max_attempts=attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert deed.runs.count(1) == attempts
    assert (failure.step, failure.error, failure.chunk, failure.attempts) == ("process", "WorkerLost", 1, attempts)


@pytest.mark.parametrize("pattern", ["rd", "dr", "rdr", "drd", "rrd", "ddr"])
def test_raising_and_dying_count_together(world: World, pattern: str) -> None:
    """However runs that raise and runs that die alternate, there are at most `max_attempts`."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if pattern[(run - 1) % len(pattern)] == "d":
            raise WorkerDied
        raise ValueError("no")

    deed.act = act
    ledger = world.launch(doing(deed), {"numbers": [1]}, max_attempts=4)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert len(deed.runs) == 4
    assert failure.attempts == 4
    assert failure.error == ("WorkerLost" if pattern[3 % len(pattern)] == "d" else "ValueError")


def test_a_worker_that_dies_once_costs_one_more_run(world: World) -> None:
    """A chunk whose first worker was killed succeeds on its second."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if number == 1 and run == 1:
            raise WorkerDied
        return number

    deed.act = act
    ledger = world.launch(doing(deed), {"numbers": [0, 1, 2]})
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == [0, 1, 2]
    assert sorted(deed.runs) == [0, 1, 1, 2]


def test_a_redelivered_chunk_that_is_done_is_not_run(world: World) -> None:
    """Its receiver looks for the end in place of the worker that died in front of it."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    run_process(world.runtime, world.refs[0])
    assert len(world.dispatcher.joins) == 1
    run_process(world.process(), world.refs[0], Delivery(redelivered=True))
    assert deed.runs == [1]
    assert len(world.dispatcher.joins) == 2
    assert ledger.attempts(process_step(world.refs[0].setup_id, 0)).count == 0


def test_a_nudged_chunk_that_somebody_works_on_is_left_alone(world: World) -> None:
    """A message that a sweep sent does nothing while another worker beats for the chunk."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    def act(number: int, run: int) -> int:
        if run == 1:
            run_process(world.process(), ref)
        return number

    deed.act = act
    run_process(world.process(), ref)
    assert deed.runs == [1]
    assert ledger.finished_chunks(ref.setup_id) == [0]


def test_of_many_nudged_messages_one_runs_its_chunk(world: World) -> None:
    """Those that arrive while a try has just begun, its first beat not written yet, are neither runs nor tries."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    def crowd(verb: str, key: str) -> None:
        if verb == "put" and "/heartbeats/" in key:
            world.store.after = lambda verb, key: None
            world.store.delete([key])
            for _ in range(5):
                run_process(world.process(), ref)

    world.store.after = crowd
    run_process(world.process(), ref)
    assert deed.runs == [1]
    assert ledger.finished_chunks(ref.setup_id) == [0]
    assert ledger.attempts(process_step(ref.setup_id, 0)).count == 1


@pytest.mark.parametrize("outages", [1, 5])
def test_an_outage_is_no_try_of_a_nudged_chunk(world: World, outages: int) -> None:
    """A message that a sweep sent is put off as often as the store is silent, and then gives its result."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    def fail(verb: str, key: str) -> None:
        if verb == "put" and "/results/" in key:
            raise StorageUnavailable(f"{verb} {key}", key=key)

    world.store.before = fail
    for outage in range(outages):
        with pytest.raises(StorageUnavailable):
            run_process(world.process(), ref, Delivery(resumed=outage > 0))
    world.store.before = lambda verb, key: None
    run_process(world.process(), ref, Delivery(resumed=True))
    assert ledger.finished_chunks(ref.setup_id) == [0]
    assert ledger.attempts(process_step(ref.setup_id, 0)).count == 1


def test_a_redelivered_message_of_a_sweep_that_never_began_is_no_lost_try(world: World) -> None:
    """A run that such a message began would be on record; the one that is was begun by another, who is at work."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]}, max_attempts=2)
    ref = replace(world.refs[0], resent=True)
    step = process_step(ref.setup_id, 0)

    def act(number: int, run: int) -> int:
        if run == 1:
            world.store.age(10**6, ledger.keys.attempts(step))
            run_process(world.process(), replace(ref, attempts=1), Delivery(redelivered=True))
            run_process(world.process(), replace(ref, attempts=1), Delivery(redelivered=True, resumed=True))
        return number

    deed.act = act
    run_process(world.process(), ref)
    assert deed.runs == [1]
    assert ledger.attempts(step).count == 1
    assert ledger.finished_chunks(ref.setup_id) == [0]


@pytest.mark.parametrize("how", ["nudged", "redelivered"])
def test_a_chunk_that_the_store_failed_is_not_lost(world: World, how: str) -> None:
    """Once it is on record that a run was put off, it is no try, whoever goes on with the chunk and however late."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]}, max_attempts=1 if how == "nudged" else 2)
    ref = replace(world.refs[0], resent=how == "nudged")
    step = process_step(ref.setup_id, 0)
    world.store.before = refusing("/results/")
    with pytest.raises(StorageUnavailable):
        run_process(world.process(), ref, Delivery(redelivered=how == "redelivered"))
    world.store.before = lambda verb, key: None
    world.store.age(10**6)
    run_process(world.process(), replace(ref, resent=True, attempts=ledger.last_attempts(ref.setup_id)[0]))
    assert ledger.finished_chunks(ref.setup_id) == [0]
    assert len(deed.runs) == 2
    assert ledger.attempts(step).count == (1 if how == "nudged" else 2)


@pytest.mark.parametrize("way", ["by a sweep", "by its own message"])
@pytest.mark.parametrize("pattern", ["odd", "dod", "ood", "dodo", "ror", "rord", "doror"])
def test_outages_do_not_add_to_the_runs_of_a_chunk(world: World, pattern: str, way: str) -> None:
    """However runs that the store fails (o), that die (d) and that raise (r) alternate, all but the first count."""
    deed = Deed()

    def act(number: int, run: int) -> Any:
        fate = pattern[(run - 1) % len(pattern)]
        raise {"d": WorkerDied, "r": ValueError("no"), "o": StorageUnavailable("no answer", key="k")}[fate]

    deed.act = act
    ledger = world.prepare(doing(deed), {"numbers": [1]}, max_attempts=3)
    ref, how = world.refs[0], FIRST
    while not ledger.has_outcome():
        sent = len(world.dispatcher.chunks)
        try:
            run_process(world.process(), ref, how)
            ref, how = (world.refs[-1] if len(world.dispatcher.chunks) > sent else ref), FIRST
        except WorkerDied:
            how = Delivery(redelivered=True)
        except StorageUnavailable:
            how = Delivery(resumed=True)
            if way == "by a sweep":
                world.store.age(10**6)
                how, ref = FIRST, replace(ref, resent=True, attempts=ledger.last_attempts(ref.setup_id)[0])
    fates = [pattern[run % len(pattern)] for run in range(len(deed.runs))]
    assert len(fates) - fates.count("o") == 3
    assert failure_of(ledger).attempts == 3


def test_a_chunk_of_which_nothing_is_heard_is_given_up_for_what_is_known(world: World) -> None:
    """Where the store took no record of an outage, the failure says that there was silence, and what may explain it."""
    ledger = world.prepare(doing(Deed()), {"numbers": [1]}, max_attempts=1)
    ref = replace(world.refs[0], resent=True)
    world.store.before = refusing("/results/", ".interrupted")
    with pytest.raises(StorageUnavailable):
        run_process(world.process(), ref)
    world.store.before = lambda verb, key: None
    world.store.age(10**6)
    run_process(world.process(), replace(ref, attempts=1))
    failure = failure_of(ledger)
    assert (failure.error, failure.chunk, failure.attempts) == ("WorkerLost", 0, 1)
    assert failure.reason.startswith("its worker wrote no heartbeat for 60 s: ")
    assert "could not reach the store" in failure.reason


def test_of_many_redelivered_messages_each_try_is_run_once(world: World) -> None:
    """Of several whose workers died, the one that puts the try on record first runs it."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    ref = world.refs[0]

    def overtake(verb: str, key: str) -> None:
        if verb == "put" and key == ledger.keys.attempt(process_step(ref.setup_id, 0), 2):
            world.store.before = lambda verb, key: None
            run_process(world.process(), ref, Delivery(redelivered=True))

    world.store.before = overtake
    run_process(world.process(), ref, Delivery(redelivered=True))
    assert deed.runs == [1]


def test_a_silent_store_does_not_hide_that_the_job_has_ended(world: World) -> None:
    """A worker whose look for the outcome got no answer looks again before its next chunk."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]})
    runtime = world.process()
    conclude(
        world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x")
    )

    def refuse(verb: str, key: str) -> None:
        if key == ledger.keys.outcome:
            raise StorageUnavailable(f"{verb} {key}", key=key)

    world.store.before = refuse
    with pytest.raises(StorageUnavailable):
        run_process(runtime, world.refs[0])
    world.store.before = lambda verb, key: None
    run_process(runtime, world.refs[0])
    assert deed.runs == []


def test_a_message_of_an_attempt_that_lost_is_dropped(world: World) -> None:
    """A worker that knows the manifest does not even read the pack of another attempt."""
    deed = Deed()
    world.prepare(doing(deed), {"numbers": [1]})
    world.runtime.job(world.refs[0].job_id).manifest()
    world.store.log.clear()
    run_process(world.runtime, replace(world.refs[0], setup_id="other"))
    assert deed.runs == []
    assert {verb for verb, _ in world.store.log} <= {"head"}


def test_a_message_of_a_removed_job_is_dropped(world: World) -> None:
    """A worker that finds no intent does nothing and complains to nobody."""
    ledger = world.launch(Numbers, {"numbers": [1]})
    world.dispatcher.drain(world.runtime)
    remove_job(world.store, ledger.job_id)
    run_process(world.process(), world.refs[0])
    assert world.store.keys() == []


def test_a_chunk_of_an_ended_job_is_dropped(world: World) -> None:
    """A worker that sees the outcome does not run the step."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1, 2]})
    conclude(
        world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x")
    )
    world.dispatcher.drain(world.process())
    assert deed.runs == []


def test_a_result_that_cannot_travel_names_its_item(world: World) -> None:
    """The failure has the path of the value, with the item's index over the whole job."""
    deed = Deed()
    deed.act = lambda number, run: {"rows": [object()]} if number == 4 else number
    ledger = world.launch(doing(deed), {"numbers": list(range(6))}, chunk_items=3)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.error, failure.chunk, failure.item) == ("Unencodable", 1, 4)
    assert failure.reason.startswith("results[4].rows[0] is a builtins.object")


def test_a_damaged_pack_fails_the_job_with_its_key(world: World) -> None:
    """One flipped byte is found, tried again, and named."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    key = ledger.keys.pack(world.refs[0].setup_id, 0)
    world.store.flip(key, at=world.refs[0].location.slice_.offset + 5)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.chunk, failure.item) == ("process", "CorruptObject", 0, None)
    assert key in failure.reason
    assert failure.attempts == 3


def test_a_missing_pack_fails_the_job_with_its_key(world: World) -> None:
    """An input that somebody deleted is tried again, and named."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    key = ledger.keys.pack(world.refs[0].setup_id, 0)
    world.store.delete([key])
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("process", "ObjectNotFound")
    assert key in failure.reason


@pytest.mark.parametrize("number", range(1, 8))
def test_a_store_that_fails_at_any_request_passes_through(world: World, number: int) -> None:
    """Whichever request of process fails, the error reaches the engine, and the redelivered message succeeds."""
    ledger = world.prepare(Numbers, {"numbers": [1]})
    requests = iter(range(1, 10**6))

    def fail(verb: str, key: str) -> None:
        if next(requests) == number:
            raise StorageUnavailable(f"{verb} {key}", key=key)

    world.store.before = fail
    with pytest.raises(StorageUnavailable):
        world.dispatcher.deliver(world.process())
    world.store.before = lambda verb, key: None
    world.dispatcher.drain(world.process())
    assert ledger.value(outcome_of(ledger)) == [1]


def test_a_chunk_that_has_a_result_is_not_given_up(world: World) -> None:
    """Of two messages for a chunk one succeeds; that the other one raises to the end does no harm."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1, 2]}, max_attempts=1)
    run_process(world.runtime, world.refs[0])

    def act(number: int, run: int) -> int:
        if number == 1:
            raise ValueError("the second time it fails")
        return number

    deed.act = act
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).status == OutcomeStatus.SUCCEEDED


def test_a_worker_that_dies_while_it_gives_up_loses_no_failure(world: World) -> None:
    """A chunk that failed fails the job, also where its worker died between the result and the outcome."""
    deed = Deed()

    def act(number: int, run: int) -> int:
        if number == 1:
            raise ValueError("no")
        return number

    def die(verb: str, key: str) -> None:
        if key.endswith("/outcome") and verb == "put":
            world.store.before = lambda verb, key: None
            raise WorkerDied

    deed.act = act
    world.store.before = die
    ledger = world.launch(doing(deed, len), {"numbers": [0, 1, 2]}, max_attempts=1)
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).status == OutcomeStatus.FAILED


def test_a_cancelled_chunk_stops_between_items() -> None:
    """A worker notices within a tick that the job has ended, and writes no result."""
    world = World(stall_s=0.03)
    ended = threading.Event()

    class Slow(ForkJoinTask):
        input_schema: Any = {}
        chunk_items = 1000

        def setup():
            return [{"number": number} for number in range(1000)]

        def process(number):
            seen.append(number)
            if number == 1:
                job = world.runtime.job(ledger.job_id)
                conclude(world.runtime, job, OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x"))
                assert ended.wait(30)
            return number

        def join(results):
            return list(results)

    seen: list[int] = []
    ledger = world.prepare(Slow, {})
    looked: list[str] = []

    def look(verb: str, key: str) -> None:
        """Let process go on at the first request that the heartbeat makes after it has seen the outcome."""
        if threading.current_thread().name.startswith("fanout-heartbeat"):
            if looked:
                ended.set()
            elif verb == "head" and world.store.keys(ledger.keys.outcome):
                looked.append(key)

    world.store.before = look
    run_process(world.process(), world.refs[0])
    assert seen == [0, 1]
    assert ledger.finished_chunks(world.refs[0].setup_id) == []


def test_parameters_reach_process_and_are_fetched_once() -> None:
    """A large parameter costs one request, whatever the number of chunks: here one of setup, one of process."""
    world = World(inline_bytes=10)
    ledger = world.launch(Words, {"documents": ["a-b"] * 20, "delimiter": "-"}, chunk_items=1)
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == {"a": 20, "b": 20}
    assert sum(key.startswith("_parameters/") for verb, key in world.store.log if verb == "get") == 2


def test_results_of_a_chunk_are_whole(world: World) -> None:
    """The record of a chunk holds its place, its values, and what it cost."""
    ledger = world.launch(FailingTask, {"step": "none", "numbers": [5, 6, 7]})
    world.dispatcher.drain(world.runtime)
    setup_id = world.refs[0].setup_id
    result = ledger.result(setup_id, 1)
    assert isinstance(result, ChunkResult)
    assert (result.first_item, result.items, result.failed) == (2, 1, None)
    assert chunk_values(ledger, setup_id, 0) == [5, 6]
    started_at, ended_at, peak_bytes, worker = result.stats
    assert 0 < started_at <= ended_at
    assert peak_bytes > 10**6
    assert ":" in worker


def test_an_undeclared_task_fails_the_job(world: World) -> None:
    """A worker that lacks the task's module says so in the failure."""
    ledger = world.prepare(Numbers, {"numbers": [1]})
    from fanout.declaration.definition import Registry
    from fanout.runtime import Runtime

    stranger = Runtime(world.store, world.config, world.dispatcher, tasks=Registry())
    world.dispatcher.drain(stranger)
    failure = failure_of(ledger)
    assert failure.error == "UnknownTask"
    assert "import its module here" in failure.reason


def test_a_run_that_was_stopped_at_its_limit_is_a_try(world: World) -> None:
    """Runs that overran count as tries, each with the limit in its record; after the last the job fails with it."""
    deed = Deed()
    ledger = world.prepare(doing(deed), {"numbers": [1]}, max_attempts=3)
    ref = world.refs[0]
    step = process_step(ref.setup_id, 0)

    def die(number: int, run: int) -> None:
        raise WorkerDied

    deed.act = die
    for run in (1, 2):
        with pytest.raises(WorkerDied):
            run_process(world.process(), ref, Delivery(overran_s=30.0))
        assert ledger.attempts(step).count == run + 1
        noted = ledger.last_failure(step, run)
        assert noted is not None
        assert (noted.error, noted.chunk, noted.attempts) == ("TimeLimitExceeded", 0, run)
    run_process(world.process(), ref, Delivery(overran_s=30.0))
    assert deed.runs == [1, 1], "a first run that left no record, and two that are seen here"
    assert ledger.attempts(step).count == 3
    failure = failure_of(ledger)
    assert (failure.error, failure.attempts) == ("TimeLimitExceeded", 3)
    assert "task_time_limit = 30 s" in failure.reason
    assert "chunk_items" in failure.reason


def test_what_was_noted_on_an_exception_is_part_of_its_reason() -> None:
    """Notes that were added to an exception reach whoever reads of the failure."""
    error = ValueError("wrong")
    error.add_note("try less")
    assert Failure.of("process", error).reason == "wrong; try less"
    assert Failure.of("process", ValueError("wrong")).reason == "wrong"
