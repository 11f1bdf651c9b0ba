"""If sender and worker use different stores, the worker logs an error at once that names both."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of
from fanout.engines.celery.headers import STORE_HEADER

from .tasks import Numbers


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(TASKS, "_listeners", [])
    return uuid.uuid4().hex


def app_on(store: Path, queue: str) -> Celery:
    app = Celery("mismatch", broker="memory://mismatch", set_as_current=False)
    app.conf.task_default_queue = queue
    fanout.connect(app, store=store.as_uri())
    app.finalize()
    return app


@pytest.fixture
def caller(queue: str, tmp_path: Path) -> Iterator[Celery]:
    made = app_on(tmp_path / "callers", queue)
    yield made
    take_messages(made)
    made.close()


@pytest.fixture
def worker(queue: str, tmp_path: Path) -> Iterator[Celery]:
    made = app_on(tmp_path / "workers", queue)
    yield made
    made.close()


def take_messages(app: Celery) -> list[Any]:
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        return list(iter(lambda: queue.get(no_ack=True), None))


def begin_task(app: Celery, message: Any) -> None:
    """Do the work of a worker before the stage."""
    task = app.tasks[message.headers["task"]]
    args, kwargs, _ = message.payload
    task.push_request(**{**message.headers, "args": args, "kwargs": kwargs, "called_directly": False})
    try:
        task.before_start(message.headers["id"], args, kwargs)
    finally:
        task.pop_request()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_worker_with_another_store_names_both(
    caller: Celery, worker: Celery, streamed: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker logs one line of level ERROR for setup's message, or for all chunks of a stream."""
    numbers: Any = iter([1, 2, 3]) if streamed else [1, 2, 3]
    job = Numbers.submit({"numbers": numbers}, app=caller)
    for message in take_messages(caller):
        begin_task(worker, message)
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    for expected in (job.id, (tmp_path / "callers").as_uri(), (tmp_path / "workers").as_uri(), "the same store"):
        assert expected in record.getMessage()


def test_a_worker_with_the_same_store_logs_nothing(
    caller: Celery, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with the sender's store logs nothing and sends no request for the check."""
    Numbers.submit({"numbers": [1]}, app=caller)
    monkeypatch.setattr(extension_of(caller).runtime, "ledger", None)
    for message in take_messages(caller):
        assert message.headers[STORE_HEADER] == extension_of(caller).runtime.store.url
        begin_task(caller, message)
    assert caplog.text == ""


def test_another_name_of_the_same_store_is_no_error(
    caller: Celery, worker: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    """If the worker's store has the job, the sender's URL does not matter."""
    Numbers.submit({"numbers": [1]}, app=caller)
    extension_of(worker).runtime.store = extension_of(caller).runtime.store
    for message in take_messages(caller):
        message.headers[STORE_HEADER] = "file:///by/another/way"
        begin_task(worker, message)
    assert caplog.text == ""


@pytest.mark.parametrize("header", [3, None, ["x"], "x" * 10_000])
def test_a_forged_header_does_no_harm(caller: Celery, worker: Celery, header: Any) -> None:
    """The stage runs in spite of a forged header."""
    Numbers.submit({"numbers": [1]}, app=caller)
    for message in take_messages(caller):
        message.headers[STORE_HEADER] = header
        begin_task(worker, message)


def test_an_error_in_the_check_does_not_stop_the_stage(
    caller: Celery, worker: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check is only a hint, so an error in it does not end the message."""
    Numbers.submit({"numbers": [1]}, app=caller)

    def refuse(*_: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(extension_of(worker).runtime, "ledger", refuse)
    for message in take_messages(caller):
        begin_task(worker, message)
