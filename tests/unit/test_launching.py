"""A launch whose message cannot be sent ends in time, names the state of the job, and leaves no job behind."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest
from celery import Celery
from celery._state import _task_stack
from celery.exceptions import Ignore, Reject
from celery.signals import before_task_publish
from kombu import Connection
from kombu.exceptions import OperationalError

import fanout
from fanout import BrokerUnavailable, ConfigError, JobNotFound, JobState
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of, tasks
from fanout.engines.celery.dispatcher import (
    SETUP_WAITS_S,
    STAGE_WAITS_S,
    CeleryDispatcher,
    _publish_limits,
    celery_name,
)
from fanout.engines.celery.publishing import publish, requeue
from fanout.engines.celery.publishing.publish import (
    BrokerRefuses,
    Message,
    PublishFailed,
    PublishLimits,
    publish_all,
)
from fanout.engines.celery.stage_task import StageTask
from fanout.records.chunk_ref import ChunkLocation, ChunkRef
from fanout.records.models import Continuation, Intent
from fanout.runtime import Runtime
from storage import Slice
from tests.stores import ScriptedStore

from .tasks import Numbers

INTENT = Intent(launch_id="launch", task=Numbers.name, inline=b"", references={}, options={}, created_at=0.0)

LIMIT_S = 0.3
SLACK_S = 3.0
"""Longest time that a launch may take beyond its limit, on a busy machine."""


@pytest.fixture(autouse=True)
def _isolate_declarations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the apps of a test from registering the tasks that other tests declare."""
    monkeypatch.setattr(TASKS, "_listeners", [])


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def make_app(store: ScriptedStore) -> Iterator[Callable[..., Celery]]:
    """Return a factory of apps with a broker and the store, whose launches are limited to a third of a second."""
    made = []

    def make(broker: Any, **settings: Any) -> Celery:
        app = Celery("launching", broker=broker, set_as_current=False)
        app.conf.update(broker_connection_timeout=0.2, **settings)
        fanout.connect(app, store="memory://unused", publish_timeout_s=LIMIT_S)
        extension_of(app).runtime.store = store
        app.finalize()
        made.append(app)
        return app

    yield make
    for app in made:
        app.close()


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    """Return an app with a working broker, in memory."""
    return make_app(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def black_hole() -> Iterator[str]:
    """Yield the URL of a broker that accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://127.0.0.1:{server.getsockname()[1]}//"


@pytest.fixture
def refusing() -> str:
    """Return the URL of a broker that is down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"amqp://guest:secret@127.0.0.1:{port}//"


LAUNCHES: dict[str, Callable[..., Any]] = {
    "submit": lambda app, **options: Numbers.submit({"numbers": [1, 2]}, app=app, **options),
    "in_caller": lambda app, **options: Numbers.submit({"numbers": [1, 2]}, app=app, setup_in_caller=True, **options),
    "stream": lambda app, **options: Numbers.submit({"numbers": iter([1, 2])}, app=app, **options),
    "signature": lambda app, job_id=None: Numbers.signature({"numbers": [1, 2]}, app=app).apply_async(task_id=job_id),
}


@pytest.mark.parametrize("launch_by", LAUNCHES)
@pytest.mark.parametrize("broker", ["refusing", "black_hole", "list", "nowhere", "redis"])
def test_a_launch_without_a_broker_fails_in_time(
    request: pytest.FixtureRequest, make_app: Callable[..., Celery], store: ScriptedStore, broker: str, launch_by: str
) -> None:
    """Without a working broker, a launch ends in time with an error of fanout and of kombu, and no job runs."""
    url: Any = "amqp://nowhere.invalid//" if broker == "nowhere" else request.getfixturevalue("refusing")
    if broker in ("black_hole", "list"):
        hole = request.getfixturevalue("black_hole")
        url = hole if broker == "black_hole" else [url, hole]
    if broker == "redis":
        url = request.getfixturevalue("black_hole").replace("amqp://", "redis://").removesuffix("//")
    app = make_app(url)
    started_at = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"job own.*never runs") as caught:
        LAUNCHES[launch_by](app, job_id="own")
    assert time.monotonic() - started_at < LIMIT_S + SLACK_S
    assert isinstance(caught.value, OperationalError), "code that expects Celery's error goes on to work"
    assert "secret" not in str(caught.value)
    if launch_by in ("in_caller", "stream"):
        # Workers may have received some of its chunks.
        assert fanout.attach("own", app=app).state == JobState.FAILED
        return
    assert store.keys("_jobs/own/") == []
    with pytest.raises(JobNotFound):
        fanout.attach("own", app=app).get(timeout=0.1)


@pytest.mark.parametrize("launch_by", LAUNCHES)
def test_a_callers_own_id_may_be_launched_again(
    make_app: Callable[..., Celery], app: Celery, refusing: str, store: ScriptedStore, launch_by: str
) -> None:
    """After a failed launch, a second one with the same id succeeds, and its job is like any other."""
    with pytest.raises(BrokerUnavailable):
        LAUNCHES[launch_by](make_app(refusing), job_id="own")
    LAUNCHES[launch_by](app, job_id="own")
    assert extension_of(app).runtime.ledger("own").intent().task == Numbers.name


