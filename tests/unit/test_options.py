"""Send options of a signature or a submit: each message of the job has those that are meant for all messages."""

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
from tests.stores import ScriptedStore
from tests.tasks import FailingTask

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
    """A connected app with its own queues, whose broker is in memory."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    made = Celery("options", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.update(task_default_queue=uuid.uuid4().hex, broker_transport_options={"polling_interval": 0.01})
    fanout.connect(made, store="memory://options")
    extension_of(made).runtime.store = ScriptedStore()
    extension_of(made).runtime.debouncer = None
    made.finalize()
    yield made
    for queue in (QUEUE, made.conf.task_default_queue):
        if queue in made.amqp.queues:
            take_messages(made, queue)
    made.close()


TWO_BATCHES = list(range(33))
"""Numbers of a job whose chunks need two messages: a batch ends with its group."""


def take_messages(app: Celery, queue: str) -> list[Any]:
    """Take the waiting messages from a queue, and return them."""
    with app.connection_for_read() as connection:
        bound = app.amqp.queues[queue](connection.default_channel)
        return list(iter(lambda: bound.get(no_ack=True), None))


def options_of(message: Any) -> dict[str, Any]:
    """Return the options that a message has."""
    return {
        "priority": message.properties["priority"],
        "headers": {"trace": message.headers.get("trace")},
        "time_limit": message.headers["timelimit"][0],
        "soft_time_limit": message.headers["timelimit"][1],
        "compression": {"application/x-gzip": "gzip"}.get(message.headers.get("compression", "")),
        "delivery_mode": message.properties["delivery_mode"],
    }


def step_of(message: Any) -> str:
    return str(message.headers["task"]).rpartition(".")[2]


def runtime_of(app: Celery) -> Runtime:
    return extension_of(app).runtime


def take_from_special_queue(app: Celery, steps: list[str]) -> list[Any]:
    """Check that these messages wait in the special queue, each with all options, and return them."""
    assert take_messages(app, app.conf.task_default_queue) == []
    messages = take_messages(app, QUEUE)
    assert [step_of(message) for message in messages] == steps
    for message in messages:
        assert options_of(message) == {name: value for name, value in GIVEN.items() if name != "queue"}
    return messages


def run_setup_task(app: Celery, job_id: str) -> None:
    """Do the work of setup's task: write the continuation and run setup."""
    runtime = runtime_of(app)
    runtime.ledger(job_id).write_continuation(Continuation(message=json.dumps({"task_id": job_id})))
    run_setup(runtime, job_id)


def run_chunks(app: Celery, messages: list[Any]) -> None:
    for message in messages:
        app.tasks[message.headers["task"]].apply(message.payload[0]).get()


def test_every_message_of_a_signatures_job_has_its_options(app: Celery) -> None:
    """Setup, process and join go to the same queue, with the same priority, limits and headers."""
    result = Numbers.signature({"numbers": TWO_BATCHES}, app=app).set(**GIVEN).delay()
    take_from_special_queue(app, ["setup"])
    run_setup_task(app, result.id)
    run_chunks(app, take_from_special_queue(app, ["process", "process"]))
    take_from_special_queue(app, ["join"])


@pytest.mark.parametrize("values", [{"numbers": TWO_BATCHES}, {"numbers": iter(TWO_BATCHES)}], ids=["list", "stream"])
def test_every_message_of_a_submitted_job_has_its_options(app: Celery, values: dict[str, Any]) -> None:
    """`send_options` gives a submitted job the same options, with a streamed input and without."""
    job = Numbers.submit(values, app=app, send_options=GIVEN)
    if isinstance(values["numbers"], list):
        take_from_special_queue(app, ["setup"])
        run_setup_task(app, job.id)
    run_chunks(app, take_from_special_queue(app, ["process", "process"]))
    take_from_special_queue(app, ["join"])


def test_a_sweep_sends_with_the_same_options(app: Celery) -> None:
    """A sweep sends lost messages for setup, chunks and join with the options of the first ones."""
    runtime, store = runtime_of(app), runtime_of(app).store
    assert isinstance(store, ScriptedStore)
    result = Numbers.signature({"numbers": TWO_BATCHES}, app=app).set(**GIVEN).delay()
    take_from_special_queue(app, ["setup"])
    store.age(10**3)
    assert sweep_job(runtime, result.id) is Move.SETUP_SENT
    take_from_special_queue(app, ["setup"])
    run_setup_task(app, result.id)
    take_from_special_queue(app, ["process", "process"])
    store.age(10**4)
    assert sweep_job(runtime, result.id) is Move.CHUNKS_SENT
    run_chunks(app, take_from_special_queue(app, ["process", "process"]))
    # A batch that was sent again falls apart into single chunks. The second batch is one.
    run_chunks(app, take_from_special_queue(app, ["process"] * 32))
    take_from_special_queue(app, ["join"])
    store.age(10**5)
    assert sweep_job(runtime, result.id) is Move.JOIN_SENT
    take_from_special_queue(app, ["join"])


