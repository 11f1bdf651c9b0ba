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
from datetime import UTC, datetime
from functools import partial
from typing import Any

from celery import Task
from celery.exceptions import Ignore
from kombu.utils import json
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from ..._storage import StorageUnavailable, Unencodable
from ...errors import CarrierUnavailable, InvalidInput, JobConflict, JobFailed
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
from .offering import Message, Patience, offer
from .request import GIVEN_BACK_HEADER, OVERRAN_HEADER, StageRequest
from .returning import given_back
from .settings import default_limit_s
from .undoing import undone_unless_sent

_LOG = logging.getLogger("fanout")

STORE_RETRIES = 10
"""Times that a stage is put off when the store does not answer, after the store's own retries: about 8 minutes."""


class StageTask(Task[Any, Any]):
    """What the three have in common: a killed worker's message comes back, and a silent store puts the stage off."""

    abstract = True
    Request = f"{StageRequest.__module__}:{StageRequest.__qualname__}"
    step: str
    fanout_task: str
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
    throws = (JobFailed,)

    @classmethod
    def of(cls, task: str, runtime: Callable[[], Runtime]) -> StageTask:
        """The Celery task that runs this stage for a declared task, with the runtime of the app it is for.

        Of a class of its own, since Celery binds a task's class, and not the instance, to its app.
        """
        body = {"name": celery_name(task, cls.step), "fanout_task": task, "_runtime": staticmethod(runtime)}
        made: type[StageTask] = type(f"{cls.step.title()}Task", (cls,), body)
        return made()

    @property
    def runtime(self) -> Runtime:
        return self._runtime()

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Where the app has no time limit, take one that the broker can live with."""
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
            may_drop = self.step != "setup"
            raise given_back(self.name, redelivered=self.redelivered, may_drop=may_drop, error=error) from error


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
            BrokerUnavailable: The message could not be sent within `publish_timeout_s`. The job was not launched and
                never runs, unless the error says otherwise.
        """
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        if self.app.conf.task_always_eager or "order" not in kwargs:
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
        task_id = task_id or uuid()
        options["reply_to"] = options.get("reply_to") or self.app.thread_oid
        options = {name: value for name, value in options.items() if value is not None}
        try:
            order = wire.completed(wire.from_wire(kwargs["order"], self._declaration()), args, self.runtime)
        except (InvalidInput, Unencodable):
            return self._offered(args, kwargs, task_id, producer, options)
        launch = json.dumps({**_kept(options), "task_id": task_id})
        intent = order.intent(
            launch=launch,
            not_before=_moment(options.get("eta") or options.get("countdown")),
            expires_at=_moment(options.get("expires")),
        )
        # Launched by a worker that has ended the step before it, which may be done twice.
        follows = "parent_id" in options
        try:
            first = put_on_record(self.runtime, task_id, intent)
        except JobConflict as conflict:
            if not follows:
                raise
            _LOG.warning("the step before gave another value when it was run again; the first one stands: %s", conflict)
            first = False
        if not first and not follows and has_begun(self.runtime.ledger(task_id)):
            return self.AsyncResult(task_id)
        with undone_unless_sent(self.runtime, task_id, first=first):
            self._offered((), {}, task_id, producer, options)
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
        ledger.write_continuation(Continuation(message=self._continuation()))
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
        return values.sent(self.runtime.ledger(job_id).value(outcome), self.app, job_id)

    def _declaration(self) -> Any:
        return self.runtime.tasks.find(self.fanout_task)

    def _continuation(self) -> str:
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
            if outcome.failure is not None:
                raise outcome.error(job_id)
            return values.sent(self.runtime.ledger(job_id).value(outcome), self.app, job_id, round)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Callbacks are sent and the result is stored: put on record that nobody need do it again."""
        if status == "SUCCESS" or (status == "FAILURE" and isinstance(retval, JobFailed)):
            round = kwargs.get("round", 0)
            self.runtime.ledger(args[0], round).write_delivered(Note(by=f"{socket.gethostname()}:{new_id()}"))


_NOT_KEPT = (
    "connection",
    "add_to_parent",
    "result_cls",
    "publisher",
    "router",
    "countdown",
    "eta",
    "expires",
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
