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
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn, TypeVar

from celery import Task
from celery.exceptions import Ignore, Reject, Retry
from kombu.utils import json
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from ..._storage import Unencodable
from ...blame import is_transient
from ...errors import CarrierUnavailable, InvalidInput, JobConflict, JobFailed, JobNotFound
from ...failure import Failure
from ...handle import Handle
from ...keys import new_id, new_token
from ...ledger import Ledger
from ...records import Continuation, Ending, Note
from ...runtime import OpenJob, Runtime
from ...stages import conclude, run_join, run_process, run_setup
from .. import local
from ..launch import Order, has_begun, put_on_record
from . import values, wire
from .carrier import celery_name
from .elsewhere import look_elsewhere, store_header
from .messages import JoinMessage, SetupMessage
from .offering import Message, Patience, offer
from .options import refusals, routing_of
from .request import GIVEN_BACK_HEADER, OVERRAN_HEADER, StageRequest
from .returning import given_back
from .revocation import is_revoked
from .settings import default_limit_s
from .surroundings import request_class, surroundings
from .undoing import undone_unless_sent

_LOG = logging.getLogger("fanout")

T = TypeVar("T")

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

    def parsed(self, parse: Callable[[], T]) -> T:
        """What the message says; one that fanout did not send is dropped, with a line in the log."""
        try:
            return parse()
        except ValueError as error:
            _LOG.warning("%s: dropped a message that fanout did not send: %s", self.name, error)
            raise Ignore from None

    @contextmanager
    def errors_handled(self, job_id: str, launch_id: str | None, round: int, **remembered: Any) -> Iterator[None]:
        """Within it, nothing ends the message of a job but what is on record: the job has one outcome.

        A store that does not answer, or denies, puts the stage off; a broker that does not take messages gets the
        stage's own message back. Whatever else leaves a stage is no error of the user's step: it ends the job, on
        record, and the join delivers that. Where not even that can be written it is left to a sweep.

        Args:
            job_id: The job.
            launch_id: Which launch of that id is meant; None for the one that counts.
            round: The job's round.
            **remembered: Arguments that the stage gets when it runs again.
        """
        try:
            yield
        except CarrierUnavailable as error:
            may_drop = self.step != "setup"
            raise given_back(self.name, redelivered=self.redelivered, may_drop=may_drop, error=error) from error
        except Exception as error:
            if isinstance(error, Ignore | Reject | Retry | _OnRecord):
                raise
            if is_transient(error):
                self._put_off(error, remembered)
            _LOG.exception("%s: job %s: failed outside of the task's own code", self.name, job_id)
            with suppress(Exception):
                job = self.runtime.job(job_id, launch_id, round)
                conclude(self.runtime, job, Ending.FAILED, Failure.of(self.step, error))
            raise Ignore from error

    def _put_off(self, error: Exception, remembered: dict[str, Any]) -> NoReturn:
        if self.request.retries >= STORE_RETRIES:
            # No result, good or bad: the job has not ended, and a sweep will send this again.
            _LOG.error("%s: put off %d times, now left to a sweep: %s", self.name, STORE_RETRIES, error)
            raise Ignore from error
        wait_s = min(2**self.request.retries, 60)
        kwargs = {**(self.request.kwargs or {}), **remembered}
        raise self.retry(exc=error, countdown=wait_s, kwargs=kwargs) from error


