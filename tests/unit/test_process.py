"""Process runs each chunk until it has a result, at most `max_attempts` times."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from fanout import ForkJoinTask
from fanout.abc import FIRST, Delivery
from fanout.background.debouncer import Debouncer
from fanout.engines.stub import WorkerDied
from fanout.records.batch import ResultEntry
from fanout.records.failure import Failure
from fanout.records.keys import process_step
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, OutcomeStatus
from fanout.removal import remove_job
from fanout.stages import conclude, run_process
from fanout.stages.result_reader import entry_values
from storage import StorageUnavailable
from tests.stores import fail_each_request, kind_of
from tests.tasks import FailingTask

from .behaviour import ItemBehaviour, failure_of, outcome_of, task_with
from .tasks import Numbers, Words
from .world import World


def finished_chunks(ledger: Ledger, setup_id: str) -> list[int]:
    """Return the indices of the chunks that have a result, in the order of the listing."""
    return [entry.index for entry in ledger.result_entries(setup_id)]


@pytest.mark.parametrize(("size", "container"), [(1, list), (100_000, list), (100_000, iter)])
def test_a_chunk_costs_three_requests_without_failures(world: World, size: int, container: Any) -> None:
    """A chunk costs one ranged read, one write and one listing. A small chunk is read with its neighbour.

    The small chunk then costs two requests. A chunk that refers to a byte range of a parameter reads that range.
    """
    ledger = world.launch(Words, {"documents": container(["x" * size] * 4)}, chunk_items=1)
    if container is list:
        world.dispatcher.deliver(world.runtime)
    runtime = world.process()
    run_process(runtime, world.refs[0])
    world.store.log.clear()
    run_process(runtime, world.refs[1])
    kinds = [(verb, kind_of(key)) for verb, key in world.store.log]
    read = "_parameters" if container is list else "input"
    assert kinds == [("get", read), ("put", "results"), ("list", "results")][size == 1 :]
    assert finished_chunks(ledger, world.refs[0].setup_id) == [0, 1]


def test_a_worker_with_several_chunks_of_a_group_checks_once(world: World) -> None:
    """Before the last chunks of a group, the worker defers the completion check until it is idle, and checks once."""
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
        # Each of the last four chunks checks at once. The last one knows all others, and lists nothing.
        assert len([key for verb, key in world.store.log if verb == "list"]) == 4
        assert len(world.dispatcher.joins) == 1


def test_a_late_completion_check_starts_no_second_join(world: World) -> None:
    """A deferred completion check that runs after other workers completed the job starts no second join."""
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


def test_a_deferred_completion_check_starts_the_join(world: World) -> None:
    """If the last result is not one of the last chunks, the deferred completion check starts the join."""
    world.prepare(Numbers, {"numbers": list(range(6))}, chunk_items=1)
    runtime = world.process()
    runtime.debouncer = Debouncer()
    with runtime.debouncer.work():
        for ref in reversed(world.refs):
            run_process(runtime, ref)
        assert not world.dispatcher.joins
        runtime.debouncer.flush()
    assert len(world.dispatcher.joins) == 1


def test_a_resent_chunk_is_followed_by_a_check_at_once(world: World) -> None:
    """A worker does not defer the completion check after a chunk that a sweep resent."""
    world.prepare(Numbers, {"numbers": list(range(6))}, chunk_items=1)
    runtime = world.process()
    runtime.debouncer = Debouncer()
    with runtime.debouncer.work():
        for ref in world.refs[1:]:
            run_process(world.runtime, ref)
        run_process(runtime, replace(world.refs[0], resent=True))
    assert len(world.dispatcher.joins) == 1


def test_a_step_that_raises_runs_again(world: World) -> None:
    """A step that raises twice and then returns costs three attempts, and nothing else runs again."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 1 and run < 3:
            raise ValueError("not yet")
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": [0, 1, 2]})
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == [0, 1, 2]
    assert behaviour.runs.count(1) == 3
    assert [message.ref.attempts for message in world.dispatcher.chunks if message.ref.chunk == 1] == [0, 1, 2]


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_a_step_that_always_raises_fails_the_job(world: World, attempts: int) -> None:
    """The chunk runs `max_attempts` times. The failure has the chunk, the item, the reason, traceback and attempts."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 7:
            raise ValueError(f"no, {run}")
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": list(range(9))}, chunk_items=3, max_attempts=attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert behaviour.runs.count(7) == attempts
    assert (failure.step, failure.error, failure.reason) == ("process", "ValueError", f"no, {attempts}")
    assert (failure.chunk, failure.item, failure.attempts) == (2, 7, attempts)
    assert "in process" in failure.traceback_text
    assert ("tried" in str(outcome_of(ledger).error("j"))) is (attempts > 1)


@pytest.mark.parametrize("attempts", [1, 2, 3, 7])
def test_a_chunk_that_always_kills_its_worker_is_given_up(world: World, attempts: int) -> None:
    """The chunk runs `max_attempts` times. The failure names the chunk and says that its worker was lost."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 1:
            raise WorkerDied
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": [0, 1, 2]}, max_attempts=attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert behaviour.runs.count(1) == attempts
    assert (failure.step, failure.error, failure.chunk, failure.attempts) == ("process", "WorkerLost", 1, attempts)


