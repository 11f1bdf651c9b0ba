"""One join brings a complete job to its outcome, whichever workers receive its message, and however often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fanout import ForkJoinTask, Results
from fanout.abc import Delivery
from fanout.engines.stub import WorkerDied
from fanout.records.failure import Failure
from fanout.records.keys import JOBS_PREFIX
from fanout.records.ledger import Ledger
from fanout.records.models import Note, Outcome, OutcomeStatus
from fanout.stages import run_join, run_process
from storage import StorageUnavailable
from tests.stores import Fault, fail_each_request
from tests.tasks import FailingTask

from .tasks import KINDS as VALUES
from .tasks import Kinds, Numbers
from .world import World


def joined_by(join: Callable[[Results], Any]) -> type[ForkJoinTask]:
    class Joining(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}}
        chunk_items = 2

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            return number

        def join(results):
            return join(results)

    return Joining


def processed(world: World, task: type[ForkJoinTask] = Numbers, *, items: int = 3, **options: Any) -> Ledger:
    """Return the ledger of a job that lacks only its join."""
    ledger = world.prepare(task, {"numbers": list(range(1, items + 1))}, **options)
    for ref in world.refs:
        run_process(world.runtime, ref)
    world.dispatcher.waiting = world.dispatcher.joins
    return ledger


def failure_of(ledger: Ledger) -> Failure:
    outcome = ledger.outcome()
    assert outcome is not None
    failure = Failure.read(outcome.failure)
    assert failure is not None
    return failure


def test_an_early_join_is_ignored(world: World) -> None:
    """A worker that receives the join message before the manifest, or with chunks missing, claims nothing."""
    ledger = world.launch(Numbers, {"numbers": [1, 2]})
    assert run_join(world.runtime, ledger.job_id) is None
    world.dispatcher.deliver(world.runtime)
    run_process(world.runtime, world.refs[0])
    assert run_join(world.runtime, ledger.job_id) is None
    world.dispatcher.drain(world.runtime)
    assert len(world.dispatcher.deliveries) == 1


def test_of_two_joins_one_runs(world: World) -> None:
    """A second join returns None and runs nothing while the first one runs."""
    runs: list[Any] = []

    def join(results: Results) -> Any:
        runs.append(run_join(world.process(), ledger.job_id) if not runs else "second")
        return sum(results)

    ledger = processed(world, joined_by(join))
    outcome = run_join(world.runtime, ledger.job_id)
    assert outcome is not None
    assert runs == [None]
    assert ledger.value(outcome) == 6
    assert run_join(world.process(), ledger.job_id) is None


@pytest.mark.parametrize("how", [{"resent": True}, {"redelivered": True}])
def test_a_join_whose_worker_died_runs_again(world: World, how: dict[str, bool]) -> None:
    """A resent or redelivered join ignores the claim of a dead worker. After that, it returns the existing outcome."""
    ledger = processed(world)
    assert ledger.claim(0, Note(by="gone"))
    world.store.age(10**6)
    assert run_join(world.runtime, ledger.job_id) is None
    first = run_join(world.process(), ledger.job_id, delivery=Delivery(**how))
    world.store.age(10**6)
    second = run_join(world.process(), ledger.job_id, delivery=Delivery(**how))
    assert isinstance(first, Outcome)
    assert isinstance(second, Outcome)
    assert ledger.value(first) == ledger.value(second) == [1, 2, 3]


@pytest.mark.parametrize("evidence", ["claim", "heartbeat"])
def test_a_running_join_is_not_run_a_second_time(world: World, evidence: str) -> None:
    """A resent join does nothing while the running join has a new claim or heartbeat that the sweep may have missed."""
    ledger = processed(world)
    ledger.claim(0, Note(by="at work"))
    if evidence == "heartbeat":
        world.store.age(10**6)
        ledger.write_heartbeat("join", Note(by="at work"))
    for _ in range(5):
        assert run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True)) is None
    assert ledger.outcome() is None
    assert ledger.attempts("join").count == 0


@pytest.mark.parametrize("how", [{"redelivered": True}, {"requeued": True}])
def test_a_lost_join_leaves_the_claim_of_another_message(world: World, how: dict[str, bool]) -> None:
    """The claim of another message's run is not that of the run that this message lost. Its own message takes it."""
    ledger = processed(world)
    ledger.claim(0, Note(by="at work", message="second"))
    for _ in range(3):
        assert run_join(world.process(), ledger.job_id, delivery=Delivery(message="first", **how)) is None
    assert ledger.outcome() is None
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(message="second", **how))
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


