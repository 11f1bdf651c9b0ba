"""The three Celery tasks of a declared task.

Each hands its stage the job's id, or a chunk's handle, and turns what comes back into what Celery expects. How a
job's signature keeps its place in a chain, group or chord: setup writes down everything that its own message says
about what follows, as the job's continuation, and ends with `Ignore`; whoever starts the join sends it under
setup's task id with all of that. It is what `Task.replace` does, put off until the last chunk is done.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn

from celery import Task
from celery.exceptions import Ignore, Reject
from kombu.exceptions import EncodeError
from kombu.utils import json
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from ..._storage import StorageUnavailable, Unencodable
from ...errors import CarrierUnavailable, ConfigError, InvalidInput, JobConflict, JobFailed
from ...failure import Failure
from ...handle import Handle
from ...keys import new_id, new_token
from ...records import Continuation, Ending, Note
from ...runtime import Runtime
from ...stages import conclude, run_join, run_process, run_setup
from .. import local
from ..launch import has_begun, put_on_record
from . import values, wire
from .carrier import celery_name
from .elsewhere import look_elsewhere, store_header
from .options import refusals, routing_of
from .request import GIVEN_BACK_HEADER, OVERRAN_HEADER, StageRequest
from .revocation import is_revoked
from .settings import default_limit_s
from .surroundings import request_class, surroundings

_LOG = logging.getLogger("fanout")

STORE_RETRIES = 10
"""Times that a stage is put off when the store does not answer, after the store's own retries: about 8 minutes."""


class StageTask(Task[Any, Any]):
    """What the three have in common: a killed worker's message comes back, and a silent store puts the stage off."""

    abstract = True
    Request = f"{StageRequest.__module__}:{StageRequest.__qualname__}"
    step: str
    fanout_task: str
    told_stores: set[str]
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
            "told_stores": set(),
        }
        bases = (cls, *surroundings(base), base) if base is not Task else (cls,)
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
    def retried(self) -> bool:
        """Whether an earlier run for this message ended without being to blame, and goes on here."""
        return bool(self.request.retries) or self.given_back

    @property
    def given_back(self) -> bool:
        """Whether a worker that was told to shut down sent this message again."""
        return bool(self.request.get(GIVEN_BACK_HEADER)) and not self.redelivered

    @property
    def overran_s(self) -> float | None:
        """The time limit at which an earlier run for this message was stopped, if one was."""
        limit_s = self.request.get(OVERRAN_HEADER)
        return float(limit_s) if isinstance(limit_s, int | float) else None

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Look whether the job is in the sender's store only; then what is around the task."""
        look_elsewhere(self)
        super().before_start(task_id, args, kwargs)

    @contextmanager
    def outages_survived(self, **remembered: Any) -> Iterator[None]:
        """Within it, a silent store puts the stage off, and a silent broker gets its message back.

        Args:
            **remembered: Arguments that the stage gets when it runs again.
        """
        try:
            yield
        except StorageUnavailable as error:
            if self.request.retries >= STORE_RETRIES:
                # No result, good or bad: the job has not ended, and a sweep will send this again.
                _LOG.error("%s: put off %d times, now dropped: %s", self.name, STORE_RETRIES, error)
                raise Ignore from error
            wait_s = min(2**self.request.retries, 60)
            kwargs = {**(self.request.kwargs or {}), **remembered}
            raise self.retry(exc=error, countdown=wait_s, kwargs=kwargs) from error
        except CarrierUnavailable as error:
            raise Reject(error, requeue=True) from error