def test_another_attempt_and_a_retry_have_the_same_options(app: Celery) -> None:
    """A worker sends a failed chunk again with the options of the first message, and so does a retry of the job."""
    signature = FailingTask.signature({"step": "process", "numbers": [3]}, app=app, max_attempts=2)
    result = signature.set(**GIVEN).delay()
    take_from_special_queue(app, ["setup"])
    run_setup_task(app, result.id)
    run_chunks(app, take_from_special_queue(app, ["process"]))
    run_chunks(app, take_from_special_queue(app, ["process"]))
    take_from_special_queue(app, ["join"])
    assert extension_of(app).job(result.id).retry()
    take_from_special_queue(app, ["process"])


def test_a_job_with_a_refused_input_delivers_with_its_options(app: Celery) -> None:
    """A job whose received value is refused at its setup delivers the failure with its options."""
    result = Numbers.signature(receives="numbers", app=app).set(**GIVEN).apply_async((3,))
    (message,) = take_from_special_queue(app, ["setup"])
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
    take_from_special_queue(app, ["join"])


def test_options_for_setup_or_join_do_not_reach_chunks(app: Celery) -> None:
    """The options eta, link, shadow and ignore_result of a signature are no options of a chunk."""
    signature = Numbers.signature({"numbers": [1]}, app=app).set(countdown=0.01, ignore_result=True, shadow="mine")
    signature.link(app.signature("after", immutable=True))
    result = signature.delay()
    (setup,) = take_messages(app, app.conf.task_default_queue)
    assert setup.headers["shadow"] == "mine"
    run_setup_task(app, result.id)
    (chunk,) = take_messages(app, app.conf.task_default_queue)
    assert (chunk.headers["eta"], chunk.headers["shadow"], chunk.payload[2]["callbacks"]) == (None, None, None)
    assert runtime_of(app).job(result.id).intent.routing == {}


class TenantStamp(StampingVisitor):
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"tenant": "acme", "stamped_headers": ["tenant"]}


def test_every_message_has_the_stamps(app: Celery) -> None:
    """Each message has the stamps, so that a revocation by a stamp meets any message of the job."""
    signature = Numbers.signature({"numbers": [1]}, app=app)
    signature.stamp(TenantStamp())
    result = signature.delay()
    run_setup_task(app, result.id)
    messages = take_messages(app, app.conf.task_default_queue)
    assert [step_of(message) for message in messages] == ["setup", "process"]
    for message in messages:
        assert message.headers["stamped_headers"] == ["tenant"]
        assert message.headers["stamps"] == {"tenant": "acme"}


def test_a_queue_may_be_an_object(app: Celery) -> None:
    """A queue may be given as an object, as in Celery. The intent has its name."""
    queue = Queue(QUEUE, Exchange(QUEUE), routing_key=QUEUE)
    app.amqp.queues.add(queue)
    result = Numbers.signature({"numbers": [1]}, app=app).apply_async(queue=queue)
    assert len(take_messages(app, QUEUE)) == 1
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
def test_an_option_that_would_break_the_job_is_refused(app: Celery, options: dict[str, Any], message: str) -> None:
    """An error with the option's name and the remedy is raised, by `set` and by the launch.

    Nothing is written or sent.
    """
    signature = Numbers.signature({"numbers": [1]}, app=app)
    with pytest.raises(ConfigError, match=message):
        signature.clone().set(**options)
    with pytest.raises(ConfigError, match=message):
        signature.apply_async(**options)
    assert take_messages(app, app.conf.task_default_queue) == []
    assert list(runtime_of(app).store.list()) == []


def test_in_a_chain_a_refused_option_is_left_out(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that launches the next step of a chain logs that it leaves out a refused option. The job runs."""
    signature = Numbers.signature(receives="numbers", app=app)
    signature.apply_async(([1],), serializer="pickle", parent_id="the-step-before")
    (message,) = take_messages(app, app.conf.task_default_queue)
    assert message.content_type == "application/json"
    assert "launched without an option: serializer='pickle'" in caplog.text


def test_submit_refuses_an_option_for_signatures_only(app: Celery) -> None:
    """The error names the option and the way to give it to a signature instead."""
    with pytest.raises(ConfigError, match=r"send_options can't have link; .*signature\(values\)\.set"):
        Numbers.submit({"numbers": [1]}, app=app, send_options={"link": "x"})


def test_an_unknown_queue_is_refused(app: Celery) -> None:
    """With `task_create_missing_queues` off, an unknown queue is refused before the intent is written."""
    app.conf.task_create_missing_queues = False
    with pytest.raises(ConfigError, match="queue='nowhere' is not among the app's task_queues"):
        Numbers.submit({"numbers": [1]}, app=app, send_options={"queue": "nowhere"})
    assert list(runtime_of(app).store.list()) == []