@pytest.mark.parametrize("pattern", ["rd", "dr", "rdr", "drd", "rrd", "ddr"])
def test_raising_and_dying_count_together(world: World, pattern: str) -> None:
    """If attempts that raise and attempts that kill the worker alternate, there are at most `max_attempts` in all."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if pattern[(run - 1) % len(pattern)] == "d":
            raise WorkerDied
        raise ValueError("no")

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": [1]}, max_attempts=4)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert len(behaviour.runs) == 4
    assert failure.attempts == 4
    assert failure.error == ("WorkerLost" if pattern[3 % len(pattern)] == "d" else "ValueError")


def test_a_worker_that_dies_once_costs_one_more_run(world: World) -> None:
    """A chunk whose first worker was killed succeeds on a second worker."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 1 and run == 1:
            raise WorkerDied
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour), {"numbers": [0, 1, 2]})
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == [0, 1, 2]
    assert sorted(behaviour.runs) == [0, 1, 1, 2]


def test_a_redelivered_chunk_that_is_done_is_not_run(world: World) -> None:
    """The worker that receives the message again checks whether the job is complete, and starts the join."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    run_process(world.runtime, world.refs[0])
    assert len(world.dispatcher.joins) == 1
    run_process(world.process(), world.refs[0], Delivery(redelivered=True))
    assert behaviour.runs == [1]
    assert len(world.dispatcher.joins) == 2
    assert ledger.attempts(process_step(world.refs[0].setup_id, 0)).count == 0


def test_a_resent_chunk_that_a_worker_runs_is_left_alone(world: World) -> None:
    """A resent message does nothing while another worker writes heartbeats for the chunk."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    def act(number: int, run: int) -> int:
        if run == 1:
            run_process(world.process(), ref)
        return number

    behaviour.act = act
    run_process(world.process(), ref)
    assert behaviour.runs == [1]
    assert finished_chunks(ledger, ref.setup_id) == [0]