def test_one_of_many_resent_joins_runs(world: World) -> None:
    """Several joins that a sweep sent into a long queue do not count as attempts of each other."""
    runs: list[Any] = []

    def join(results: Results) -> Any:
        runs.append("run")
        assert all(run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True)) is None for _ in range(4))
        return sum(results)

    ledger = processed(world, joined_by(join))
    ledger.claim(0, Note(by="gone"))
    world.store.age(10**6)
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True))
    assert outcome is not None
    assert ledger.value(outcome) == 6
    assert runs == ["run"]


def test_an_interrupted_join_takes_over_only_its_own_claim(world: World) -> None:
    """A run for a message that an outage interrupted continues with that message's claim, and with no other claim."""
    ledger = processed(world)
    ledger.claim(0, Note(by="another"))
    assert run_join(world.process(), ledger.job_id, held=["a", "b"]) is None
    assert run_join(world.process(), ledger.job_id, held=["a", "another"], token="c") is not None
    assert run_join(world.process(), ledger.job_id, held=["a", "another"]) is None
    assert ledger.attempts("join").count == 0


@pytest.mark.parametrize("how", [{"resent": True}, {"redelivered": True}, {}])
def test_a_delivered_outcome_is_not_delivered_again(world: World, how: dict[str, bool]) -> None:
    """Once the store has the record of delivery, every further join returns None."""
    ledger = processed(world)
    assert run_join(world.runtime, ledger.job_id) is not None
    ledger.write_delivered(Note(by="x"))
    assert run_join(world.process(), ledger.job_id, delivery=Delivery(**how)) is None


@pytest.mark.parametrize("delivered", [True, False])
def test_a_join_that_was_considered_dead_delivers_nothing_twice(world: World, delivered: bool) -> None:
    """A join that continues after another one has written and delivered the outcome returns None."""

    def join(results: Results) -> Any:
        if not (values := others):
            values.append(None)
            values[0] = run_join(world.process(), ledger.job_id, delivery=Delivery(redelivered=True))
            if delivered:
                ledger.write_delivered(Note(by="another"))
        return sum(results)

    others: list[Outcome | None] = []
    ledger = processed(world, joined_by(join))
    late_outcome = run_join(world.runtime, ledger.job_id)
    assert others[0] is not None
    assert late_outcome == (None if delivered else others[0])


def test_a_join_that_raises_fails_the_job(world: World) -> None:
    """A join that raises does not run again. The failure has the type, the message and the traceback."""
    ledger = world.launch(FailingTask, {"step": "join", "numbers": [1]})
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error, failure.reason) == ("join", "ValueError", "join was told to fail")
    assert (failure.attempts, failure.chunk, failure.item) == (1, None, None)
    assert [str(error) for error in world.errors] == ["join was told to fail"]


@pytest.mark.parametrize("attempts", [1, 2, 3, 5])
def test_a_join_that_always_kills_its_worker_fails_the_job(world: World, attempts: int) -> None:
    """A join that kills its worker is redelivered each time, and runs exactly `max_attempts` times."""
    runs: list[str] = []

    def join(results: Results) -> Any:
        runs.append("run")
        raise WorkerDied

    ledger = processed(world, joined_by(join), max_attempts=attempts)
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert len(runs) == attempts
    assert (failure.step, failure.error, failure.attempts) == ("join", "WorkerLost", attempts)


