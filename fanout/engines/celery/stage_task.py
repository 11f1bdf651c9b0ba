"""The base class of a declared task's three Celery tasks: redelivery, retries, and how errors end a job."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from celery.utils.time import get_exponential_backoff_interval

from storage import NewerFormat

from ...abc import Delivery
from ...errors import BrokerUnavailable, JobFailed, is_transient
from ...logs import fields_of
from ...records.failure import Failure
from ...records.models import OutcomeStatus
from ...records.record import FORMAT
from ...runtime import Runtime
from ...stages import conclude
from .dispatcher import celery_name
from .headers import FORMAT_HEADER, MESSAGE_HEADER, OVERRAN_HEADER, REQUEUED_HEADER, has_newer_format
from .publishing.requeue import requeue
from .request import StageRequest
from .settings import default_limit_s
from .signing import drop_unless_signed, running_eagerly, sending
from .store_mismatch import report_mismatch
from .task_base import TaskBase
from .task_hooks import derive_request_class, find_guards

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

LONGEST_BACKOFF_S = 60
"""Longest wait before a rescheduled stage runs again."""

STORE_RETRIES = 10
"""Times that a stage is rescheduled while the store does not answer, after the store's own retries: about 8 minutes."""


class StageTask(TaskBase):
    """A Celery task that runs one stage. It survives a killed worker, and is rescheduled if the store is silent."""

    abstract = True
    is_of_fanout = True
    Request = f"{StageRequest.__module__}:{StageRequest.__qualname__}"
    step: str
    fanout_task: str
    reported_stores: set[str]
    """Stores of senders that this process has reported as different from its own."""
    _runtime: Callable[[], Runtime]
    acks_late = True
    reject_on_worker_lost = True
    # A retry would be a new message, which looks like a first delivery: attempts would not be counted.
    retry_on_worker_lost = False
    # A stage that ends with an error has recorded it, so its message is done.
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    serializer = "json"
    typing = False
    max_retries = STORE_RETRIES
    # A stage decides itself what is tried again.
    autoretry_for = ()
    throws = (JobFailed,)

    @classmethod
    def of(cls, task: str, runtime: Callable[[], Runtime], *, base: type[Task[Any, Any]] = Task) -> StageTask:
        """Return the Celery task that runs this stage of a declared task.

        It has a class of its own, since Celery binds a task's class to its app, not the instance. The hooks of the
        app's own task class apply. The attributes that the protocol relies on are this class's.

        Args:
            task: Name of the declared task.
            runtime: Returns the runtime of the app.
            base: The app's task class.
        """
        body = {
            "name": celery_name(task, cls.step),
            "fanout_task": task,
            "_runtime": staticmethod(runtime),
            "Request": derive_request_class(base),
            "throws": (*cls.throws, *base.throws),
            "reported_stores": set(),
        }
        bases = (cls, *find_guards(base), base) if base is not Task else (cls,)
        made: type[StageTask] = type(f"{cls.step.title()}Task", bases, body)
        return made()

    @property
    def runtime(self) -> Runtime:
        """The runtime of the task's app."""
        return self._runtime()

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Set a time limit that the broker tolerates, if the app has none."""
        super().on_bound(app)
        if cls.time_limit is None:
            # Before Celery 5.7 a task does not take over the setting of its app.
            cls.time_limit = app.conf.task_time_limit or default_limit_s(app)

    def apply_async(self, *args: Any, **kwargs: Any) -> Any:
        """Send a message of this task's, signed if the app has a key."""
        with sending(self.app):
            return super().apply_async(*args, **kwargs)

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in this process, as eager mode does."""
        with running_eagerly():
            return super().apply(*args, **kwargs)

    @property
    def redelivered(self) -> bool:
        """Whether the broker has delivered the message before."""
        return bool((self.request.delivery_info or {}).get("redelivered"))

    @property
    def delivery(self) -> Delivery:
        """The message's earlier runs, as its headers describe them."""
        limit_s = self.request.get(OVERRAN_HEADER)
        return Delivery(
            message=self.request.get(MESSAGE_HEADER) or self.request.id or "",
            redelivered=self.redelivered,
            resumed=bool(self.request.retries),
            requeued=bool(self.request.get(REQUEUED_HEADER)) and not self.redelivered,
            overran_s=float(limit_s) if isinstance(limit_s, int | float) else None,
        )

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Drop a message without a signature that it needs, give back one of a newer release, call the app's hook.

        Reports a sender with another store.
        """
        drop_unless_signed(self, self.runtime.config, args=args, kwargs=kwargs)
        if has_newer_format(self.request):
            sent = self.request.get(FORMAT_HEADER)
            self._reschedule_or_leave(NewerFormat(f"a message has format {sent}, and this worker reads {FORMAT}"), {})
        report_mismatch(self)
        super().before_start(task_id, args, kwargs)

    def parse_or_drop(self, parse: Callable[[], T]) -> T:
        """Return the parsed message. Drop a message that fanout did not send, and log a line."""
        try:
            return parse()
        except ValueError as error:
            _LOG.warning("%s: dropped a message that fanout did not send: %s", self.name, error)
            raise Ignore from None

    @contextmanager
    def handle_errors(self, job_id: str, launch_id: str | None, generation: int, **kwargs: Any) -> Iterator[None]:
        """Ensure within this block that only a recorded outcome, or a new message, ends the stage's message.

        If the store does not answer, or denies access, the stage is rescheduled. If the broker takes no messages, it
        gets the stage's own message back. Any other error is not one of the user's step. It ends the job with an
        outcome, which the join delivers. If the outcome cannot be written, a sweep ends the job.

        Args:
            job_id: The job id.
            launch_id: The launch of that id; None for the current one.
            generation: The job's generation.
            **kwargs: Arguments to add to the message if it is rescheduled.
        """
        try:
            yield
        except BrokerUnavailable as error:
            may_drop = self.step != "setup"
            raise requeue(self.name, redelivered=self.redelivered, may_drop=may_drop, error=error) from error
        except Exception as error:
            if isinstance(error, Ignore | Reject | Retry | OutcomeError):
                raise
            if is_transient(error):
                self._reschedule_or_leave(error, kwargs)
            failure = Failure.of(self.step, error)
            _LOG.error(
                "%s: job %s: failed outside of the task's own code\n%s",
                self.name,
                job_id,
                failure.traceback_text,
                extra=fields_of(job_id),
            )
            with suppress(Exception):
                job = self.runtime.job(job_id, launch_id, generation)
                conclude(self.runtime, job, OutcomeStatus.FAILED, failure)
            raise Ignore from error

    def _reschedule_or_leave(self, error: Exception, kwargs: dict[str, Any]) -> NoReturn:
        if self.request.retries >= STORE_RETRIES:
            # Celery stores no result: the job has not ended, and a sweep will send this message again.
            _LOG.error("%s: rescheduled %d times, now left to a sweep: %s", self.name, STORE_RETRIES, error)
            raise Ignore from error
        self.reschedule(error, **kwargs)

    def reschedule(self, error: Exception, **kwargs: Any) -> NoReturn:
        """Have Celery send the message again after a backoff of 1, 2, 4, … and at most 60 seconds.

        Args:
            error: Why.
            **kwargs: Arguments to add to the message.

        Raises:
            Retry: Always.
        """
        countdown = get_exponential_backoff_interval(1, self.request.retries, LONGEST_BACKOFF_S)
        kwargs = {**(self.request.kwargs or {}), **kwargs}
        raise self.retry(exc=error, countdown=countdown, kwargs=kwargs) from error


class OutcomeError(Exception):
    """The error of a job that has an outcome, wrapped so that Celery gets it as the task's own.

    Args:
        error: The error.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
