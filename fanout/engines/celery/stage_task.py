"""What the three Celery tasks of a declared task have in common: when a message comes back, and what ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TypeVar

from celery import Task
from celery.exceptions import Ignore, Reject, Retry

from ...blame import is_transient
from ...errors import BrokerUnavailable, JobFailed
from ...records.failure import Failure
from ...records.models import OutcomeStatus
from ...runtime import Runtime
from ...stages import conclude
from ...stages.delivery import Delivery
from .dispatcher import celery_name
from .publishing.requeue import requeue
from .request import OVERRAN_HEADER, REQUEUED_HEADER, StageRequest
from .settings import default_limit_s
from .store_mismatch import report_mismatch
from .task_hooks import find_guards, request_class

_LOG = logging.getLogger(__name__)

T = TypeVar("T")

STORE_RETRIES = 10
"""Times that a stage is put off when the store does not answer, after the store's own retries: about 8 minutes."""


class StageTask(Task[Any, Any]):
    """What the three have in common: a killed worker's message comes back, and a silent store puts the stage off."""

    abstract = True
    Request = f"{StageRequest.__module__}:{StageRequest.__qualname__}"
    step: str
    fanout_task: str
    reported_stores: set[str]
    """Stores of senders that this process has called others than its own."""
    _runtime: Callable[[], Runtime]
    acks_late = True
    reject_on_worker_lost = True
    # A retry would be a new message, whose run no one could tell from a first one: tries would not be counted.
    retry_on_worker_lost = False
    # A stage that ends with an error has said all there is to say.
    acks_on_failure_or_timeout = True
    acks_on_failure = True
    serializer = "json"
    typing = False
    max_retries = STORE_RETRIES
    # A stage says itself what is tried again.
    autoretry_for = ()
    throws = (JobFailed,)

    @classmethod
    def of(cls, task: str, runtime: Callable[[], Runtime], *, base: type[Task[Any, Any]] = Task) -> StageTask:
        """The Celery task that runs this stage for a declared task, with the runtime of the app it is for.

        Of a class of its own, since Celery binds a task's class, and not the instance, to its app. What the app's own
        task class does around a task, and its hooks, are kept; what the protocol relies on is the stage's.

        Args:
            task: Name of the declared task.
            runtime: Gives the runtime of the app.
            base: The app's task class.
        """
        body = {
            "name": celery_name(task, cls.step),
            "fanout_task": task,
            "_runtime": staticmethod(runtime),
            "Request": request_class(base),
            "throws": (*cls.throws, *base.throws),
            "reported_stores": set(),
        }
        bases = (cls, *find_guards(base), base) if base is not Task else (cls,)
        made: type[StageTask] = type(f"{cls.step.title()}Task", bases, body)
        return made()

    @property
    def runtime(self) -> Runtime:
        return self._runtime()

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Where the app has no time limit, take one that the broker can live with."""
        super().on_bound(app)
        if cls.time_limit is None:
            cls.time_limit = default_limit_s(app)

    @property
    def redelivered(self) -> bool:
        return bool((self.request.delivery_info or {}).get("redelivered"))

    @property
    def delivery(self) -> Delivery:
        """What this message's headers tell of earlier runs for it."""
        limit_s = self.request.get(OVERRAN_HEADER)
        return Delivery(
            redelivered=self.redelivered,
            resumed=bool(self.request.retries),
            requeued=bool(self.request.get(REQUEUED_HEADER)) and not self.redelivered,
            overran_s=float(limit_s) if isinstance(limit_s, int | float) else None,
        )

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Look whether the job is in the sender's store only; then what is around the task."""
        report_mismatch(self)
        super().before_start(task_id, args, kwargs)

    def parse_or_drop(self, parse: Callable[[], T]) -> T:
        """What the message says; one that fanout did not send is dropped, with a line in the log."""
        try:
            return parse()
        except ValueError as error:
            _LOG.warning("%s: dropped a message that fanout did not send: %s", self.name, error)
            raise Ignore from None

    @contextmanager
    def handle_errors(self, job_id: str, launch_id: str | None, generation: int, **remembered: Any) -> Iterator[None]:
        """Within it, nothing ends the message of a job but what is on record: the job has one outcome.

        A store that does not answer, or denies, puts the stage off; a broker that does not take messages gets the
        stage's own message back. Whatever else leaves a stage is no error of the user's step: it ends the job, on
        record, and the join delivers that. Where not even that can be written it is left to a sweep.

        Args:
            job_id: The job.
            launch_id: Which launch of that id is meant; None for the one that counts.
            generation: The job's round.
            **remembered: Arguments that the stage gets when it runs again.
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
                self._reschedule(error, remembered)
            _LOG.exception("%s: job %s: failed outside of the task's own code", self.name, job_id)
            with suppress(Exception):
                job = self.runtime.job(job_id, launch_id, generation)
                conclude(self.runtime, job, OutcomeStatus.FAILED, Failure.of(self.step, error))
            raise Ignore from error

    def _reschedule(self, error: Exception, remembered: dict[str, Any]) -> NoReturn:
        if self.request.retries >= STORE_RETRIES:
            # No result, good or bad: the job has not ended, and a sweep will send this again.
            _LOG.error("%s: put off %d times, now left to a sweep: %s", self.name, STORE_RETRIES, error)
            raise Ignore from error
        wait_s = min(2**self.request.retries, 60)
        kwargs = {**(self.request.kwargs or {}), **remembered}
        raise self.retry(exc=error, countdown=wait_s, kwargs=kwargs) from error


class OutcomeError(Exception):
    """Carries an error out of a stage whose job has an outcome: Celery is to be told of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error
