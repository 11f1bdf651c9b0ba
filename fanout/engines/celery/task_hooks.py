"""What an app's own task class (`Celery(task_cls=…)`, `app.Task`) does around the three tasks of a job.

Flask's application context is put on that way, and so are tracing and alarms. Theirs are `__call__`, the hooks, and
attributes such as `rate_limit`, `time_limit` and `priority`; what the protocol relies on is the stage's own.
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
from ...stages import conclude
from .messages import read_address
from .request import StageRequest

_LOG = logging.getLogger(__name__)

MAX_STARTS = 3
"""Times that a stage is begun whose surroundings raise, before its job fails."""


class GuardedStart:
    """Sees to it that a `before_start` that raises ends in one outcome, on record.

    Celery would store a failure and call errbacks for a job that a sweep then brings to its end.
    """

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Theirs; if it raises, the stage is put off, or its job fails."""
        try:
            super().before_start(task_id, args, kwargs)  # type: ignore[misc]
        except Exception as error:
            reschedule_or_fail(self, error)


class GuardedCall:
    """The same for a `__call__` that raises around the stage."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Theirs, around the stage's `run`."""
        try:
            return super().__call__(*args, **kwargs)  # type: ignore[misc]
        except (Ignore, Reject, Retry, FanoutError, StorageError):
            # What a stage itself ends with.
            raise
        except Exception as error:
            reschedule_or_fail(self, error)


def reschedule_or_fail(task: Any, error: Exception) -> None:
    """Put off a stage whose surroundings raised; the third time end its job.

    Raises:
        Retry: It is put off.
        Ignore: The job has ended.
        Exception: The error itself, in eager mode.
    """
    request = task.request
    if request.is_eager:
        raise error
    if request.retries < MAX_STARTS - 1:
        _LOG.warning("%s: what is around it raised, it is put off: %s: %.200s", task.name, type(error).__name__, error)
        raise task.retry(exc=error, countdown=2**request.retries) from error
    try:
        job = task.runtime.job(*read_address(task.step, request.id, request.args, request.kwargs))
        if task.step == "setup":
            job.ledger.write_continuation(Continuation(message=task.continuation()))
        conclude(task.runtime, job, OutcomeStatus.FAILED, Failure.of(task.step, error))
    except (JobNotFound, ValueError) as unknown:
        _LOG.warning("%s: dropped a message of no job: %s", task.name, unknown)
    raise Ignore from error


def find_guards(base: type[Task[Any, Any]]) -> tuple[type, ...]:
    """What has to stand before an app's task class that does something around a task; nothing for Celery's own."""
    guards = {"__call__": GuardedCall, "before_start": GuardedStart}
    return tuple(
        guard
        for name, guard in guards.items()
        if mro_lookup(base, name, stop={Task, object}, monkey_patched=["celery.app.task"]) is not None
    )


def request_class(base: type[Task[Any, Any]]) -> type[Request]:
    """The stage's request class, on top of the one that an app's task class has."""
    theirs: type[Request] = symbol_by_name(base.Request)
    if theirs is Request or issubclass(StageRequest, theirs):
        return StageRequest
    return type("StageRequest", (StageRequest, theirs), {})