def test_of_many_resent_messages_one_runs_its_chunk(world: World) -> None:
    """Resent messages that arrive before the first heartbeat of an attempt cause no runs and no attempts."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    def deliver_copies() -> None:
        world.store.delete([ledger.keys.heartbeat(process_step(ref.setup_id, 0))])
        for _ in range(5):
            run_process(world.process(), ref)

    world.store.after_first("/heartbeats/", deliver_copies)
    run_process(world.process(), ref)
    assert behaviour.runs == [1]
    assert finished_chunks(ledger, ref.setup_id) == [0]
    assert ledger.attempts(process_step(ref.setup_id, 0)).count == 1


@pytest.mark.parametrize("outages", [1, 5])
def test_an_outage_is_no_attempt_of_a_resent_chunk(world: World, outages: int) -> None:
    """A run of a resent message is interrupted as often as the store is silent, and then writes its result."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    ref = replace(world.refs[0], resent=True)

    for outage in range(outages):
        with world.store.failing("put", "/results/"), pytest.raises(StorageUnavailable):
            run_process(world.process(), ref, Delivery(resumed=outage > 0))
    run_process(world.process(), ref, Delivery(resumed=True))
    assert finished_chunks(ledger, ref.setup_id) == [0]
    assert ledger.attempts(process_step(ref.setup_id, 0)).count == 1


def test_a_redelivered_resent_message_whose_run_never_began_is_no_lost_attempt(world: World) -> None:
    """The worker leaves the chunk alone, because another worker began the recorded attempt and still runs it."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=2)
    ref = replace(world.refs[0], resent=True)
    step = process_step(ref.setup_id, 0)

    def act(number: int, run: int) -> int:
        if run == 1:
            world.store.age(10**6, ledger.keys.attempts(step))
            run_process(world.process(), replace(ref, attempts=1), Delivery(redelivered=True))
            run_process(world.process(), replace(ref, attempts=1), Delivery(redelivered=True, resumed=True))
        return number

    behaviour.act = act
    run_process(world.process(), ref)
    assert behaviour.runs == [1]
    assert ledger.attempts(step).count == 1
    assert finished_chunks(ledger, ref.setup_id) == [0]


def test_a_redelivered_message_leaves_the_run_of_another_one(world: World) -> None:
    """The run for another message is no lost run of this one. Its own message, redelivered, finds that it was lost."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=2)
    ref = replace(world.refs[0], resent=True)
    step = process_step(ref.setup_id, 0)

    def act(number: int, run: int) -> int:
        if run == 1:
            for _ in range(3):
                run_process(world.process(), world.refs[0], Delivery(message="first", redelivered=True))
            assert ledger.attempts(step).count == 1
            raise WorkerDied
        return number

    behaviour.act = act
    with pytest.raises(WorkerDied):
        run_process(world.process(), ref, Delivery(message="second"))
    assert behaviour.runs == [1]
    run_process(world.process(), ref, Delivery(message="second", redelivered=True))
    assert behaviour.runs == [1, 1]
    assert ledger.attempts(step).count == 2
    assert finished_chunks(ledger, ref.setup_id) == [0]


def test_a_redelivered_message_goes_on_after_a_silent_run_of_another_one(world: World) -> None:
    """If the run for the other message wrote no heartbeat for `stall_s`, it was lost, and counts as an attempt."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=2)
    ref = replace(world.refs[0], resent=True)

    def die(number: int, run: int) -> int:
        raise WorkerDied

    behaviour.act = die
    with pytest.raises(WorkerDied):
        run_process(world.process(), ref, Delivery(message="second"))
    world.store.age(10**6)
    behaviour.act = lambda number, run: number
    run_process(world.process(), world.refs[0], Delivery(message="first", redelivered=True))
    assert behaviour.runs == [1, 1]
    assert ledger.attempts(process_step(ref.setup_id, 0)).count == 2
    assert finished_chunks(ledger, ref.setup_id) == [0]


@pytest.mark.parametrize("how", ["resent", "redelivered"])
def test_an_interrupted_run_uses_up_no_attempt(world: World, how: str) -> None:
    """A run that is recorded as interrupted does not use up an attempt, however late another worker takes the chunk."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=1 if how == "resent" else 2)
    ref = replace(world.refs[0], resent=how == "resent")
    step = process_step(ref.setup_id, 0)
    with world.store.failing("put", "/results/"), pytest.raises(StorageUnavailable):
        run_process(world.process(), ref, Delivery(redelivered=how == "redelivered"))
    world.store.age(10**6)
    run_process(world.process(), replace(ref, resent=True, attempts=ledger.last_attempts(ref.setup_id)[0]))
    assert finished_chunks(ledger, ref.setup_id) == [0]
    assert len(behaviour.runs) == 2
    assert ledger.attempts(step).count == (1 if how == "resent" else 2)


