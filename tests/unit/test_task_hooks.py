"""An app's own task class applies to the three tasks of a job, as to any other task."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from celery import Celery, Task
from celery.exceptions import Ignore, Retry
from celery.worker.request import Request

import fanout
from fanout import JobFailed
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of
from fanout.engines.celery.request import StageRequest
from fanout.engines.celery.task_base import TaskBase
from fanout.engines.celery.task_hooks import MAX_STARTS
from fanout.records.ledger import Ledger
from tests.stores import ScriptedStore

from .tasks import Numbers

hooks: list[tuple[str, str]] = []


@pytest.fixture(autouse=True)
def _forget_apps_and_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TASKS, "_listeners", [])
    hooks.clear()


class AppRequest(Request):
    """The request class of an app."""

    is_apps = True


class ContextTask(TaskBase):
    """A task class with hooks and attributes."""

    abstract = True
    acks_late = False
    typing = True
    serializer = "pickle"
    rate_limit = "100/s"
    time_limit = 77
    priority = 3
    autoretry_for = (Exception,)
    throws = (LookupError,)
    Request = AppRequest

    def on_failure(self, exc: Any, *_: Any) -> None:
        hooks.append(("failure", self.name.rpartition(".")[2]))

    def on_success(self, *_: Any) -> None:
        hooks.append(("success", self.name.rpartition(".")[2]))

    def after_return(self, status: str, *_: Any) -> None:
        hooks.append((status, self.name.rpartition(".")[2]))


class RaisingCall(TaskBase):
    """A task class whose `__call__` raises."""

    abstract = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise OSError("the database is away")


class RaisingStart(TaskBase):
    """A task class whose `before_start` raises."""

    abstract = True

    def before_start(self, *_: Any) -> None:
        raise OSError("the database is away")


def make_app(task_class: type[Task[Any, Any]] | None = None, **settings: Any) -> Celery:
    app = Celery("hooks", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False, task_cls=task_class)
    app.conf.update(task_default_queue=uuid.uuid4().hex, result_backend="cache+memory://", **settings)
    fanout.connect(app, store="memory://hooks")
    extension_of(app).runtime.store = ScriptedStore()
    return app


def task_of(app: Celery, step: str) -> Any:
    app.finalize()
    return app.tasks[f"{Numbers.name}.{step}"]


STEPS = ["setup", "process", "join"]


def assign_task_class(app: Celery) -> None:
    app.Task = ContextTask  # type: ignore[misc,assignment]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("way", ["task_cls", "assigned"])
def test_the_apps_class_is_a_base_of_each_task(step: str, way: str) -> None:
    """The attributes of the app's class apply, except those that the protocol relies on."""
    app = make_app(ContextTask if way == "task_cls" else None)
    if way == "assigned":
        assign_task_class(app)
    made = task_of(app, step)
    assert isinstance(made, ContextTask)
    assert (made.rate_limit, made.time_limit, made.priority) == ("100/s", 77, 3)
    assert (made.acks_late, made.typing, made.serializer, made.autoretry_for) == (True, False, "json", ())
    assert made.throws == (JobFailed, LookupError)
    assert not hasattr(made, "_orig_run"), "Celery has not wrapped it to retry by itself"
    app.close()


def test_the_request_class_derives_from_the_apps() -> None:
    """The stage's request class, which handles time limits and shutdowns, derives from the app's."""
    request_class = task_of(make_app(ContextTask), "process").Request
    assert issubclass(request_class, StageRequest)
    assert issubclass(request_class, AppRequest)
    assert task_of(make_app(), "process").Request is StageRequest


def run_job(app: Celery, values: Any) -> str:
    """Launch a job, and run its chunks and join as a worker does, with all hooks."""
    job = Numbers.submit(values, app=app)
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        while (message := queue.get(no_ack=True)) is not None:
            args, kwargs, _ = message.payload
            app.tasks[message.headers["task"]].apply(args, kwargs, task_id=message.headers["id"])
    return job.id


def test_hooks_of_the_app_and_of_fanout_are_called() -> None:
    """The app's `after_return` and `on_success` are called, and the delivery is recorded, too."""
    app = make_app(ContextTask)
    job_id = run_job(app, {"numbers": iter([1])})
    assert extension_of(app).job(job_id).get(1) == [1]
    assert hooks == [("success", "process"), ("SUCCESS", "process"), ("success", "join"), ("SUCCESS", "join")]
    assert Ledger.of(extension_of(app).runtime.store, job_id).is_delivered()
    app.close()


def test_a_failed_job_calls_on_failure_once() -> None:
    """`on_failure` is called for the join, which is the job's own Celery task."""
    app = make_app(ContextTask)
    job = Numbers.submit({"numbers": iter([1])}, app=app)
    job.cancel()
    task_of(app, "join").apply((job.id,), task_id=job.id)
    assert hooks == [("failure", "join"), ("FAILURE", "join")]
    app.close()


def start_task(made: Any, job_id: str, retries: int) -> None:
    """Do the work of a worker before and around the step."""
    made.push_request(id=job_id, args=[], kwargs={}, retries=retries, called_directly=False, is_eager=False)
    try:
        made.before_start(job_id, [], {})
        made()
    finally:
        made.pop_request()


@pytest.mark.parametrize("task_class", [RaisingCall, RaisingStart])
def test_hooks_that_raise_end_the_job_once(task_class: type[Task[Any, Any]]) -> None:
    """The stage is started some times. Then the job fails with an outcome, and Celery stores no failure."""
    app = make_app(task_class)
    app.finalize()
    result = Numbers.signature({"numbers": [1]}, app=app).delay()
    ledger = Ledger.of(extension_of(app).runtime.store, result.id)
    for retries in range(MAX_STARTS - 1):
        with pytest.raises(Retry):
            start_task(task_of(app, "setup"), result.id, retries)
        assert not ledger.has_outcome()
    with pytest.raises(Ignore):
        start_task(task_of(app, "setup"), result.id, MAX_STARTS - 1)
    with pytest.raises(JobFailed, match=r"setup: OSError: the database is away"):
        extension_of(app).job(result.id).get(1)
    assert ledger.continuation() is not None, "the join is sent, with the callbacks"
    app.close()


def test_eager_mode_calls_the_hooks() -> None:
    """In eager mode, setup's task runs the whole job, with the hooks of the app's class."""
    app = make_app(ContextTask, task_always_eager=True)
    assert Numbers.signature({"numbers": [1]}, app=app).apply_async().get() == [1]
    assert ("success", "setup") in hooks
    app.close()
