"""Options that are given to a signature, or to submit: every message of the job has those that are meant for all."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from celery.canvas import StampingVisitor
from celery.exceptions import Ignore
from kombu import Exchange, Queue

import fanout
from fanout import ConfigError
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of
from fanout.records.ledger import Ledger
from fanout.records.models import Continuation, OutcomeStatus
from fanout.runtime import Runtime
from fanout.stages import run_setup
from fanout.sweep import Move, sweep_job
from tests.tasks import FailingTask

from .stores import ScriptedStore
from .tasks import Numbers

QUEUE = "special"

GIVEN: dict[str, Any] = {
    "queue": QUEUE,
    "priority": 5,
    "headers": {"trace": "t-1"},
    "time_limit": 30,
    "soft_time_limit": 20,
    "compression": "gzip",
    "delivery_mode": 1,
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A connected app whose broker is in memory, with queues of its own."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    made = Celery("options", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(task_default_queue=uuid.uuid4().hex, broker_transport_options={"polling_interval": 0.01})
    fanout.connect(made, store="memory://options")
    extension_of(made).runtime.store = ScriptedStore()
    extension_of(made).runtime.idle = None
    made.finalize()
    yield made
    for queue in (QUEUE, made.conf.task_default_queue):
        if queue in made.amqp.queues:
            taken(made, queue)
    made.close()


def taken(app: Celery, queue: str) -> list[Any]:
    """The messages that wait in a queue; afterwards they do not."""
    with app.connection_for_read() as connection:
        bound = app.amqp.queues[queue](connection.default_channel)
        return list(iter(lambda: bound.get(no_ack=True), None))


def told(message: Any) -> dict[str, Any]:
    """What a message says of its options."""
    return {
        "priority": message.properties["priority"],
        "headers": {"trace": message.headers.get("trace")},
        "time_limit": message.headers["timelimit"][0],
        "soft_time_limit": message.headers["timelimit"][1],
        "compression": {"application/x-gzip": "gzip"}.get(message.headers.get("compression", "")),
        "delivery_mode": message.properties["delivery_mode"],
    }


def step(message: Any) -> str:
    return str(message.headers["task"]).rpartition(".")[2]


def runtime_of(app: Celery) -> Runtime:
    return extension_of(app).runtime


def assert_all_alike(app: Celery, steps: list[str]) -> list[Any]:
    """The messages that wait are those, in the special queue, each with all options."""
    assert taken(app, app.conf.task_default_queue) == []
    messages = taken(app, QUEUE)
    assert [step(message) for message in messages] == steps
    for message in messages:
        assert told(message) == {name: value for name, value in GIVEN.items() if name != "queue"}
    return messages


def set_up(app: Celery, job_id: str) -> None:
    """What setup's task does: it writes down what follows, and runs setup."""
    runtime = runtime_of(app)
    runtime.ledger(job_id).write_continuation(Continuation(message=json.dumps({"task_id": job_id})))
    run_setup(runtime, job_id)


def run_chunks(app: Celery, messages: list[Any]) -> None:
    for message in messages:
        app.tasks[message.headers["task"]].apply(message.payload[0]).get()


def test_every_message_of_a_signatures_job_has_its_options(app: Celery) -> None:
    """Setup, process and join go to the same queue, with the same priority, limits and headers."""
    result = Numbers.signature({"numbers": [1, 2]}, app=app).set(**GIVEN).delay()
    assert_all_alike(app, ["setup"])
    set_up(app, result.id)
    run_chunks(app, assert_all_alike(app, ["process", "process"]))
    assert_all_alike(app, ["join"])


@pytest.mark.parametrize("values", [{"numbers": [1, 2]}, {"numbers": iter([1, 2])}])
def test_submit_takes_options_too(app: Celery, values: dict[str, Any]) -> None:
    """`send_options` does the same for a job that is submitted, streamed or not."""
    job = Numbers.submit(values, app=app, send_options=GIVEN)
    if isinstance(values["numbers"], list):
        assert_all_alike(app, ["setup"])
        set_up(app, job.id)
    run_chunks(app, assert_all_alike(app, ["process", "process"]))
    assert_all_alike(app, ["join"])


def test_a_sweep_sends_by_the_same_options(app: Celery) -> None:
    """What was lost is sent again where it was sent before: setup, chunks and join."""
    runtime, store = runtime_of(app), runtime_of(app).store
    assert isinstance(store, ScriptedStore)
    result = Numbers.signature({"numbers": [1, 2]}, app=app).set(**GIVEN).delay()
    assert_all_alike(app, ["setup"])
    store.age(10**3)
    assert sweep_job(runtime, result.id) is Move.SETUP_SENT
    assert_all_alike(app, ["setup"])
    set_up(app, result.id)
    assert_all_alike(app, ["process", "process"])
    store.age(10**4)
    assert sweep_job(runtime, result.id) is Move.CHUNKS_SENT
    run_chunks(app, assert_all_alike(app, ["process", "process"]))
    assert_all_alike(app, ["join"])
    store.age(10**5)
    assert sweep_job(runtime, result.id) is Move.JOIN_SENT
    assert_all_alike(app, ["join"])


