"""How a worker's main process handles the message of a stage that it has to stop."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import TimeLimitExceeded
from celery import Celery

import fanout
from fanout.declaration.definition import TASKS
from fanout.engines.celery.headers import MESSAGE_HEADER, OVERRAN_HEADER, REQUEUED_HEADER
from fanout.engines.celery.request import StageRequest

from .tasks import Words

NAME = f"{Words.name}.process"
ROW = ["job", "setup_id", 3]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A connected app whose broker is in memory."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    made = Celery("requests", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.task_default_queue = f"requests-{uuid.uuid4().hex}"
    fanout.connect(made, store="memory://requests")
    made.finalize()
    yield made
    made.close()


class Pool:
    def terminate_job(self, pid: int, signal: int) -> None:
        """Do nothing, as there is no child to stop."""


class Received(StageRequest):
    """A message of a chunk. Records whether the worker acknowledges or rejects it."""

    def __init__(self, app: Celery) -> None:
        headers = {
            "id": "the-id",
            MESSAGE_HEADER: "the-message",
            "task": NAME,
            "group": "the-group",
            "retries": 2,
            "argsrepr": "",
            "kwargsrepr": "",
        }
        message = SimpleNamespace(
            headers=headers,
            body=b"",
            payload=(ROW, {}, {}),
            content_type="application/json",
            content_encoding="utf-8",
            delivery_info={"exchange": "", "routing_key": app.conf.task_default_queue, "redelivered": True},
            properties={"correlation_id": "the-id"},
        )
        self.fate: list[str] = []
        super().__init__(
            message,
            app=app,
            task=app.tasks[NAME],
            on_ack=lambda *_: self.fate.append("acknowledged"),
            on_reject=lambda logger, errors, requeue: self.fate.append(f"rejected, requeue={requeue}"),
        )


def take_messages(app: Celery) -> list[Any]:
    """Take the waiting messages from the queue, and return them."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        return list(iter(lambda: queue.get(no_ack=True), None))


def refuse_to_send(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no broker")

    monkeypatch.setattr(app.tasks[NAME], "signature_from_request", refuse)


def overran_info() -> ExceptionInfo:
    try:
        raise TimeLimitExceeded(30)
    except TimeLimitExceeded:
        return ExceptionInfo()


def test_a_step_at_its_time_limit_is_sent_again_with_the_limit(app: Celery) -> None:
    """The worker sends the same message once, with the limit in a header. The pool reports a time limit in two ways."""
    received = Received(app)
    received.on_failure(overran_info())
    received.on_timeout(soft=False, timeout=30)
    assert received.fate == ["acknowledged"]
    (message,) = take_messages(app)
    assert message.headers[OVERRAN_HEADER] == 30
    assert (message.headers["id"], message.headers["task"], message.headers["group"]) == ("the-id", NAME, "the-group")
    assert message.headers["retries"] == 2
    assert message.headers[MESSAGE_HEADER] == "the-message"
    assert message.payload[0] == ROW


def test_a_step_at_its_time_limit_without_a_broker_is_requeued(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot send the message again gives it back to the broker, so that it is not lost."""
    refuse_to_send(app, monkeypatch)
    received = Received(app)
    received.on_timeout(soft=False, timeout=30)
    assert received.fate == ["rejected, requeue=True"]


def test_the_soft_limit_is_left_to_the_child(app: Celery) -> None:
    """At the soft limit the main process does nothing, because Celery interrupts the step itself."""
    received = Received(app)
    received.on_timeout(soft=True, timeout=30)
    assert (received.fate, take_messages(app)) == ([], [])


def test_a_shutdown_sends_a_message_again(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a shutdown the worker sends its messages again, with a header. If that fails, the broker keeps them."""
    received = Received(app)
    received.cancel(Pool(), emit_retry=False)
    assert received.fate == ["acknowledged"]
    (message,) = take_messages(app)
    assert message.headers[REQUEUED_HEADER] == 1
    assert OVERRAN_HEADER not in message.headers
    refuse_to_send(app, monkeypatch)
    received = Received(app)
    received.cancel(Pool(), emit_retry=False)
    assert received.fate == []


def test_a_lost_connection_is_left_to_the_broker(app: Celery) -> None:
    """After the loss of a connection the broker delivers again by itself, so the worker sends no message."""
    received = Received(app)
    received.cancel(Pool(), emit_retry=True)
    assert (received.fate, take_messages(app)) == ([], [])