class SetupTask(StageTask):
    """Runs setup. Its task id is the job's id."""

    abstract = True
    step = "setup"

    def apply_async(  # type: ignore[override]
        self,
        args: Any = None,
        kwargs: Any = None,
        task_id: str | None = None,
        producer: Any = None,
        **options: Any,
    ) -> Any:
        """Write the job's intent, then send a message that holds nothing but its id.

        The value of the step before, if there is one, goes to the store with the rest. An input that does not fit
        is sent as it is, for setup to fail with: this may be running in a worker that just ended another task.

        Launched a second time under the same id, it is the same job. Its message is sent again as long as nobody has
        taken it up, since whoever launched it first may have died before he sent it.

        Raises:
            JobConflict: A job of that id exists, with another input or other options.
            ConfigError: A message option can't be had, such as another serializer.
        """
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        if self.app.conf.task_always_eager or "order" not in kwargs:
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
        task_id = task_id or uuid()
        options["reply_to"] = options.get("reply_to") or self.app.thread_oid
        options = {name: value for name, value in options.items() if value is not None}
        # Launched by a worker that has ended the step before it, which may be done twice.
        follows = "parent_id" in options
        refused = refusals(options) if follows else {}
        for why in refused.values():
            # In a chain nobody is there to be told.
            _LOG.warning("%s: launched without an option: %s", self.name, why)
        options = {name: value for name, value in options.items() if name not in refused}
        routing = routing_of(options, self.app, task=self.name)
        try:
            order = wire.completed(wire.from_wire(kwargs["order"], self._declaration()), args, self.runtime)
        except (InvalidInput, Unencodable):
            if routing and isinstance(kwargs["order"], dict):
                kwargs["order"] = {**kwargs["order"], "routing": routing}
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
        launch = json.dumps({**_kept(options), **routing, "task_id": task_id})
        intent = replace(order, routing=routing).intent(
            launch=launch,
            not_before=_moment(options.get("eta") or options.get("countdown")),
            expires_at=_moment(options.get("expires")),
        )
        try:
            first = put_on_record(self.runtime, task_id, intent)
        except JobConflict as conflict:
            if not follows:
                raise
            _LOG.warning("the step before gave another value when it was run again; the first one stands: %s", conflict)
            first = False
        if not first and not follows and has_begun(self.runtime.ledger(task_id)):
            return self.AsyncResult(task_id)
        options["headers"] = {**(options.get("headers") or {}), **store_header(self.runtime.store.url)}
        return super().apply_async((), {}, task_id=task_id, producer=producer, **options)

    def run(self, *received: Any, order: dict[str, Any] | None = None, round: int = 0) -> Any:
        if self.request.is_eager:
            return self._run_here(received, order)
        job_id = self.request.id
        assert job_id is not None
        with self.outages_survived():
            self._run_job(job_id, received, order, round)
        raise Ignore

    def _run_job(self, job_id: str, received: tuple[Any, ...], order: dict[str, Any] | None, round: int) -> None:
        runtime = self.runtime
        ledger = runtime.ledger(job_id)
        refused: Exception | None = None
        if order is not None:
            parsed = wire.from_wire(order, self._declaration())
            try:
                parsed = wire.completed(parsed, received, runtime)
            except (InvalidInput, Unencodable) as error:
                refused = error
            runtime.launch(job_id, parsed.intent())
        ledger.write_continuation(Continuation(message=self.continuation()))
        if refused is not None:
            conclude(runtime, runtime.job(job_id, round), Ending.FAILED, Failure.of("setup", refused))
            return
        run_setup(
            runtime,
            job_id,
            redelivered=self.redelivered,
            retried=self.retried,
            round=round,
            overran_s=self.overran_s,
        )

    def _run_here(self, received: tuple[Any, ...], order: dict[str, Any] | None) -> Any:
        """Eager mode: the job runs in this process, and its value is the task's result."""
        if order is None:
            raise InvalidInput(self.fanout_task, {"input": ["is missing: launch the task by its signature"]})
        complete = wire.completed(wire.from_wire(order, self._declaration()), received, self.runtime)
        job_id = self.request.id
        assert job_id is not None
        outcome = local.run_inline(self.runtime, complete, job_id)
        if outcome.failure is not None:
            raise outcome.error(job_id)
        return values.sent(self.runtime.ledger(job_id).value(outcome), self.app, job_id, request=self.request)

    def _declaration(self) -> Any:
        return self.runtime.tasks.find(self.fanout_task)

    def continuation(self) -> str:
        """Everything that this message says about what follows it."""
        request = self.request
        following = {
            "task_id": request.id,
            "link": maybe_list(request.callbacks),
            "link_error": maybe_list(request.errbacks),
            "chain": request.chain,
            "chord": request.chord,
            "group_id": request.group,
            "group_index": request.group_index,
            "root_id": request.root_id,
            "parent_id": request.parent_id,
            "reply_to": request.reply_to,
            "ignore_result": request.ignore_result or None,
            "shadow": request.shadow,
            "priority": (request.delivery_info or {}).get("priority"),
            "replaced_task_nesting": (request.get("replaced_task_nesting") or 0) + 1,
        }
        return json.dumps(_kept(following))