@pytest.mark.parametrize("way", ["by a sweep", "by its own message"])
@pytest.mark.parametrize("pattern", ["odd", "dod", "ood", "dodo", "ror", "rord", "doror"])
def test_outages_do_not_add_to_the_runs_of_a_chunk(world: World, pattern: str, way: str) -> None:
    """Runs that the store interrupts (o), that die (d) and that raise (r) alternate. Interrupted runs do not count."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> Any:
        fate = pattern[(run - 1) % len(pattern)]
        raise {"d": WorkerDied, "r": ValueError("no"), "o": StorageUnavailable("no answer", key="k")}[fate]

    behaviour.act = act
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=3)
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
    fates = [pattern[run % len(pattern)] for run in range(len(behaviour.runs))]
    assert len(fates) - fates.count("o") == 3
    assert failure_of(ledger).attempts == 3


def test_a_chunk_without_heartbeats_is_given_up_as_silent(world: World) -> None:
    """If the store took no record of an interruption, the failure says that the worker was silent, and why perhaps."""
    ledger = world.prepare(task_with(ItemBehaviour()), {"numbers": [1]}, max_attempts=1)
    ref = replace(world.refs[0], resent=True)
    with world.store.failing("put", "/results/", ".interrupted"), pytest.raises(StorageUnavailable):
        run_process(world.process(), ref)
    world.store.age(10**6)
    run_process(world.process(), replace(ref, attempts=1))
    failure = failure_of(ledger)
    assert (failure.error, failure.chunk, failure.attempts) == ("WorkerLost", 0, 1)
    assert failure.reason.startswith("its worker wrote no heartbeat for 60 s: ")
    assert "could not reach the store" in failure.reason


def test_of_many_redelivered_messages_each_attempt_runs_once(world: World) -> None:
    """Of several workers that receive the message again, the one that records the attempt first runs the chunk."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    ref = world.refs[0]

    second = ledger.keys.attempt(process_step(ref.setup_id, 0), 2)
    again = Delivery(redelivered=True)
    world.store.before_first("put", second, lambda: run_process(world.process(), ref, again))
    run_process(world.process(), ref, again)
    assert behaviour.runs == [1]


def test_a_silent_store_does_not_hide_that_the_job_has_ended(world: World) -> None:
    """A worker whose request for the outcome got no answer asks again before its next chunk."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]})
    runtime = world.process()
    conclude(
        world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x")
    )

    with world.store.failing("", ledger.keys.outcome), pytest.raises(StorageUnavailable):
        run_process(runtime, world.refs[0])
    run_process(runtime, world.refs[0])
    assert behaviour.runs == []


def test_a_message_of_a_superseded_setup_is_dropped(world: World) -> None:
    """A worker that knows the manifest does not read the pack of a superseded setup."""
    behaviour = ItemBehaviour()
    world.prepare(task_with(behaviour), {"numbers": [1]})
    world.runtime.job(world.refs[0].job_id).manifest()
    world.store.log.clear()
    run_process(world.runtime, replace(world.refs[0], setup_id="other"))
    assert behaviour.runs == []
    assert {verb for verb, _ in world.store.log} <= {"head"}


def test_a_message_of_a_removed_job_is_dropped(world: World) -> None:
    """A worker that finds no intent drops the message without an error."""
    ledger = world.launch(Numbers, {"numbers": [1]})
    world.dispatcher.drain(world.runtime)
    remove_job(world.store, ledger.job_id)
    run_process(world.process(), world.refs[0])
    assert world.store.keys() == []


def test_a_chunk_of_an_ended_job_is_dropped(world: World) -> None:
    """A worker that sees the outcome does not run the step."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1, 2]})
    conclude(
        world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x")
    )
    world.dispatcher.drain(world.process())
    assert behaviour.runs == []


