"""The same job id submitted twice is one job; another job under it is refused."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import ConfigError, ForkJoinTask, JobConflict, JobFailed, JobState
from fanout.config import Options
from fanout.declaration import TASKS
from fanout.engines.celery import extension_of
from fanout.engines.launch import put_on_record
from fanout.ledger import Ledger
from fanout.records import Continuation, Note
from fanout.stages import run_process

from .carrier import RecordingCarrier
from .stores import ScriptedStore
from .tasks import Brittle, Numbers, Words
from .world import World


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A connected app with a scripted store and a broker of its own, both in memory."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    queue = uuid.uuid4().hex
    made = Celery("unit", broker=f"memory://{queue}", set_as_current=False)
    made.conf.update(broker_transport_options={"polling_interval": 0.01}, task_default_queue=queue)
    fanout.connect(made, store=f"memory://unit-{queue}")
    made.finalize()
    extension_of(made).runtime.store = ScriptedStore()
    # The tests are its workers, and look at the carrier at once.
    extension_of(made).runtime.idle = None
    yield made
    made.close()


def sent(app: Celery) -> list[str]:
    """Ids of the messages that wait in the broker; takes them."""
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


def test_the_same_job_twice_is_one(app: Celery) -> None:
    """Both handles are of the first; its intent stays as it was, and once somebody has begun no message is sent."""
    one = Words.submit({"documents": ["a"], "delimiter": "-"}, job_id="order-1", app=app)
    intent = Ledger(store_of(app), "order-1").intent()
    Ledger(store_of(app), "order-1").write_continuation(Continuation(message="{}"))
    two = Words.submit({"delimiter": "-", "documents": ["a"]}, job_id="order-1", app=app)
    assert one.id == two.id == "order-1"
    assert Ledger(store_of(app), "order-1").intent() == intent
    assert sent(app) == ["order-1"]


def test_a_launch_that_nobody_took_up_is_sent_again(app: Celery) -> None:
    """Whoever was first may have died between the intent and the message: the second one's message makes up for it."""
    for _ in range(2):
        Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    assert sent(app) == ["order-1", "order-1"]


def test_a_signature_with_its_task_id_set(app: Celery) -> None:
    """`set(task_id=…)` is the same for a signature; a large parameter is compared by its digest."""
    numbers = list(range(10_000))
    first = Numbers.signature({"numbers": numbers}, app=app).set(task_id="order-1").apply_async()
    second = Numbers.signature({"numbers": list(numbers)}, app=app).set(task_id="order-1").delay()
    assert first.id == second.id == "order-1"
    with pytest.raises(JobConflict, match="its parameter 'numbers' is another"):
        Numbers.signature({"numbers": [*numbers, 1]}, app=app).set(task_id="order-1").delay()


@pytest.mark.parametrize(
    ("task", "values", "options", "said"),
    [
        (Words, {"documents": ["b"]}, {}, "its parameter 'documents' is another"),
        (Words, {"documents": ["a"], "delimiter": "-"}, {}, "its parameter 'delimiter' is another"),
        (Words, {"documents": ["a"]}, {"chunk_items": 2}, "its option chunk_items is None, not 2"),
        (Words, {"documents": ["a"]}, {"tolerate": 1}, "its option tolerate is None, not 1"),
        (Words, {"documents": iter(["a"])}, {}, "its parameter 'documents' is not kept by the caller"),
        (Numbers, {"numbers": [1]}, {}, f"its task is {Words.name}, not {Numbers.name}"),
    ],
)
def test_another_job_under_the_same_id_is_refused(
    app: Celery, task: type[ForkJoinTask], values: Any, options: dict[str, Any], said: str
) -> None:
    """The error says what is different, never a parameter's value; the first job goes on."""
    Words.submit({"documents": ["a"]}, job_id="order-1", app=app)
    assert sent(app) == ["order-1"]
    with pytest.raises(JobConflict) as caught:
        task.submit(values, job_id="order-1", app=app, **options)
    assert said in caught.value.differences
    assert said in str(caught.value)
    assert sent(app) == []


def test_a_count_and_a_fraction_differ(world: World) -> None:
    """1 and 1.0 are equal, and say different things."""
    assert put_on_record(world.runtime, "job", world.order(Numbers, {"numbers": [1]}, tolerate=1).intent())
    with pytest.raises(JobConflict, match=r"its option tolerate is 1, not 1\.0"):
        put_on_record(world.runtime, "job", world.order(Numbers, {"numbers": [1]}, tolerate=1.0).intent())