def confirm_nothing(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> None:
    """Replace publishing by a broker that confirms nothing, and call `then` before the error."""

    def publish_all(*args: Any, **options: Any) -> None:
        then()
        raise PublishFailed("the broker confirmed nothing within 60 s")

    monkeypatch.setattr(tasks, "publish_all", publish_all)


def begin(runtime: Runtime, job_id: str) -> None:
    """Write the continuation, which is the first record of a worker that begins a job."""
    runtime.ledger(job_id).write_continuation(Continuation(message="{}"))


def test_a_launch_with_a_lost_confirmation_succeeds(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worker has begun the job, only the confirmation was lost, and the launch succeeds."""
    runtime = extension_of(app).runtime
    confirm_nothing(monkeypatch, lambda: begin(runtime, "own"))
    assert LAUNCHES["submit"](app, job_id="own").id == "own"
    assert runtime.ledger("own").intent().task == Numbers.name


def test_a_launch_succeeds_if_a_worker_begins_during_its_removal(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worker writes its continuation before the intent is removed, the caller writes the intent again."""
    runtime = extension_of(app).runtime
    confirm_nothing(monkeypatch)

    store.before_first("delete", "", lambda: begin(runtime, "own"))
    assert LAUNCHES["submit"](app, job_id="own").id == "own"
    assert runtime.ledger("own").intent().task == Numbers.name


def test_a_launch_that_cannot_be_undone(app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store fails, too, the error says that the job may run, and how to launch it only once."""
    confirm_nothing(monkeypatch)

    message = r"job own exists and may run.*launch it again under the same id"
    with store.failing("delete"), pytest.raises(BrokerUnavailable, match=message):
        LAUNCHES["submit"](app, job_id="own")


def test_a_failed_launch_keeps_an_earlier_launch(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another caller has launched the job, it remains, and the error says that it exists."""
    LAUNCHES["submit"](app, job_id="own")
    confirm_nothing(monkeypatch)
    with pytest.raises(BrokerUnavailable, match="job own had been launched before: it still exists"):
        LAUNCHES["submit"](app, job_id="own")
    assert len(store.keys("_jobs/own/")) == 1


def test_any_error_of_sending_undoes_the_launch(app: Celery, store: ScriptedStore) -> None:
    """If sending fails with any error, such as Ctrl-C, the caller gets that error, and the job never runs."""

    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    signature = Numbers.signature({"numbers": [1]}, app=app)
    before_task_publish.connect(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as interrupted:
            signature.apply_async(task_id="own")
    finally:
        before_task_publish.disconnect(interrupt)
    assert store.keys("_jobs/own/") == []
    assert interrupted.value.__notes__ == ["job own was not launched, and never runs: launch it again"]


def test_an_interrupted_stream_cancels_the_job(app: Celery, store: ScriptedStore) -> None:
    """After Ctrl-C during the input the job is cancelled, and its id can be used again."""

    def numbers() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Numbers.submit({"numbers": numbers()}, app=app, job_id="own", chunk_items=1)
    assert fanout.attach("own", app=app).state == JobState.CANCELLED
    Numbers.submit({"numbers": iter([1, 2])}, app=app, job_id="own", chunk_items=1)
    assert fanout.attach("own", app=app).progress().chunks == 2


def test_retry_false_sends_once(make_app: Callable[..., Celery], refusing: str) -> None:
    """A launch with `retry=False` fails at once."""
    app = make_app(refusing)
    fanout.connect(app, publish_timeout_s=3600)
    started_at = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="Connection refused"):
        Numbers.signature({"numbers": [1]}, app=app).apply_async(retry=False)
    assert time.monotonic() - started_at < SLACK_S


@pytest.mark.parametrize("broker", ["nosuch://host//", "amqp://guest:secret@127.0.0.1:port//"])
def test_a_broker_url_that_kombu_cannot_read_is_a_configuration_error(
    make_app: Callable[..., Celery], store: ScriptedStore, broker: str
) -> None:
    """A launch names the setting at once, without the password, and leaves no job behind."""
    with pytest.raises(ConfigError, match=r"^broker_url can't be used: .*install what Celery needs") as caught:
        Numbers.submit({"numbers": [1]}, app=make_app(broker), job_id="own")
    assert "secret" not in str(caught.value)
    assert store.keys("_jobs/own") == []


@pytest.mark.parametrize("error", [amqp.AccessRefused("ACCESS_REFUSED"), amqp.NotAllowed("vhost not found")])
def test_a_broker_that_refuses_the_login_is_a_configuration_error(
    make_app: Callable[..., Celery], refusing: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """A launch does not try again, and names the setting."""

    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Connection, "ensure_connection", refuse)
    app = make_app(refusing)
    fanout.connect(app, publish_timeout_s=3600)
    with pytest.raises(ConfigError, match=r"^the broker refuses this app: amqp://\*\*\*.*Correct the user") as caught:
        Numbers.submit({"numbers": [1]}, app=app)
    assert caught.value.__cause__ is error


def test_the_log_repeats_an_outage_every_quarter_of_a_minute_at_most(
    app: Celery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many attempts of one message make one line."""
    monkeypatch.setattr(publish, "LONGEST_PAUSE_S", 0.01)
    attempts: list[int] = []

    def fail(producer: object) -> None:
        attempts.append(1)
        raise OperationalError("broken")

    with pytest.raises(PublishFailed):
        publish_all(app, [Message("1", "a.task", {}, fail)], PublishLimits(silent_s=0.3, refusing_s=0.3))
    assert len(attempts) > 3
    assert [record.getMessage()[:34] for record in caplog.records].count("1 message not sent yet, and for 0 ") == 1


def test_the_dispatcher_gives_up_in_time(make_app: Callable[..., Celery], refusing: str, store: ScriptedStore) -> None:
    """A resend, a join or a retry of a job ends with the same error, which names the broker and no password."""
    app = make_app(refusing)
    dispatcher = CeleryDispatcher(app, timeout_s=0.1)
    with pytest.raises(PublishFailed, match=r"the broker takes no messages: amqp://.*Connection refused"):
        dispatcher.send_join("own", INTENT, None, resent=True)


def test_monitors_show_which_chunks_a_message_carries(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments that Flower shows name the chunk, or the first and the last chunk of a batch."""
    sent: list[Message] = []
    monkeypatch.setattr(
        "fanout.engines.celery.dispatcher.publish_all", lambda app, messages, limits, needless: sent.extend(messages)
    )
    batch = ChunkRef("job", "launch", "setup", 32, ChunkLocation(Slice(0, 0, 9, "d" * 32), 0, (1, 1, 1)))
    CeleryDispatcher(app, timeout_s=0.1).send_chunks(INTENT, [batch, batch.part(1)])
    assert [message.options["argsrepr"] for message in sent] == ["(chunks 32 to 34)", "(chunk 33)"]


def test_each_message_has_an_id_of_its_own(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages for the same step of a job differ in their ids, and a caller's message has its Celery task id."""
    sent: list[Message] = []
    monkeypatch.setattr(
        "fanout.engines.celery.dispatcher.publish_all", lambda app, messages, limits, **_: sent.extend(messages)
    )
    app.finalize()
    dispatcher = CeleryDispatcher(app, timeout_s=0.1)
    chunk = ChunkRef("job", "launch", "setup", 32, ChunkLocation(Slice(0, 0, 9, "d" * 32), 0, (1,)))
    for _ in range(2):
        dispatcher.send_setup("job", INTENT, resent=True)
        dispatcher.send_chunks(INTENT, [chunk])
        dispatcher.send_join("job", INTENT, None, resent=True)
    headers = [{"id": message.options["task_id"], **message.options["headers"]} for message in sent]
    ids = [_read_message_id(app, message) for message in [*headers, {"id": "job"}]]
    assert len(set(ids)) == 7
    assert ids[-1] == "job"


def _read_message_id(app: Celery, headers: dict[str, Any]) -> str:
    """Return the id of a message by which a worker knows it again."""
    task = app.tasks[celery_name(Numbers.name, "join")]
    assert isinstance(task, StageTask)
    task.push_request(**headers)
    try:
        return task.delivery.message
    finally:
        task.pop_request()


@pytest.mark.parametrize(
    ("step", "refusing_s"),
    [(None, 60.0), ("setup", SETUP_WAITS_S), ("process", STAGE_WAITS_S), ("join", STAGE_WAITS_S)],
)
def test_only_setup_waits_long_for_a_full_queue(app: Celery, step: str | None, refusing_s: float) -> None:
    """Setup waits long, because it would have to begin anew. The queue may wait for process and join, which do not."""
    if step is not None:
        task = app.tasks[f"{Numbers.name}.{step}"]
        task.push_request(called_directly=False)
        _task_stack.push(task)
    try:
        limits = _publish_limits(app, 60.0)
    finally:
        if step is not None:
            _task_stack.pop()
            task.pop_request()
    assert (limits.silent_s, limits.refusing_s) == (60.0, refusing_s)


@pytest.mark.parametrize("redelivered", [False, True])
@pytest.mark.parametrize("may_drop", [False, True])
@pytest.mark.parametrize("error", [PublishFailed("gone"), BrokerRefuses("full")])
def test_a_stage_requeues_its_message_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, *, redelivered: bool, may_drop: bool, error: BrokerUnavailable
) -> None:
    """A stage requeues its message after a pause.

    If a redelivered message that a sweep can send again meets a full queue, the stage drops it, so that the queue
    drains.
    """
    pauses: list[float] = []
    monkeypatch.setattr(requeue.time, "sleep", pauses.append)
    error_to_raise = requeue.requeue("task", redelivered=redelivered, may_drop=may_drop, error=error)
    if redelivered and may_drop and isinstance(error, BrokerRefuses):
        assert isinstance(error_to_raise, Ignore)
        assert pauses == []
    else:
        assert isinstance(error_to_raise, Reject)
        assert error_to_raise.requeue
        assert requeue.PAUSE_S / 5 <= pauses[0] <= requeue.PAUSE_S
