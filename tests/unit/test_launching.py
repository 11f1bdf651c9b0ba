"""A launch whose message can't be sent: it ends in time, says what became of the job, and leaves none behind."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery
from celery._state import _task_stack
from celery.exceptions import Ignore, Reject
from celery.signals import before_task_publish
from kombu.exceptions import OperationalError

import fanout
from fanout import BrokerUnavailable, JobNotFound, JobState
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of, tasks
from fanout.engines.celery.dispatcher import SETUP_WAITS_S, STAGE_WAITS_S, CeleryDispatcher, _publish_limits
from fanout.engines.celery.publishing import requeue
from fanout.engines.celery.publishing.publish import BrokerRefuses, PublishFailed
from fanout.records.models import Continuation, Intent
from fanout.runtime import Runtime
from storage import StorageUnavailable

from .stores import ScriptedStore
from .tasks import Numbers

INTENT = Intent(launch_id="launch", task=Numbers.name, inline=b"", references={}, options={}, created_at=0.0)

LIMIT_S = 0.3
SLACK_S = 3.0
"""Longest time that a launch may take beyond its limit, on a machine that is busy."""


@pytest.fixture(autouse=True)
def _no_listener_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps of one test are not told of the tasks that other tests declare."""
    monkeypatch.setattr(TASKS, "_listeners", [])


@pytest.fixture
def store() -> ScriptedStore:
    return ScriptedStore()


@pytest.fixture
def make_app(store: ScriptedStore) -> Iterator[Callable[..., Celery]]:
    """Makes an app on a broker, with the store; launches are limited to a third of a second."""
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
    """An app whose broker works, in memory."""
    return make_app(f"memory://{uuid.uuid4().hex}")


@pytest.fixture
def black_hole() -> Iterator[str]:
    """A broker that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"amqp://127.0.0.1:{server.getsockname()[1]}//"


@pytest.fixture
def refusing() -> str:
    """A broker that is down."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return f"amqp://guest:secret@127.0.0.1:{port}//"


WAYS: dict[str, Callable[..., Any]] = {
    "submit": lambda app, **options: Numbers.submit({"numbers": [1, 2]}, app=app, **options),
    "here": lambda app, **options: Numbers.submit({"numbers": [1, 2]}, app=app, setup_in_caller=True, **options),
    "stream": lambda app, **options: Numbers.submit({"numbers": iter([1, 2])}, app=app, **options),
    "signature": lambda app, job_id=None: Numbers.signature({"numbers": [1, 2]}, app=app).apply_async(task_id=job_id),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("broker", ["refusing", "black_hole", "list", "nowhere", "redis"])
def test_a_broker_that_is_away(
    request: pytest.FixtureRequest, make_app: Callable[..., Celery], store: ScriptedStore, broker: str, way: str
) -> None:
    """Whatever is wrong with it, a launch ends in time with one error of ours and kombu's, and no job runs."""
    url: Any = "amqp://nowhere.invalid//" if broker == "nowhere" else request.getfixturevalue("refusing")
    if broker in ("black_hole", "list"):
        hole = request.getfixturevalue("black_hole")
        url = hole if broker == "black_hole" else [url, hole]
    if broker == "redis":
        url = request.getfixturevalue("black_hole").replace("amqp://", "redis://").removesuffix("//")
    app = make_app(url)
    started_at = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"job own.*never runs") as caught:
        WAYS[way](app, job_id="own")
    assert time.monotonic() - started_at < LIMIT_S + SLACK_S
    assert isinstance(caught.value, OperationalError), "code that expects Celery's error goes on to work"
    assert "secret" not in str(caught.value)
    if way in ("here", "stream"):
        # Workers may have some of its chunks.
        assert fanout.attach("own", app=app).state == JobState.FAILED
        return
    assert store.keys("_jobs/own/") == []
    with pytest.raises(JobNotFound):
        fanout.attach("own", app=app).get(timeout=0.1)


@pytest.mark.parametrize("way", WAYS)
def test_an_id_of_ones_own_may_be_launched_again(
    make_app: Callable[..., Celery], app: Celery, refusing: str, store: ScriptedStore, way: str
) -> None:
    """After a launch that failed, the same one succeeds, and is a job like any other."""
    with pytest.raises(BrokerUnavailable):
        WAYS[way](make_app(refusing), job_id="own")
    WAYS[way](app, job_id="own")
    assert extension_of(app).runtime.ledger("own").intent().task == Numbers.name


def unsent(monkeypatch: pytest.MonkeyPatch, then: Callable[[], None] = lambda: None) -> None:
    """The broker confirms nothing; meanwhile something happens."""

    def publish_all(*args: Any, **options: Any) -> None:
        then()
        raise PublishFailed("the broker confirmed nothing within 60 s")

    monkeypatch.setattr(tasks, "publish_all", publish_all)