class ProcessTask(StageTask):
    """Runs process on one chunk; its arguments are the chunk's handle."""

    abstract = True
    step = "process"
    ignore_result = True

    def run(self, *row: Any) -> None:
        try:
            handle = Handle.from_row(row)
        except ValueError as error:
            _LOG.warning("%s: dropped a message that is no handle: %s", self.name, error)
            return
        with self.outages_survived():
            run_process(
                self.runtime, handle, redelivered=self.redelivered, retried=self.retried, overran_s=self.overran_s
            )


class JoinTask(StageTask):
    """Runs join, or delivers an outcome that stands; its result is the job's value."""

    abstract = True
    step = "join"

    def run(self, job_id: str, again: bool = False, round: int = 0, held: Sequence[str] = ()) -> Any:
        token = new_token()
        with self.outages_survived(held=[*held, token]):
            outcome = run_join(
                self.runtime,
                job_id,
                again=again,
                redelivered=self.redelivered,
                token=token,
                held=held,
                round=round,
                overran_s=self.overran_s,
                given_back=self.given_back,
            )
            if outcome is None:
                raise Ignore
            if is_revoked(outcome):
                self._tell_revoked(job_id, round)
            if outcome.failure is not None:
                raise outcome.error(job_id)
            value = self.runtime.ledger(job_id).value(outcome)
            return values.sent(value, self.app, job_id, round, request=self.request)

    def _tell_revoked(self, job_id: str, round: int) -> NoReturn:
        """What Celery tells of a task that was revoked: no errback is called, and a chord loses a member.

        Raises:
            Ignore: Always, for there is no more to tell.
        """
        request = self.request
        self.backend.mark_as_revoked(job_id, "revoked", request=request, store_result=not request.ignore_result)
        self.runtime.ledger(job_id, round).write_delivered(_by_this_process())
        raise Ignore

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Callbacks are sent and the result is stored: put on record that nobody need do it again.

        Also where it can't be done: what a serializer refuses it will refuse the next time.
        """
        if status == "SUCCESS" or (status == "FAILURE" and isinstance(retval, JobFailed | ConfigError | EncodeError)):
            round = kwargs.get("round", 0)
            self.runtime.ledger(args[0], round).write_delivered(_by_this_process())
        super().after_return(status, retval, task_id, args, kwargs, einfo)


def _by_this_process() -> Note:
    return Note(by=f"{socket.gethostname()}:{new_id()}")


_NOT_KEPT = (
    "connection",
    "add_to_parent",
    "result_cls",
    "publisher",
    "router",
    "countdown",
    "eta",
    "expires",
    # How long the caller would try to send it. A sweep has its own patience.
    "retry",
    "retry_policy",
    "timeout",
    "confirm_timeout",
)


def _moment(when: datetime | str | float | None) -> float | None:
    """A time as Celery's options give it (a date, its ISO form, or seconds from now), in seconds since the epoch."""
    if when is None:
        return None
    if isinstance(when, int | float):
        return time.time() + when
    date = datetime.fromisoformat(when) if isinstance(when, str) else when
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _kept(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that say something and can be written down."""
    return {name: value for name, value in options.items() if value is not None and name not in _NOT_KEPT}