def test_a_result_that_cannot_be_encoded_names_its_item(world: World) -> None:
    """The failure has the path of the value, with the item's index in the whole job."""
    behaviour = ItemBehaviour()
    behaviour.act = lambda number, run: {"rows": [object()]} if number == 4 else number
    ledger = world.launch(task_with(behaviour), {"numbers": list(range(6))}, chunk_items=3)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.error, failure.chunk, failure.item) == ("Unencodable", 1, 4)
    assert failure.reason.startswith("results[4].rows[0] is a builtins.object")


def test_a_damaged_pack_fails_the_job_with_its_key(world: World) -> None:
    """A chunk whose pack has a flipped byte runs three times. The failure names the pack's key."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    key = ledger.keys.pack(world.refs[0].setup_id, 0)
    world.store.flip(key, at=world.refs[0].location.slice_.offset + 5)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.chunk, failure.item) == ("process", "CorruptObject", 0, None)
    assert key in failure.reason
    assert failure.attempts == 3


def test_a_missing_pack_fails_the_job_with_its_key(world: World) -> None:
    """A chunk whose pack was deleted runs again and then fails the job. The failure names the pack's key."""
    ledger = world.prepare(Numbers, {"numbers": [1, 2]})
    key = ledger.keys.pack(world.refs[0].setup_id, 0)
    world.store.delete([key])
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("process", "ObjectNotFound")
    assert key in failure.reason


def test_a_store_that_fails_at_any_request_passes_through() -> None:
    """If the store fails at any request of process, the error reaches the engine. The redelivered message succeeds."""
    for fault in fail_each_request():
        world = World()
        ledger = world.prepare(Numbers, {"numbers": [1]})
        raised = False
        with world.store.injecting(fault):
            try:
                world.dispatcher.deliver(world.process())
            except StorageUnavailable:
                raised = True
        assert raised == bool(fault.injected), fault
        world.dispatcher.drain(world.process())
        assert ledger.value(outcome_of(ledger)) == [1]