def test_a_resent_join_that_kills_its_worker_fails_the_job(world: World) -> None:
    """The join runs three times even if the broker loses the message of a dead worker and a sweep sends it again."""
    runs: list[str] = []

    def join(results: Results) -> Any:
        runs.append("run")
        raise WorkerDied

    ledger = processed(world, joined_by(join), max_attempts=3)
    for number in range(10):
        try:
            run_join(world.process(), ledger.job_id, delivery=Delivery(resent=number > 0))
        except WorkerDied:
            world.store.age(10**6)
    assert len(runs) == 3
    assert failure_of(ledger).error == "WorkerLost"


@pytest.mark.parametrize("outages", [1, 4])
def test_an_interrupted_join_uses_up_no_attempt(world: World, outages: int) -> None:
    """A join that the store failed continues with its own message or a sweep's, however late. It used up no attempt."""
    ledger = processed(world, max_attempts=1)
    for outage in range(outages):
        with world.store.failing("get", "/results/"), pytest.raises(StorageUnavailable):
            run_join(
                world.process(),
                ledger.job_id,
                token=f"{outage}",
                held=[f"{outage - 1}"],
                delivery=Delivery(resent=outage == 2),
            )
        world.store.age(10**6)
    assert ledger.attempts("join").count == 0
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True))
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


@pytest.mark.parametrize("resumed_by", ["by a sweep", "by its own message"])
@pytest.mark.parametrize("pattern", ["odd", "dod", "ood", "dood"])
def test_outages_do_not_add_attempts_to_a_join_that_kills(world: World, pattern: str, resumed_by: str) -> None:
    """Outages (o) and deaths (d) of runs may alternate in any way; exactly `max_attempts` runs die."""
    runs: list[str] = []

    def join(results: Results) -> Any:
        end = pattern[len(runs)] if len(runs) < len(pattern) else "d"
        runs.append(end)
        raise StorageUnavailable("no answer", key="k") if end == "o" else WorkerDied

    ledger = processed(world, joined_by(join), max_attempts=3)
    for number in range(10):
        is_own = resumed_by == "by its own message" and runs[-1:] == ["o"]
        held = [str(number - 1)] if is_own else []
        try:
            run_join(
                world.process(),
                ledger.job_id,
                token=str(number),
                held=held,
                delivery=Delivery(resent=number > 0 and not is_own),
            )
        except (WorkerDied, StorageUnavailable):
            world.store.age(10**6)
    assert runs.count("d") == 3
    assert (failure_of(ledger).error, failure_of(ledger).attempts) == ("WorkerLost", 3)


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_claim_whose_answer_was_lost_costs_no_attempt(world: World, earlier: int) -> None:
    """The holder of such a claim, which never began, records the interruption.

    The death of an earlier one still counts.
    """
    ledger = processed(world, max_attempts=1 + earlier)
    if earlier:
        ledger.claim(0, Note(by="dead"))
        world.store.age(10**6)

    lost_answer = Fault("put", (ledger.keys.claim(earlier),))
    with world.store.injecting(lost_answer, after=True), pytest.raises(StorageUnavailable):
        run_join(world.process(), ledger.job_id, delivery=Delivery(resent=earlier > 0))
    world.store.age(10**6)
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True))
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]
    assert ledger.attempts("join").count == 2 * earlier, "the attempt that died, and the one that began in its place"


def test_the_failure_of_a_silent_join_names_the_possible_causes(world: World) -> None:
    """If the store refused the record of an outage, the failure names the missing heartbeat and possible causes."""
    ledger = processed(world, max_attempts=1)
    with world.store.failing("get put", "/results/", ".interrupted"), pytest.raises(StorageUnavailable):
        run_join(world.process(), ledger.job_id)
    world.store.age(10**6)
    run_join(world.process(), ledger.job_id, delivery=Delivery(resent=True))
    failure = failure_of(ledger)
    assert (failure.error, failure.attempts) == ("WorkerLost", 1)
    assert failure.reason.startswith("its worker wrote no heartbeat for 60 s: ")
    assert "could not reach the store" in failure.reason