def test_of_two_at_once_one_is_first(world: World) -> None:
    """Two that submit at the same time agree on who was first, and both get the job."""
    results: list[bool] = []
    order = world.order(Numbers, {"numbers": [1]})
    barrier = threading.Barrier(8)

    def launch() -> None:
        barrier.wait()
        results.append(put_on_record(world.process(), "job", order.intent()))

    threads = [threading.Thread(target=launch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False] * 7 + [True]
    assert world.runtime.job("job").options == Options(chunk_items=1)


@pytest.mark.parametrize("job_id", ["", "a/b", "../x", "-x", "a" * 129, 3])
def test_an_id_that_is_none_is_refused(app: Celery, job_id: Any) -> None:
    """Before anything is stored, with the rule."""
    with pytest.raises(ConfigError, match="letters, digits"):
        Numbers.submit({"numbers": [1] * 10_000}, job_id=job_id, app=app)
    assert store_of(app).keys() == []


def test_a_step_that_was_run_again_does_not_fail_the_chain(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """In a chain a redelivered step launches the job again, maybe with another value: the first one stands."""
    signature = Numbers.signature(receives="numbers", app=app).set(task_id="order-1")
    signature.apply_async(([1],), parent_id="step-before")
    with caplog.at_level(logging.WARNING):
        signature.apply_async(([2],), parent_id="step-before")
    assert "the first one stands" in caplog.text
    assert extension_of(app).runtime.job("order-1").parameters(["numbers"]) == {"numbers": [1]}
    assert sent(app) == ["order-1", "order-1"]


def test_an_id_may_be_used_again_after_its_job_was_removed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has the removed job at hand notices within a minute that another one has its id."""
    first = world.launch(Numbers, {"numbers": [1, 2]}, job_id="order-1")
    world.carrier.drain(world.runtime)
    first.remove()
    world.launch(Numbers, {"numbers": [3]}, job_id="order-1")
    monkeypatch.setattr("fanout.runtime.RENEWED_S", 0.0)
    world.carrier.drain(world.runtime)
    outcome = first.outcome()
    assert outcome is not None
    assert first.value(outcome) == [3]


# Streams


@pytest.fixture
def carrier(app: Celery) -> RecordingCarrier:
    """A carrier that keeps what the app sends."""
    made = RecordingCarrier()
    extension_of(app).runtime.carrier = made
    return made


def test_a_stream_that_was_read_is_not_read_again(app: Celery, carrier: RecordingCarrier) -> None:
    """The second caller gets the first one's job, and keeps its iterator."""
    Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    again = iter([1, 2])
    job = Numbers.submit({"numbers": again}, job_id="order-1", app=app)
    assert list(again) == [1, 2]
    assert len(carrier.chunks) == 2
    carrier.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]


def test_a_new_stream_costs_three_requests(app: Celery, carrier: RecordingCarrier) -> None:
    """Who has just made a job need not look how far it is, nor say that he is at it: the intent says so."""
    Numbers.submit({"numbers": iter([1, 2])}, app=app)
    assert [(verb, key.split("/")[1]) for verb, key in store_of(app).log] == [
        ("put", "intent"),
        ("put", "in"),
        ("put", "manifest"),
    ]


def test_a_stream_that_is_being_read_is_left_alone(app: Celery, carrier: RecordingCarrier) -> None:
    """Two callers stream under one id at once: the second returns at once with the first one's job."""
    seen: list[Any] = []

    def numbers() -> Iterator[int]:
        yield 1
        other = iter([1, 2])
        seen.append(Numbers.submit({"numbers": other}, job_id="order-1", app=app).state)
        seen.append(list(other))
        yield 2

    job = Numbers.submit({"numbers": numbers()}, job_id="order-1", app=app)
    carrier.drain(extension_of(app).runtime)
    assert seen == [JobState.LAUNCHED, [1, 2]]
    assert job.get(5) == [1, 2]


def test_a_stream_that_broke_off_is_read_again(
    app: Celery, carrier: RecordingCarrier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that died while it streamed left no input; who submits again after a while brings it."""

    def numbers() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    module = import_module("fanout.engines.celery.signature")
    with monkeypatch.context() as patch:
        # One that dies has no time to remove the job.
        patch.setattr(module, "removed_unless_set_up", lambda *_, **__: nullcontext())
        with pytest.raises(KeyboardInterrupt):
            Numbers.submit({"numbers": numbers()}, job_id="order-1", app=app)
    ledger = Ledger(store_of(app), "order-1")
    store_of(app).age(1000)
    intent = ledger.intent()
    store_of(app).delete([ledger.keys.intent])
    ledger.write_intent(type(intent)(**{**{n: getattr(intent, n) for n in intent.__slots__}, "created_at": 1.0}))
    before = ledger.last_beat("setup")
    job = Numbers.submit({"numbers": iter([1, 2])}, job_id="order-1", app=app)
    # The old intent says nothing any more to a third caller.
    assert before is None
    assert ledger.last_beat("setup") is not None
    for handle in [message.handle for message in carrier.chunks]:
        run_process(extension_of(app).runtime, handle)
    carrier.drain(extension_of(app).runtime)
    assert job.get(5) == [1, 2]


# Eager mode


def test_an_eager_job_runs_once(app: Celery) -> None:
    """Submitted twice here and now, the steps run once; another input is refused as everywhere."""
    app.conf.task_always_eager = True
    first = Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    outcome = first.outcome()
    second = Numbers.submit({"numbers": [1]}, job_id="order-1", app=app)
    assert second.get(0) == [1]
    assert second.outcome() == outcome
    with pytest.raises(JobConflict):
        Numbers.submit({"numbers": [2]}, job_id="order-1", app=app)


def test_an_eager_job_is_retried_here(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """In eager mode a retry, too, runs in the caller's process."""
    app.conf.task_always_eager = True
    job = Brittle.submit({"step": "process", "numbers": [1, 2, 3, 4]}, app=app)
    with pytest.raises(JobFailed, match="told to fail at 3"):
        job.get(0)
    assert job.retry(tolerate=0.25)
    value = job.get(0)
    assert value[:2] + value[3:] == [1, 2, 4]
    assert [mark.item for mark in job.failures] == [2]
    for step in ("setup", "join"):
        failed = Brittle.submit({"step": step, "numbers": [1, 2, 3, 4]}, app=app)
        assert failed.retry()
        with pytest.raises(JobFailed, match=f"{step} was told to fail"):
            failed.get(0)
        assert failed.round == 1
    Ledger(store_of(app), job.id).write_delivered(Note(by="x"))
