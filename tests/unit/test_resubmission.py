"""The same job id submitted twice is one job. Another job under the same id is refused."""

from __future__ import annotations

import logging
import sys
import threading
import uuid
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import BrokerUnavailable, ConfigError, ForkJoinTask, JobConflict, JobFailed, JobNotFound, JobState
from fanout.config.settings import Options
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of
from fanout.engines.job_creation import create_job
from fanout.engines.stub import Join, StubDispatcher
from fanout.job import Job
from fanout.records.keys import GROUP_WIDTH
from fanout.records.ledger import Ledger
from fanout.records.models import Continuation, Note
from fanout.removal import remove_job
from fanout.stages import run_process
from tests.stores import ScriptedStore, kind_of
from tests.tasks import FailingTask

from .tasks import Numbers, Words
from .world import World


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A connected app with its own scripted store and its own broker, both in memory."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    queue = uuid.uuid4().hex
    made = Celery("unit", broker=f"memory://{queue}", set_as_current=False)
    made.conf.update(broker_transport_options={"polling_interval": 0.01}, task_default_queue=queue)
    fanout.connect(made, store=f"memory://unit-{queue}")
    made.finalize()
    extension_of(made).runtime.store = ScriptedStore()
    # The tests are its workers, and need the completion check at once.
    extension_of(made).runtime.debouncer = None
    yield made
    made.close()


def take_message_ids(app: Celery) -> list[str]:
    """Take the messages that wait in the broker, and return their ids."""
    found = []
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(app.conf.task_default_queue)
        while queue.qsize():
            message = queue.get(timeout=5)
            message.ack()
            found.append(message.headers["id"])
    return found


def store_of(app: Celery) -> ScriptedStore:
    store = extension_of(app).runtime.store
    assert isinstance(store, ScriptedStore)
    return store


def test_a_job_submitted_twice_is_one_job(app: Celery) -> None:
    """Both submissions give the same job, with its first intent. After setup has begun, no message is sent."""
    one = Words.submit({"documents": ["a"], "delimiter": "-"}, job_id="order-1", app=app)
    intent = Ledger.of(store_of(app), "order-1").intent()
    Ledger.of(store_of(app), "order-1").write_continuation(Continuation(message="{}"))
    two = Words.submit({"delimiter": "-", "documents": ["a"]}, job_id="order-1", app=app)
    assert one.id == two.id == "order-1"
    assert Ledger.of(store_of(app), "order-1").intent() == intent
    assert take_message_ids(app) == ["order-1"]


def test_a_launch_without_a_setup_is_sent_again(app: Celery) -> None:
    """The first caller may have died between the intent and the message, so the second one sends it again."""
    for _ in range(2):
        Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    assert take_message_ids(app) == ["order-1", "order-1"]


def test_a_signature_with_a_task_id_is_one_job(app: Celery) -> None:
    """A signature with `set(task_id=…)` is one job, too. A large parameter is compared by its digest."""
    numbers = list(range(10_000))
    first = Numbers.signature({"numbers": numbers}, app=app).set(task_id="order-1").apply_async()
    second = Numbers.signature({"numbers": list(numbers)}, app=app).set(task_id="order-1").delay()
    assert first.id == second.id == "order-1"
    with pytest.raises(JobConflict, match="its parameter 'numbers' has another value"):
        Numbers.signature({"numbers": [*numbers, 1]}, app=app).set(task_id="order-1").delay()


@pytest.mark.parametrize(
    ("task", "values", "options", "expected"),
    [
        (Words, {"documents": ["b"]}, {}, "its parameter 'documents' has another value"),
        (Words, {"documents": ["a"], "delimiter": "-"}, {}, "its parameter 'delimiter' has another value"),
        (Words, {"documents": ["a"]}, {"chunk_items": 2}, "its option chunk_items is None, not 2"),
        (Words, {"documents": ["a"]}, {"tolerate": 1}, "its option tolerate is None, not 1"),
        (Words, {"documents": iter(["a"])}, {}, "its parameter 'documents' is not kept by the caller"),
        (Numbers, {"numbers": [1]}, {}, f"its task is {Words.name}, not {Numbers.name}"),
    ],
)
def test_another_job_under_the_same_id_is_refused(
    app: Celery, task: type[ForkJoinTask], values: Any, options: dict[str, Any], expected: str
) -> None:
    """The error names the difference, without a parameter's value. The first job continues."""
    Words.submit({"documents": ["a"]}, job_id="order-1", app=app)
    assert take_message_ids(app) == ["order-1"]
    with pytest.raises(JobConflict) as caught:
        task.submit(values, job_id="order-1", app=app, **options)
    assert expected in caught.value.differences
    assert expected in str(caught.value)
    assert take_message_ids(app) == []