@pytest.mark.parametrize("how", [{"resent": True}, {"redelivered": True}])
def test_a_join_without_a_claim_has_used_up_no_attempt(world: World, how: dict[str, bool]) -> None:
    """If no worker had claimed the join, a resent or redelivered message runs it, even if it has only one attempt."""
    ledger = processed(world, max_attempts=1)
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(**how))
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_requeued_join_continues_its_attempt(world: World, times: int) -> None:
    """A join that its worker requeued at shutdown keeps its claim, and no attempt is recorded, however often."""
    runs: list[int] = []

    def join(results: Results) -> Any:
        runs.append(1)
        if len(runs) <= times:
            raise WorkerDied
        return len(runs)

    ledger = processed(world, joined_by(join), max_attempts=1)
    for number in range(times):
        with pytest.raises(WorkerDied):
            run_join(world.process(), ledger.job_id, delivery=Delivery(requeued=number > 0))
    outcome = run_join(world.process(), ledger.job_id, delivery=Delivery(requeued=True))
    assert outcome is not None
    assert ledger.value(outcome) == times + 1
    assert ledger.attempts("join").count == 0


def test_a_join_that_overran_fails_the_job_with_its_limit(world: World) -> None:
    """A join that was stopped at its time limit in its last attempt fails the job, and the failure names the limit."""

    def join(results: Results) -> Any:
        raise WorkerDied

    ledger = processed(world, joined_by(join), max_attempts=2)
    with pytest.raises(WorkerDied):
        run_join(world.process(), ledger.job_id)
    with pytest.raises(WorkerDied):
        run_join(world.process(), ledger.job_id, delivery=Delivery(overran_s=30.0))
    run_join(world.process(), ledger.job_id, delivery=Delivery(overran_s=30.0))
    failure = failure_of(ledger)
    assert (failure.error, failure.attempts) == ("TimeLimitExceeded", 2)
    assert "task_time_limit = 30 s" in failure.reason


def test_an_unencodable_value_fails_the_job(world: World) -> None:
    """The failure names the path inside the value."""
    ledger = processed(world, joined_by(lambda results: {"rows": [1, object()]}))
    world.dispatcher.drain(world.runtime)
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("join", "Unencodable")
    assert failure.reason.startswith("value.rows[1] is a builtins.object")


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        (lambda results: results, [1, 2, 3]),
        (
            lambda results: {"all": results, "some": (results[1:], len(results))},
            {"all": [1, 2, 3], "some": ([2, 3], 3)},
        ),
        (lambda results: None, None),
    ],
)
def test_a_join_may_return_its_results(world: World, join: Callable[[Results], Any], expected: Any) -> None:
    """The lazy sequence of results is stored as a list. None is a value."""
    ledger = processed(world, joined_by(join))
    outcome = run_join(world.runtime, ledger.job_id)
    assert outcome is not None
    assert ledger.value(outcome) == expected


def test_values_keep_their_types(world: World) -> None:
    """The values that process and join return keep their types from end to end."""
    outcome = world.run(Kinds, {"kinds": VALUES})
    value = Ledger(world.store, "x", "launch").value(outcome)
    assert value == tuple(VALUES)
    assert list(map(type, value)) == list(map(type, VALUES))


def test_a_failed_chunk_fails_the_job_in_the_join(world: World) -> None:
    """The outcome of a join that reads a failed chunk is the failure of the chunk, and not one of the join."""
    ledger = processed(world)
    setup_id = world.refs[0].setup_id
    world.store.delete([ledger.keys.result(setup_id, 1)])
    from fanout.records.models import ChunkResult

    failure = Failure("process", "ValueError", "no", "tb", 1, 1, 3)
    ledger.write_result(setup_id, ChunkResult(chunk=1, first_item=1, items=1, values=b"", stats=[], failure=failure))
    run_join(world.process(), ledger.job_id)
    assert failure_of(ledger) == failure


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_or_missing_result_fails_the_job(damage: str) -> None:
    """The failure names the key, also if the result vanishes after the listing."""
    world = World()

    def join(results: Results) -> Any:
        if damage == "flip":
            world.store.flip(key)
        else:
            world.store.delete([key])
        return list(results)

    ledger = processed(world, joined_by(join))
    key = ledger.keys.result(world.refs[0].setup_id, 1)
    run_join(world.runtime, ledger.job_id)
    failure = failure_of(ledger)
    assert (failure.step, failure.error) == ("join", "CorruptObject")
    assert key in failure.reason