def begun(runtime: Runtime, job_id: str) -> None:
    """What a worker writes first of all when it takes up a job."""
    runtime.ledger(job_id).write_continuation(Continuation(message="{}"))


def test_a_message_that_got_through_all_the_same(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its confirmation was lost: a worker has begun, and the launch has succeeded."""
    runtime = extension_of(app).runtime
    unsent(monkeypatch, lambda: begun(runtime, "own"))
    assert WAYS["submit"](app, job_id="own").id == "own"
    assert runtime.ledger("own").intent().task == Numbers.name


def test_a_worker_that_begins_while_the_launch_is_undone(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has left its continuation before the intent was gone: the intent comes back, and the job goes on."""
    runtime = extension_of(app).runtime
    unsent(monkeypatch)

    def before(verb: str, key: str) -> None:
        if verb == "delete":
            begun(runtime, "own")

    store.before = before
    assert WAYS["submit"](app, job_id="own").id == "own"
    assert runtime.ledger("own").intent().task == Numbers.name


def test_a_store_that_fails_as_well(app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch can't be undone: the error says that the job may run, and how to have it run once."""
    unsent(monkeypatch)

    def before(verb: str, key: str) -> None:
        if verb == "delete":
            raise StorageUnavailable("no answer", key=key)

    store.before = before
    told = r"job own exists and may run.*launch it again under the same id"
    with pytest.raises(BrokerUnavailable, match=told):
        WAYS["submit"](app, job_id="own")


def test_a_job_that_was_launched_before_stays(
    app: Celery, store: ScriptedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another caller launched it, and may count on it: the error says that it is on record."""
    WAYS["submit"](app, job_id="own")
    unsent(monkeypatch)
    with pytest.raises(BrokerUnavailable, match="job own had been launched before: it still exists"):
        WAYS["submit"](app, job_id="own")
    assert len(store.keys("_jobs/own/")) == 1


def test_any_error_of_sending_undoes_the_launch(app: Celery, store: ScriptedStore) -> None:
    """Ctrl-C while the message is sent, say: the caller sees it, and the job never runs."""

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


def test_a_caller_that_gives_a_stream_up(app: Celery, store: ScriptedStore) -> None:
    """Ctrl-C while the input is read: the job has ended, and its id can be used again."""

    def numbers() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Numbers.submit({"numbers": numbers()}, app=app, job_id="own", chunk_items=1)
    assert fanout.attach("own", app=app).state == JobState.CANCELLED
    Numbers.submit({"numbers": iter([1, 2])}, app=app, job_id="own", chunk_items=1)
    assert fanout.attach("own", app=app).progress().chunks == 2


def test_no_second_attempt_without_retry(make_app: Callable[..., Celery], refusing: str) -> None:
    """`retry=False` for a launch fails at once."""
    app = make_app(refusing)
    fanout.connect(app, publish_timeout_s=3600)
    started_at = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="Connection refused"):
        Numbers.signature({"numbers": [1]}, app=app).apply_async(retry=False)
    assert time.monotonic() - started_at < SLACK_S


def test_the_dispatcher_gives_up_in_time(make_app: Callable[..., Celery], refusing: str, store: ScriptedStore) -> None:
    """A resend, a join and a retry of a job end with the same error, which names the broker and no password."""
    app = make_app(refusing)
    dispatcher = CeleryDispatcher(app, timeout_s=0.1)
    with pytest.raises(PublishFailed, match=r"the broker takes no messages: amqp://.*Connection refused"):
        dispatcher.send_join("own", INTENT, None, resent=True)


@pytest.mark.parametrize(
    ("step", "refusing_s"),
    [(None, 60.0), ("setup", SETUP_WAITS_S), ("process", STAGE_WAITS_S), ("join", STAGE_WAITS_S)],
)
def test_how_long_a_full_queue_is_waited_for(app: Celery, step: str | None, refusing_s: float) -> None:
    """A setup waits long, for giving up means to begin anew; process and join do not: the queue may wait for them."""
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
def test_a_stage_gives_its_message_back_after_a_pause(
    monkeypatch: pytest.MonkeyPatch, *, redelivered: bool, may_drop: bool, error: BrokerUnavailable
) -> None:
    """Never at once, and not for ever: what meets a full queue again is left to a sweep, so that the queue drains."""
    pauses: list[float] = []
    monkeypatch.setattr(requeue.time, "sleep", pauses.append)
    found = requeue.requeue("task", redelivered=redelivered, may_drop=may_drop, error=error)
    if redelivered and may_drop and isinstance(error, BrokerRefuses):
        assert isinstance(found, Ignore)
        assert pauses == []
    else:
        assert isinstance(found, Reject)
        assert found.requeue
        assert requeue.PAUSE_S / 5 <= pauses[0] <= requeue.PAUSE_S