def test_a_count_and_a_fraction_differ(world: World) -> None:
    """1 and 1.0 are equal in Python, but as `tolerate` one is a count and the other a fraction."""
    assert create_job(world.runtime, "job", world.submission(Numbers, {"numbers": [1]}, tolerate=1).intent())
    with pytest.raises(JobConflict, match=r"its option tolerate is 1, not 1\.0"):
        create_job(world.runtime, "job", world.submission(Numbers, {"numbers": [1]}, tolerate=1.0).intent())


def test_of_several_callers_one_creates_the_job(world: World) -> None:
    """Of several callers that submit at the same time, one creates the job. Each of them gets the job."""
    results: list[bool] = []
    submission = world.submission(Numbers, {"numbers": [1]})
    barrier = threading.Barrier(8)

    def launch() -> None:
        barrier.wait()
        results.append(create_job(world.process(), "job", submission.intent())[1])

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert world.runtime.job("job").options == Options(chunk_items=1)


@pytest.mark.parametrize("job_id", ["", "a/b", "../x", "-x", "a" * 129, 3])
def test_a_wrong_job_id_is_refused(app: Celery, job_id: Any) -> None:
    """A wrong id is refused with the rule, before anything is stored."""
    with pytest.raises(ConfigError, match="letters, digits"):
        Numbers.submit({"numbers": [1] * 10_000}, job_id=job_id, app=app)
    assert store_of(app).keys() == []


def test_a_redelivered_step_does_not_fail_its_chain(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """A redelivered step of a chain launches the job again, with another value. The first value counts."""
    signature = Numbers.signature(receives="numbers", app=app).set(task_id="order-1")
    signature.apply_async(([1],), parent_id="step-before")
    with caplog.at_level(logging.WARNING):
        signature.apply_async(([2],), parent_id="step-before")
    assert "the first one counts" in caplog.text
    assert extension_of(app).runtime.job("order-1").parameter_values(["numbers"]) == {"numbers": [1]}
    assert take_message_ids(app) == ["order-1", "order-1"]


def test_the_id_of_a_removed_job_may_be_used_again(world: World) -> None:
    """A worker that has the removed job in its cache does not mistake the next job of that id for the removed one."""
    for number in range(5):
        ledger = world.launch(Numbers, {"numbers": [number, 1]}, job_id="order-1")
        world.dispatcher.drain(world.runtime)
        outcome = ledger.outcome()
        assert outcome is not None
        assert ledger.value(outcome) == [number, 1]
        world.job(ledger).remove()


def test_late_messages_of_a_removed_job_do_not_reach_the_next_one(world: World) -> None:
    """Messages of a removed launch for setup, chunks and join change nothing in the launch that now has its id."""
    world.launch(Numbers, {"numbers": [1, 2]}, job_id="order-1")
    world.dispatcher.drain(world.runtime)
    old = list(world.dispatcher.sent)
    remove_job(world.store, "order-1")
    ledger = world.launch(Numbers, {"numbers": [3]}, job_id="order-1")
    for runtime in (world.runtime, world.process()):
        for message in old:
            message.run(runtime)
    assert ledger.outcome() is None
    world.dispatcher.drain(world.runtime)
    outcome = ledger.outcome()
    assert outcome is not None
    assert ledger.value(outcome) == [3]


def test_a_second_join_of_a_removed_job_delivers_nothing(world: World) -> None:
    """A join with the removed job in its cache finds no claim. Its value must not reach the next job of the id."""
    for at in ("get", "list"):
        ledger = world.launch(Numbers, {"numbers": [1, 2]}, job_id=f"order-{at}")
        world.dispatcher.drain(world.runtime, until=lambda: isinstance(world.dispatcher.waiting[0], Join))
        (join,) = world.dispatcher.waiting
        world.dispatcher.lose()
        other = world.process()
        other.job(ledger.job_id, ledger.launch_id).manifest()
        world.store.before_first(at, "/results/", partial(remove_job, world.store, ledger.job_id))
        assert join.run(other) is None


# Streams


@pytest.fixture
def dispatcher(app: Celery) -> StubDispatcher:
    """A dispatcher that records the app's messages."""
    made = StubDispatcher(batch_chunks=GROUP_WIDTH)
    extension_of(app).runtime.dispatcher = made
    return made


def test_the_second_stream_of_a_job_is_not_read(app: Celery, dispatcher: StubDispatcher) -> None:
    """The second caller gets the job of the first one, and its iterator is not read."""
    Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    again = iter([1, 2])
    job = Numbers.submit({"numbers": again}, job_id="order-1", app=app)
    assert list(again) == [1, 2]
    assert len(dispatcher.chunks) == 1
    dispatcher.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]