class _OnRecord(Exception):
    """Carries an error out of a stage whose job has an outcome: Celery is to be told of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


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
            BrokerUnavailable: The message could not be sent within `publish_timeout_s`. The job was not launched and
                never runs, unless the error says otherwise.
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
            order = wire.from_wire(kwargs["order"], self._declaration())
            wire.renewed(kwargs["order"], order, self.runtime)
            order = wire.completed(order, args, self.runtime)
        except (InvalidInput, Unencodable) as error:
            if isinstance(error, wire.ParametersGone) and not follows:
                raise
            if routing and isinstance(kwargs["order"], dict):
                kwargs["order"] = {**kwargs["order"], "routing": routing}
            return self._offered(args, kwargs, task_id, producer, options)
        launch = json.dumps({**_kept(options), **routing, "task_id": task_id})
        intent = replace(order, routing=routing).intent(
            launch=launch,
            not_before=_moment(options.get("eta") or options.get("countdown")),
            expires_at=_moment(options.get("expires")),
            now=self.runtime.now,
        )
        try:
            job, first = put_on_record(self.runtime, task_id, intent)
        except JobConflict as conflict:
            if not follows:
                raise
            _LOG.warning("the step before gave another value when it was run again; the first one stands: %s", conflict)
            job, first = self.runtime.job(task_id), False
        if not first and not follows and has_begun(job.ledger):
            return self.AsyncResult(task_id)
        options["headers"] = {**(options.get("headers") or {}), **store_header(self.runtime.store.url)}
        with undone_unless_sent(job, first=first):
            self._offered((), {"launch_id": job.launch_id}, task_id, producer, options)
        return self.AsyncResult(task_id)

    def _offered(self, args: Any, kwargs: Any, task_id: str, producer: Any, options: dict[str, Any]) -> Any:
        """Send setup's message as Celery does, but with our limits, and confirmed by RabbitMQ."""
        connection = options.pop("connection", None)
        if producer is None and connection is not None:
            producer = self.app.amqp.Producer(connection, auto_declare=False)
        timeout_s = self.runtime.config.publish_timeout_s
        patience = Patience(silent_s=timeout_s, refusing_s=timeout_s, once=options.get("retry") is False)
        options = {**options, "retry": False, "retry_policy": None}
        send = partial(super().apply_async, args, kwargs, task_id=task_id, **options)
        message = Message(task_id, self.name, options, lambda producer: send(producer=producer))
        offer(self.app, [message], patience, producer=producer)
        return self.AsyncResult(task_id)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        message = self.parsed(lambda: SetupMessage.parse(self.request.id, args, kwargs))
        # What an order holds that is none of this task's ends the message, of which nothing is on record yet.
        order = wire.from_wire(message.order, self._declaration()) if message.order is not None else None
        if self.request.is_eager:
            return self._run_here(message, order)
        with self.errors_handled(message.job_id, message.launch_id, message.round):
            job = self._launched(message, order) if order is not None else self._found(message)
            if job is not None:
                run_setup(
                    self.runtime,
                    job.id,
                    launch_id=job.launch_id,
                    redelivered=self.redelivered,
                    retried=self.retried,
                    nudged=message.again,
                    round=message.round,
                    overran_s=self.overran_s,
                )
        raise Ignore

    def _found(self, message: SetupMessage) -> OpenJob | None:
        """The job that the message is for; None if it is gone."""
        continuation = Continuation(message=self.continuation())
        if message.launch_id is not None:
            # Before the intent is read, so that a caller who takes the launch back sees that it was taken up.
            Ledger(self.runtime.store, message.job_id, message.launch_id).write_continuation(continuation)
        try:
            job = self.runtime.job(message.job_id, message.launch_id)
        except JobNotFound:
            _LOG.error(
                "%s: dropped the setup of job %s, which is not in this worker's store %s: it was removed, or its "
                "caller uses another store than this worker",
                self.name,
                message.job_id,
                self.runtime.store.url,
            )
            return None
        if message.launch_id is None:
            job.ledger.write_continuation(continuation)
        return job

    def _launched(self, message: SetupMessage, order: Order) -> OpenJob | None:
        """The job that the message itself describes; None if its input was refused."""
        runtime = self.runtime
        refused: Exception | None = None
        try:
            assert message.order is not None
            wire.renewed(message.order, order, runtime)
            order = wire.completed(order, message.received, runtime)
        except (InvalidInput, Unencodable) as error:
            refused = error
        job = runtime.launch(message.job_id, order.intent(now=runtime.now))
        job.ledger.write_continuation(Continuation(message=self.continuation()))
        if refused is not None:
            conclude(runtime, job, Ending.FAILED, Failure.of("setup", refused))
            return None
        return job

    def _run_here(self, message: SetupMessage, order: Order | None) -> Any:
        """Eager mode: the job runs in this process, and its value is the task's result."""
        if order is None:
            raise InvalidInput(self.fanout_task, {"input": ["is missing: launch the task by its signature"]})
        complete = wire.completed(order, message.received, self.runtime)
        outcome = local.run_inline(self.runtime, complete, message.job_id)
        if outcome.failure is not None:
            raise outcome.error(message.job_id)
        ledger = self.runtime.ledger(message.job_id)
        return values.sent(ledger.value(outcome), self.app, ledger, request=self.request)

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

    def run(self, *row: Any, **kwargs: Any) -> None:
        handle = self.parsed(lambda: Handle.from_row(row))
        with self.errors_handled(handle.job_id, handle.launch_id, handle.round):
            run_process(
                self.runtime, handle, redelivered=self.redelivered, retried=self.retried, overran_s=self.overran_s
            )


class JoinTask(StageTask):
    """Runs join, or delivers an outcome that stands; its result is the job's value."""

    abstract = True
    step = "join"

    def run(self, *args: Any, **kwargs: Any) -> Any:
        message = self.parsed(lambda: JoinMessage.parse(args, kwargs))
        try:
            return self._outcome(message)
        except _OnRecord as ended:
            raise ended.error from None

    def _outcome(self, message: JoinMessage) -> Any:
        """What Celery is to be told: the job's value; else raises."""
        job_id, launch_id, round = message.job_id, message.launch_id, message.round
        token = new_token()
        with self.errors_handled(job_id, launch_id, round, held=[*message.held, token]):
            outcome = run_join(
                self.runtime,
                job_id,
                launch_id=launch_id,
                again=message.again,
                redelivered=self.redelivered,
                token=token,
                held=message.held,
                round=round,
                overran_s=self.overran_s,
                given_back=self.given_back,
            )
            if outcome is None:
                raise Ignore
            if is_revoked(outcome):
                self._tell_revoked(self.runtime.job(job_id, launch_id, round))
            if outcome.failure is not None:
                raise _OnRecord(outcome.error(job_id))
            ledger = self.runtime.job(job_id, launch_id, round).ledger
            try:
                return values.sent(ledger.value(outcome), self.app, ledger, request=self.request)
            except Exception as error:
                if is_transient(error):
                    raise
                # The value is damaged, or what sends it is broken: it will be so the next time.
                raise _OnRecord(error) from error

    def _tell_revoked(self, job: OpenJob) -> NoReturn:
        """What Celery tells of a task that was revoked: no errback is called, and a chord loses a member.

        Raises:
            Ignore: Always, for there is no more to tell.
        """
        request = self.request
        self.backend.mark_as_revoked(job.id, "revoked", request=request, store_result=not request.ignore_result)
        job.ledger.write_delivered(_by_this_process())
        raise Ignore

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Callbacks are sent and the result is stored: put on record that nobody need do it again.

        An outcome that can't be delivered has been told to Celery as a failure, and will not be deliverable later.
        """
        if status in ("SUCCESS", "FAILURE"):
            job = self.runtime.job(args[0], kwargs.get("launch_id"), kwargs.get("round", 0))
            job.ledger.write_delivered(_by_this_process())
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
