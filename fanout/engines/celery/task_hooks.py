"""Guards around an app's own task class (`Celery(task_cls=…)`, `app.Task`), which applies to the three tasks of a job.

Apps use such a class for Flask's application context, tracing and alarms. Its `__call__`, its hooks, and attributes
such as `rate_limit`, `time_limit` and `priority` apply. The attributes that the protocol relies on are the stage's.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.imports import symbol_by_name
from celery.utils.objects import mro_lookup
from celery.worker.request import Request

from storage import StorageError

from ...errors import FanoutError, JobNotFound
from ...records.failure import Failure
from ...records.models import Continuation, OutcomeStatus
from ...redaction import redact
from ...stages import conclude
from .messages import read_address
from .request import StageRequest

_LOG = logging.getLogger(__name__)

MAX_STARTS = 3
"""Times that a stage is started whose hooks raise, before its job fails."""


class GuardedStart:
    """A guard that ends the job with one recorded outcome if the app's `before_start` keeps raising.

    Without it, Celery would store a failure and call errbacks for a job that a sweep then completes.
    """

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Call the app's hook. If it raises, reschedule the stage, or fail its job."""
        try:
            super().before_start(task_id, args, kwargs)  # type: ignore[misc]
        except Exception as error:
            reschedule_or_fail(self, error)


class GuardedCall:
    """The same guard for an app's `__call__` that raises around the stage."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the app's `__call__`, which calls the stage's `run`."""
        try:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        except (Ignore, Reject, Retry, FanoutError, StorageError):
            # The stage itself raised it.
            raise
        except Exception as error:
            reschedule_or_fail(self, error)


def reschedule_or_fail(task: Any, error: Exception) -> None:
    """Reschedule a stage whose hooks raised; the third time, fail its job.

    Args:
        task: The stage's Celery task, while it handles a message.
        error: The error of the hook.

    Raises:
        Retry: The stage is rescheduled.
        Ignore: The job has ended.
        Exception: The error itself, in eager mode.
    """
    request = task.request
    if request.is_eager:
        raise error
    if request.retries < MAX_STARTS - 1:
        _LOG.warning(
            "%s: the app's task class raised, the stage is rescheduled: %s: %.200s",
            task.name,
            type(error).__name__,
            redact(str(error)),
        )
        task.reschedule(error)
    try:
        job = task.runtime.job(*read_address(task.step, request.id, request.args, request.kwargs))
        if task.step == "setup":
            job.ledger.write_continuation(Continuation(message=task.continuation()))
        conclude(task.runtime, job, OutcomeStatus.FAILED, Failure.of(task.step, error))
    except (JobNotFound, ValueError) as unknown:
        _LOG.warning("%s: dropped a message whose job does not exist: %s", task.name, unknown)
    raise Ignore from error


def find_guards(base: type[Task[Any, Any]]) -> tuple[type, ...]:
    """Return the guards to put before an app's task class: none for Celery's own class."""
    guards = {"__call__": GuardedCall, "before_start": GuardedStart}
    return tuple(
        guard
        for name, guard in guards.items()
        if mro_lookup(base, name, stop={Task, object}, monkey_patched=["celery.app.task"]) is not None
    )


def derive_request_class(base: type[Task[Any, Any]]) -> type[Request]:
    """Return a stage's request class, derived from the one of an app's task class."""
    app_class: type[Request] = symbol_by_name(base.Request)
    if app_class is Request or issubclass(StageRequest, app_class):
        return StageRequest
    return type("StageRequest", (StageRequest, app_class), {})
