"""The three Celery tasks of a declared task.

Each hands its stage the job's id, or a chunk's handle, and turns what comes back into what Celery expects. How a
job's signature keeps its place in a chain, group or chord: setup writes down everything that its own message says
about what follows, as the job's continuation, and ends with `Ignore`; whoever starts the join sends it under
setup's task id with all of that. It is what `Task.replace` does, put off until the last chunk is done.
"""

from __future__ import annotations

import logging
import socket
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from celery.exceptions import Ignore
from kombu.utils import json
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from storage import Unencodable

from ...errors import InvalidInput, JobConflict, JobNotFound, is_transient
from ...records.chunk_ref import ChunkRef
from ...records.failure import Failure
from ...records.keys import new_id, new_token
from ...records.ledger import Ledger
from ...records.models import Continuation, Note, OutcomeStatus
from ...runtime import CachedJob
from ...stages import conclude, run_join, run_process, run_setup
from .. import local
from ..submission import Submission, has_begun, put_on_record
from . import signature_codec, values
from .messages import JoinMessage, SetupMessage
from .options import kept, moment, refusals, routing_of
from .publishing.publish import Message, Patience, offer
from .publishing.undo import undone_unless_sent
from .revocation import is_revoked
from .stage_task import OnRecord, StageTask
from .store_mismatch import store_header

_LOG = logging.getLogger("fanout")


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
            PublishFailed: The message could not be sent within `publish_timeout_s`. The job was not launched and
                never runs, unless the error says otherwise.
        """
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        if self.app.conf.task_always_eager or "submission" not in kwargs:
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
            submission = signature_codec.from_wire(kwargs["submission"], self._declaration())
            signature_codec.renewed(kwargs["submission"], submission, self.runtime)
            submission = signature_codec.completed(submission, args, self.runtime)
        except (InvalidInput, Unencodable) as error:
            if isinstance(error, signature_codec.ParametersGone) and not follows:
                raise
            if routing and isinstance(kwargs["submission"], dict):
                kwargs["submission"] = {**kwargs["submission"], "routing": routing}
            return self._offered(args, kwargs, task_id, producer, options)
        launch = json.dumps({**kept(options), **routing, "task_id": task_id})
        intent = replace(submission, routing=routing).intent(
            launch=launch,
            not_before=moment(options.get("eta") or options.get("countdown")),
            expires_at=moment(options.get("expires")),
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
        submission = (
            signature_codec.from_wire(message.submission, self._declaration())
            if message.submission is not None
            else None
        )
        if self.request.is_eager:
            return self._run_here(message, submission)
        with self.errors_handled(message.job_id, message.launch_id, message.generation):
            job = self._launched(message, submission) if submission is not None else self._found(message)
            if job is not None:
                run_setup(
                    self.runtime,
                    job.id,
                    launch_id=job.launch_id,
                    generation=message.generation,
                    delivery=replace(self.delivery, resent=message.resent),
                )
        raise Ignore

    def _found(self, message: SetupMessage) -> CachedJob | None:
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

    def _launched(self, message: SetupMessage, submission: Submission) -> CachedJob | None:
        """The job that the message itself describes; None if its input was refused."""
        runtime = self.runtime
        refused: Exception | None = None
        try:
            assert message.submission is not None
            signature_codec.renewed(message.submission, submission, runtime)
            submission = signature_codec.completed(submission, message.received, runtime)
        except (InvalidInput, Unencodable) as error:
            refused = error
        job = runtime.launch(message.job_id, submission.intent(now=runtime.now))
        job.ledger.write_continuation(Continuation(message=self.continuation()))
        if refused is not None:
            conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", refused))
            return None
        return job

    def _run_here(self, message: SetupMessage, submission: Submission | None) -> Any:
        """Eager mode: the job runs in this process, and its value is the task's result."""
        if submission is None:
            raise InvalidInput(self.fanout_task, {"input": ["is missing: launch the task by its signature"]})
        complete = signature_codec.completed(submission, message.received, self.runtime)
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
        return json.dumps(kept(following))


class ProcessTask(StageTask):
    """Runs process on one chunk; its arguments are the chunk's handle."""

    abstract = True
    step = "process"
    ignore_result = True

    def run(self, *row: Any, **kwargs: Any) -> None:
        ref = self.parsed(lambda: ChunkRef.from_row(row))
        with self.errors_handled(ref.job_id, ref.launch_id, ref.generation):
            run_process(self.runtime, ref, self.delivery)


class JoinTask(StageTask):
    """Runs join, or delivers an outcome that stands; its result is the job's value."""

    abstract = True
    step = "join"

    def run(self, *args: Any, **kwargs: Any) -> Any:
        message = self.parsed(lambda: JoinMessage.parse(args, kwargs))
        try:
            return self._outcome(message)
        except OnRecord as ended:
            raise ended.error from None

    def _outcome(self, message: JoinMessage) -> Any:
        """What Celery is to be told: the job's value; else raises."""
        job_id, launch_id, generation = message.job_id, message.launch_id, message.generation
        token = new_token()
        with self.errors_handled(job_id, launch_id, generation, held=[*message.held, token]):
            outcome = run_join(
                self.runtime,
                job_id,
                launch_id=launch_id,
                generation=generation,
                delivery=replace(self.delivery, resent=message.resent),
                token=token,
                held=message.held,
            )
            if outcome is None:
                raise Ignore
            if is_revoked(outcome):
                self._tell_revoked(self.runtime.job(job_id, launch_id, generation))
            if outcome.failure is not None:
                raise OnRecord(outcome.error(job_id))
            ledger = self.runtime.job(job_id, launch_id, generation).ledger
            try:
                return values.sent(ledger.value(outcome), self.app, ledger, request=self.request)
            except Exception as error:
                if is_transient(error):
                    raise
                # The value is damaged, or what sends it is broken: it will be so the next time.
                raise OnRecord(error) from error

    def _tell_revoked(self, job: CachedJob) -> NoReturn:
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
            job = self.runtime.job(args[0], kwargs.get("launch_id"), kwargs.get("generation", 0))
            job.ledger.write_delivered(_by_this_process())
        super().after_return(status, retval, task_id, args, kwargs, einfo)


def _by_this_process() -> Note:
    return Note(by=f"{socket.gethostname()}:{new_id()}")