def test_a_new_stream_costs_four_requests(app: Celery, dispatcher: StubDispatcher) -> None:
    """The caller that creates a job checks no progress and writes no heartbeat, because the intent is new."""
    Numbers.submit({"numbers": iter([1, 2])}, app=app)
    assert [(verb, kind_of(key)) for verb, key in store_of(app).log] == [
        ("put", "_open"),
        ("put", "intent"),
        ("put", "input"),
        ("put", "manifest"),
    ]


def test_a_stream_that_is_being_read_is_left_alone(app: Celery, dispatcher: StubDispatcher) -> None:
    """If two callers stream under one id at once, the second returns at once with the job of the first."""
    seen: list[Any] = []

    def numbers() -> Iterator[int]:
        yield 1
        other = iter([1, 2])
        seen.append(Numbers.submit({"numbers": other}, job_id="order-1", app=app).state)
        seen.append(list(other))
        yield 2

    job = Numbers.submit({"numbers": numbers()}, job_id="order-1", app=app)
    dispatcher.drain(extension_of(app).runtime)
    assert seen == [JobState.LAUNCHED, [1, 2]]
    assert job.get(5) == [1, 2]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_stream_ends_the_job_and_frees_the_id(
    app: Celery, dispatcher: StubDispatcher, stop: type[BaseException]
) -> None:
    """After Ctrl-C in a stream the job ends at once, and the same id can be submitted again with its input."""

    def numbers() -> Iterator[int]:
        yield from range(200)
        raise stop

    with pytest.raises((stop, JobFailed)):
        Numbers.submit({"numbers": numbers()}, job_id="order-1", app=app)
    first = extension_of(app).job("order-1")
    assert first.state in (JobState.CANCELLED, JobState.FAILED)
    job = Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    dispatcher.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]
    with pytest.raises(JobNotFound):
        Job("order-1", extension_of(app).runtime, launch_id=first.ledger.launch_id).progress()


def test_a_broker_that_fails_during_a_stream_ends_the_job(
    app: Celery, dispatcher: StubDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's error ends the job and frees the id, so that no sweep runs half of the input later."""

    def refuse(intent: Any, refs: Any) -> None:
        raise BrokerUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(dispatcher, "send_chunks", refuse)
        with pytest.raises(BrokerUnavailable):
            Numbers.submit({"numbers": iter(range(10_000))}, job_id="order-1", app=app)
    assert extension_of(app).job("order-1").state == JobState.FAILED
    job = Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    dispatcher.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]


def test_a_job_whose_streaming_caller_died_takes_another_stream(
    app: Celery, dispatcher: StubDispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that died in its stream left no whole input. A later caller with the same id reads its own stream."""

    def numbers() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["fanout.engines.caller_setup"], "_give_up", lambda job, error: "")
        with pytest.raises(KeyboardInterrupt):
            Numbers.submit({"numbers": numbers()}, job_id="order-1", app=app)
    other = iter([1, 2])
    assert Numbers.submit({"numbers": other}, job_id="order-1", app=app).state == JobState.LAUNCHED
    assert list(other) == [1, 2]
    store_of(app).age(1000)
    ledger = Ledger.of(store_of(app), "order-1")
    assert ledger.last_heartbeat("setup") is None
    job = Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    # For a third caller the old intent is no heartbeat any more.
    assert ledger.last_heartbeat("setup") is not None
    for ref in [message.ref for message in dispatcher.chunks]:
        run_process(extension_of(app).runtime, ref)
    dispatcher.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]


# Eager mode


def test_an_eager_job_runs_once(app: Celery) -> None:
    """If an eager job is submitted twice, its steps run once. Another input is refused."""
    app.conf.task_always_eager = True
    first = Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    outcome = first.ledger.outcome()
    second = Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    assert second.get(0) == [1]
    assert second.ledger.outcome() == outcome
    with pytest.raises(JobConflict):
        Numbers.submit({"numbers": [2]}, job_id="order-1", app=app)


def test_an_eager_job_is_retried_in_the_callers_process(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """In eager mode a retry runs in the caller's process."""
    app.conf.task_always_eager = True
    job = FailingTask.submit({"step": "process", "numbers": [1, 2, 3, 4]}, app=app)
    with pytest.raises(JobFailed, match="told to fail at 3"):
        job.get(0)
    assert job.retry(tolerate=0.25)
    value = job.get(0)
    assert value[:2] + value[3:] == [1, 2, 4]
    assert [failed_item.item for failed_item in job.failures] == [2]
    for step in ("setup", "join"):
        failed = FailingTask.submit({"step": step, "numbers": [1, 2, 3, 4]}, app=app)
        assert failed.retry()
        with pytest.raises(JobFailed, match=f"{step} was told to fail"):
            failed.get(0)
        assert failed.generation == 1
    Ledger.of(store_of(app), job.id).write_delivered(Note(by="x"))