@pytest.mark.parametrize("kind", ["input/{setup_id}/index/000000", "parameter"])
def test_a_missing_index_or_parameter_fails_the_job(kind: str) -> None:
    """If an index object or a parameter was deleted, the job fails, and the failure names the key."""
    world = World(inline_bytes=10)

    class Needy(ForkJoinTask):
        input_schema = {"numbers": {"type": "list"}, "text": {"type": "string", "default": "x" * 100}}

        def setup(numbers):
            return [{"number": number} for number in numbers]

        def process(number):
            return number

        def join(results, text):
            return results[0]

    ledger = processed(world, Needy, items=65)
    (text,) = (key for key in world.store.keys("_parameters/") if len(world.store.get(key)) > 100)
    key = text if kind == "parameter" else ledger.keys.prefix + kind.format(setup_id=world.refs[0].setup_id)
    world.store.delete([key])
    run_join(world.process(), ledger.job_id)
    assert key in failure_of(ledger).reason


def test_a_store_error_at_any_request_reaches_the_engine() -> None:
    """Whichever request for its records fails, the error reaches the engine, and the redelivered message succeeds."""
    for fault in fail_each_request("", JOBS_PREFIX):
        world = World()
        ledger = processed(world)
        world.store.log.clear()
        raised = False
        with world.store.injecting(fault):
            try:
                world.dispatcher.deliver(world.process())
            except StorageUnavailable:
                raised = True
        assert raised == bool(fault.injected), fault
        has_written = ("put", ledger.keys.outcome) in world.store.log[: fault.at - 1]
        assert (ledger.outcome() is not None) == has_written, fault
        world.dispatcher.drain(world.process())
        outcome = ledger.outcome()
        assert outcome is not None
        assert ledger.value(outcome) == [1, 2, 3], fault


@pytest.mark.parametrize(
    "failures",
    [1, 5],
)
def test_a_join_runs_again_after_any_number_of_outages(world: World, failures: int) -> None:
    """An outage of the store is no attempt of the join, however often. A further run gives the value."""
    ledger = processed(world)

    for failed in range(failures):
        with world.store.failing("get", "/results/"), pytest.raises(StorageUnavailable):
            run_join(world.process(), ledger.job_id, token=f"{failed}", held=[str(run) for run in range(failed)])
    outcome = run_join(world.process(), ledger.job_id, held=[str(run) for run in range(failures)])
    assert outcome is not None
    assert ledger.value(outcome) == [1, 2, 3]


def test_a_cancelled_job_is_delivered_by_a_join(world: World) -> None:
    """If a job ended without a join, the first join message returns its outcome."""
    from fanout.stages import conclude

    ledger = processed(world)
    conclude(
        world.runtime, world.runtime.job(ledger.job_id), OutcomeStatus.CANCELLED, Failure("job", "JobCancelled", "x")
    )
    outcomes = [run_join(world.process(), ledger.job_id) for _ in range(2)]
    assert outcomes[0] is not None
    assert outcomes[0].status == OutcomeStatus.CANCELLED
    assert outcomes[1] is None


def test_the_continuation_is_sent_with_the_join(world: World) -> None:
    """The continuation that setup wrote is sent with every join."""
    from fanout.records.models import Continuation

    ledger = world.launch(Numbers, {"numbers": [1]})
    ledger.write_continuation(Continuation(message="next"))
    world.dispatcher.drain(world.runtime)
    assert [message.continuation for message in world.dispatcher.joins] == ["next"]


def test_a_join_of_a_removed_job_is_dropped(world: World) -> None:
    """A late message for a job that was removed does nothing."""
    assert run_join(world.runtime, "unknown-job") is None
    assert world.store.keys() == []