def test_a_chunk_that_has_a_result_is_not_given_up(world: World) -> None:
    """Of two messages for a chunk the first one succeeds. The second one, whose last attempt raises, does no harm."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1, 2]}, max_attempts=1)
    run_process(world.runtime, world.refs[0])

    def act(number: int, run: int) -> int:
        if number == 1:
            raise ValueError("the second time it fails")
        return number

    behaviour.act = act
    world.dispatcher.drain(world.runtime)
    assert outcome_of(ledger).status == OutcomeStatus.SUCCEEDED


def test_a_worker_that_dies_while_it_fails_the_job_loses_no_failure(world: World) -> None:
    """A chunk that failed fails the job, also if its worker died between the result and the outcome."""
    behaviour = ItemBehaviour()

    def act(number: int, run: int) -> int:
        if number == 1:
            raise ValueError("no")
        return number

    behaviour.act = act
    ledger = world.launch(task_with(behaviour, len), {"numbers": [0, 1, 2]}, max_attempts=1)
    with world.store.failing("put", "/outcome", times=1, error=WorkerDied) as fault:
        world.dispatcher.drain(world.runtime)
    assert fault.injected == 1
    assert outcome_of(ledger).status == OutcomeStatus.FAILED


def test_a_cancelled_chunk_stops_between_items() -> None:
    """A worker notices at a heartbeat that the job has ended, and writes no result."""
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
    outcome_requests: list[str] = []

    def release_process(verb: str, key: str) -> None:
        """Let process continue at the first request that the heartbeat makes after it has seen the outcome."""
        if threading.current_thread().name.startswith("fanout-heartbeat"):
            if outcome_requests:
                ended.set()
            elif verb == "head" and world.store.keys(ledger.keys.outcome):
                outcome_requests.append(key)

    world.store.before = release_process
    run_process(world.process(), world.refs[0])
    assert seen == [0, 1]
    assert finished_chunks(ledger, world.refs[0].setup_id) == []


def test_parameters_reach_process_and_are_fetched_once() -> None:
    """A large parameter costs one request of setup and one of process, with any number of chunks."""
    world = World(inline_bytes=10)
    ledger = world.launch(Words, {"documents": ["a-b"] * 20, "delimiter": "-"}, chunk_items=1)
    world.dispatcher.drain(world.runtime)
    assert ledger.value(outcome_of(ledger)) == {"a": 20, "b": 20}
    assert sum(key.startswith("_parameters/") for verb, key in world.store.log if verb == "get") == 2


def test_the_record_of_a_chunk_is_complete(world: World) -> None:
    """The record of a chunk has the chunk's items, its values and its run stats."""
    ledger = world.launch(FailingTask, {"step": "none", "numbers": [5, 6, 7]})
    world.dispatcher.drain(world.runtime)
    setup_id = world.refs[0].setup_id
    result = ledger.result(setup_id, 1)
    assert isinstance(result, ChunkResult)
    assert (result.first_item, result.items, result.failed) == (2, 1, None)
    assert entry_values(ledger, setup_id, ResultEntry(0)) == [5, 6]
    started_at, ended_at, peak_bytes, worker = result.stats[:4]
    assert 0 < started_at <= ended_at
    assert peak_bytes > 10**6
    assert ":" in worker


def test_an_undeclared_task_fails_the_job(world: World) -> None:
    """If a worker lacks the task's module, the failure says so."""
    ledger = world.prepare(Numbers, {"numbers": [1]})
    from fanout.declaration.definition import Registry
    from fanout.runtime import Runtime

    runtime_without_task = Runtime(world.store, world.config, world.dispatcher, tasks=Registry())
    world.dispatcher.drain(runtime_without_task)
    failure = failure_of(ledger)
    assert failure.error == "UnknownTask"
    assert "import its module here" in failure.reason


def test_a_run_that_reached_its_time_limit_is_an_attempt(world: World) -> None:
    """Runs that reached the time limit count as attempts, each with the limit in its record. The last fails the job."""
    behaviour = ItemBehaviour()
    ledger = world.prepare(task_with(behaviour), {"numbers": [1]}, max_attempts=3)
    ref = world.refs[0]
    step = process_step(ref.setup_id, 0)

    def die(number: int, run: int) -> None:
        raise WorkerDied

    behaviour.act = die
    for run in (1, 2):
        with pytest.raises(WorkerDied):
            run_process(world.process(), ref, Delivery(overran_s=30.0))
        assert ledger.attempts(step).count == run + 1
        recorded = ledger.last_failure(step, run)
        assert recorded is not None
        assert (recorded.error, recorded.chunk, recorded.attempts) == ("TimeLimitExceeded", 0, run)
    run_process(world.process(), ref, Delivery(overran_s=30.0))
    assert behaviour.runs == [1, 1], "a first run that left no record, and two recorded ones"
    assert ledger.attempts(step).count == 3
    failure = failure_of(ledger)
    assert (failure.error, failure.attempts) == ("TimeLimitExceeded", 3)
    assert "task_time_limit = 30 s" in failure.reason
    assert "chunk_items" in failure.reason


def test_notes_of_an_exception_are_part_of_its_reason() -> None:
    """The reason of a failure contains the notes that were added to the exception."""
    error = ValueError("wrong")
    error.add_note("try less")
    assert Failure.of("process", error).reason == "wrong; try less"
    assert Failure.of("process", ValueError("wrong")).reason == "wrong"