def test_a_try_more_and_a_retry_go_the_same_way(app: Celery) -> None:
    """A chunk that raised is sent again by its worker, and a retry of the job sends what failed, both as the first."""
    signature = FailingTask.signature({"step": "process", "numbers": [3]}, app=app, max_attempts=2)
    result = signature.set(**GIVEN).delay()
    assert_all_alike(app, ["setup"])
    set_up(app, result.id)
    run_chunks(app, assert_all_alike(app, ["process"]))
    run_chunks(app, assert_all_alike(app, ["process"]))
    assert_all_alike(app, ["join"])
    assert extension_of(app).job(result.id).retry()
    assert_all_alike(app, ["process"])


def test_an_input_that_does_not_fit_is_told_where_its_job_was_sent(app: Celery) -> None:
    """A job whose received value is refused when it is launched still delivers by its options."""
    result = Numbers.signature(receives="numbers", app=app).set(**GIVEN).apply_async((3,))
    (message,) = assert_all_alike(app, ["setup"])
    task, (args, kwargs, _) = app.tasks[message.headers["task"]], message.payload
    task.push_request(id=result.id, args=args, kwargs=kwargs, called_directly=False)
    try:
        with pytest.raises(Ignore):
            task.run(*args, **kwargs)
    finally:
        task.pop_request()
    outcome = Ledger.of(runtime_of(app).store, result.id).outcome()
    assert outcome is not None
    assert outcome.status == OutcomeStatus.FAILED
    assert_all_alike(app, ["join"])


def test_what_belongs_to_setup_or_join_stays_there(app: Celery) -> None:
    """eta, link and ignore_result are no options of a chunk."""
    signature = Numbers.signature({"numbers": [1]}, app=app).set(countdown=0.01, ignore_result=True, shadow="mine")
    signature.link(app.signature("after", immutable=True))
    result = signature.delay()
    (setup,) = taken(app, app.conf.task_default_queue)
    assert setup.headers["shadow"] == "mine"
    set_up(app, result.id)
    (chunk,) = taken(app, app.conf.task_default_queue)
    assert (chunk.headers["eta"], chunk.headers["shadow"], chunk.payload[2]["callbacks"]) == (None, None, None)
    assert runtime_of(app).job(result.id).intent.routing == {}


class Marking(StampingVisitor):
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"tenant": "acme", "stamped_headers": ["tenant"]}


def test_stamps_are_on_every_message(app: Celery) -> None:
    """So that revoking by a stamp meets whichever message of the job is there."""
    signature = Numbers.signature({"numbers": [1]}, app=app)
    signature.stamp(Marking())
    result = signature.delay()
    set_up(app, result.id)
    messages = taken(app, app.conf.task_default_queue)
    assert [step(message) for message in messages] == ["setup", "process"]
    for message in messages:
        assert message.headers["stamped_headers"] == ["tenant"]
        assert message.headers["stamps"] == {"tenant": "acme"}


def test_a_queue_may_be_an_object(app: Celery) -> None:
    """As in Celery; on record is its name."""
    queue = Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)
    app.amqp.queues.add(queue)
    result = Numbers.signature({"numbers": [1]}, app=app).apply_async(queue=queue)
    assert len(taken(app, QUEUE)) == 1
    intent = Ledger.of(runtime_of(app).store, result.id).intent()
    assert intent.routing == {"queue": QUEUE}
    assert json.loads(intent.launch or "")["queue"] == QUEUE


REFUSED = [
    ({"serializer": "pickle"}, "serializer='pickle' can't be given"),
    ({"expiration": 3}, "give expires="),
    ({"priority": "high"}, "priority must be a whole number"),
    ({"priority": True}, "priority must be a whole number"),
    ({"time_limit": 0}, "time_limit must be a number of seconds over 0"),
    ({"headers": [1]}, "headers must be a mapping with string keys"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_what_would_break_a_job_is_refused(app: Celery, options: dict[str, Any], message: str) -> None:
    """By name and with the remedy, where it is given or at the launch, and nothing is on record or sent."""
    signature = Numbers.signature({"numbers": [1]}, app=app)
    with pytest.raises(ConfigError, match=message):
        signature.clone().set(**options)
    with pytest.raises(ConfigError, match=message):
        signature.apply_async(**options)
    assert taken(app, app.conf.task_default_queue) == []
    assert list(runtime_of(app).store.list()) == []


def test_in_a_chain_what_is_refused_is_left_out(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that launches the next step has nobody to tell: it says so in the log, and the job runs."""
    signature = Numbers.signature(receives="numbers", app=app)
    signature.apply_async(([1],), serializer="pickle", parent_id="the-step-before")
    (message,) = taken(app, app.conf.task_default_queue)
    assert message.content_type == "application/json"
    assert "launched without an option: serializer='pickle'" in caplog.text


def test_options_that_a_submitted_job_has_no_place_for(app: Celery) -> None:
    """They are named, and where to give them instead."""
    with pytest.raises(ConfigError, match=r"send_options can't have link; .*signature\(values\)\.set"):
        Numbers.submit({"numbers": [1]}, app=app, send_options={"link": "x"})


def test_a_queue_that_the_app_does_not_know(app: Celery) -> None:
    """With `task_create_missing_queues` off it is refused before the job is on record."""
    app.conf.task_create_missing_queues = False
    with pytest.raises(ConfigError, match="queue='nowhere' is not among the app's task_queues"):
        Numbers.submit({"numbers": [1]}, app=app, send_options={"queue": "nowhere"})
    assert list(runtime_of(app).store.list()) == []
