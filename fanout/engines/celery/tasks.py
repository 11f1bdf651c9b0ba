"""The three Celery tasks of a declared task: setup, process and join.

Each passes a job id or a chunk ref to its stage, and turns the stage's result into the result that Celery expects.

A job's signature keeps its place in a chain, group or chord. Setup copies the following tasks, which its own message
names, into the job's continuation, and ends with `Ignore`. The sender of the join gives it setup's task id and all of
the continuation. That is `Task.replace`, deferred until the last chunk is done.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

from celery.exceptions import Ignore
from kombu.utils import json
from kombu.utils.functional import maybe_list
from kombu.utils.uuid import uuid

from storage import Unencodable

from ...cached_job import CachedJob
from ...errors import InvalidInput, JobConflict, JobNotFound, is_transient
from ...records.failure import Failure
from ...records.ids import new_id, new_token
from ...records.ledger import Ledger
from ...records.models import Continuation, Intent, Note, OutcomeStatus
from ...stages import conclude, run_join, run_process, run_setup
from .. import local
from ..job_creation import create_job, has_begun
from ..submission import Submission
from . import signature_codec, values
from .messages import JoinMessage, SetupMessage, parse_chunk
from .options import extract_routing, find_refused, select_recordable, to_timestamp
from .publishing.publish import Message, PublishLimits, publish_all
from .publishing.undo import undo_unless_sent
from .revocation import is_revoked
from .stage_task import OutcomeError, StageTask
from .store_mismatch import make_store_header

_LOG = logging.getLogger(__name__)


class SetupTask(StageTask):
    """The Celery task that runs setup. Its task id is the job id."""

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
        """Write the job's intent, then send a message that holds only its ids.

        Stores the previous step's value, if there is one, with the other parameters. Sends an input that is refused
        as it is, for setup to fail with: this call may run in a worker that has just ended another task.

        A second launch under the same id returns the same job. It sends the message again unless a worker has taken
        it up, since the first caller may have died before it sent the message.

        Raises:
            JobConflict: A job of that id exists, with another input or other options.
            ConfigError: A message option is refused, such as another serializer.
            PublishFailed: The message could not be sent within `publish_timeout_s`. The job was not launched and
                never runs, unless the error says otherwise.
        """
        args, kwargs = tuple(args or ()), dict(kwargs or {})
        if self.app.conf.task_always_eager or "submission" not in kwargs:
            return super().apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
        task_id = task_id or uuid()
        with self.runtime.telemetry.launching(task_id, self.fanout_task):
            return self._launch(args, kwargs, task_id, producer, options)

    def _launch(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], task_id: str, producer: Any, options: dict[str, Any]
    ) -> Any:
        """Write the job's intent and send setup's message; see `apply_async`."""
        options["reply_to"] = options.get("reply_to") or self.app.thread_oid
        options = {name: value for name, value in options.items() if value is not None}
        # A worker that has ended the previous step launches this job, and may do so twice.
        follows = "parent_id" in options
        if follows:
            options = self._drop_refused(options)
        routing = extract_routing(options, self.app, task=self.name)
        try:
            submission = signature_codec.decode(kwargs["submission"], self._declaration())
            submission = self._complete(kwargs["submission"], submission, args)
        except (InvalidInput, Unencodable) as error:
            if isinstance(error, signature_codec.ParametersGone) and not follows:
                raise
            if routing and isinstance(kwargs["submission"], dict):
                kwargs["submission"] = {**kwargs["submission"], "routing": routing}
            return self._publish(args, kwargs, task_id, producer, options)
        intent = replace(submission, routing=routing).intent(
            launch=json.dumps({**select_recordable(options), **routing, "task_id": task_id}),
            not_before=to_timestamp(options.get("eta") or options.get("countdown")),
            expires_at=to_timestamp(options.get("expires")),
            now=self.runtime.now,
        )
        job, is_new = self._create_job(task_id, intent, follows=follows)
        if not is_new and not follows and has_begun(job.ledger):
            return self.AsyncResult(task_id)
        options["headers"] = {**(options.get("headers") or {}), **make_store_header(self.runtime.store.url)}
        with undo_unless_sent(job, is_new=is_new):
            self._publish((), {"launch_id": job.launch_id}, task_id, producer, options)
        return self.AsyncResult(task_id)

    def _drop_refused(self, options: dict[str, Any]) -> dict[str, Any]:
        """Drop and log the options that no job can have. For a launch within a chain, whose caller sees no error."""
        refused = find_refused(options)
        for reason in refused.values():
            _LOG.warning("%s: launched without an option: %s", self.name, reason)
        return {name: value for name, value in options.items() if name not in refused}

    def _complete(self, body: dict[str, Any], submission: Submission, received: tuple[Any, ...]) -> Submission:
        """Renew the parameters that a signature refers to, and add the previous step's value."""
        signature_codec.renew(body, submission, self.runtime)
        return signature_codec.complete(submission, received, self.runtime)

    def _create_job(self, job_id: str, intent: Intent, *, follows: bool) -> tuple[CachedJob, bool]:
        """Create the job. Within a chain, keep an existing job whose input differs."""
        try:
            return create_job(self.runtime, job_id, intent)
        except JobConflict as conflict:
            if not follows:
                raise
            _LOG.warning("the previous step gave another value when it ran again; the first one counts: %s", conflict)
            return self.runtime.job(job_id), False

    def _publish(self, args: Any, kwargs: Any, task_id: str, producer: Any, options: dict[str, Any]) -> Any:
        """Send setup's message as Celery does, within our limits, and confirmed by RabbitMQ."""
        connection = options.pop("connection", None)
        if producer is None and connection is not None:
            producer = self.app.amqp.Producer(connection, auto_declare=False)
        timeout_s = self.runtime.config.publish_timeout_s
        limits = PublishLimits(silent_s=timeout_s, refusing_s=timeout_s, once=options.get("retry") is False)
        options = {**options, "retry": False, "retry_policy": None}
        send = partial(super().apply_async, args, kwargs, task_id=task_id, **options)
        message = Message(task_id, self.name, options, lambda producer: send(producer=producer))
        publish_all(self.app, [message], limits, producer=producer)
        return self.AsyncResult(task_id)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        message = self.parse_or_drop(lambda: SetupMessage.parse(self.request.id, args, kwargs))
        # Outside of `handle_errors`: a submission that is not this task's ends the message, which has no job yet.
        submission = (
            signature_codec.decode(message.submission, self._declaration()) if message.submission is not None else None
        )
        if self.request.is_eager:
            return self._run_eagerly(message, submission)
        with self.handle_errors(message.job_id, message.launch_id, message.generation):
            launch_id = self._take_up(message) if submission is None else self._create_described(message, submission)
            run_setup(
                self.runtime,
                message.job_id,
                launch_id=launch_id,
                generation=message.generation,
                delivery=replace(self.delivery, resent=message.resent),
            )
        raise Ignore

    def _take_up(self, message: SetupMessage) -> str | None:
        """Record what follows the message. Return its launch; None if it names none, and there is no job of its id."""
        launch_id = message.launch_id
        if launch_id is None:
            with suppress(JobNotFound):
                launch_id = self.runtime.job(message.job_id).launch_id
        if launch_id is not None:
            # Written before the intent is read: a caller that withdraws the launch then sees that it was taken up.
            ledger = Ledger(self.runtime.store, message.job_id, launch_id)
            ledger.write_continuation(Continuation(message=self.continuation()))
        return launch_id

    def _create_described(self, message: SetupMessage, submission: Submission) -> str:
        """Create the job that the message itself describes, and return its launch.

        Raises:
            Ignore: The input is refused. The job has ended.
        """
        runtime = self.runtime
        refused: Exception | None = None
        try:
            assert message.submission is not None
            submission = self._complete(message.submission, submission, message.received)
        except (InvalidInput, Unencodable) as error:
            refused = error
        job = runtime.launch(message.job_id, submission.intent(now=runtime.now))
        job.ledger.write_continuation(Continuation(message=self.continuation()))
        if refused is not None:
            conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", refused))
            raise Ignore
        return job.launch_id

    def _run_eagerly(self, message: SetupMessage, submission: Submission | None) -> Any:
        """Run the job in this process, in eager mode. Its value is the task's result."""
        if submission is None:
            raise InvalidInput(self.fanout_task, {"input": ["is missing: launch the task by its signature"]})
        submission = signature_codec.complete(submission, message.received, self.runtime)
        outcome = local.run_inline(self.runtime, submission, message.job_id)
        if outcome.failure is not None:
            raise outcome.error(message.job_id)
        ledger = self.runtime.ledger(message.job_id)
        return values.make_sendable(ledger.value(outcome), self.app, ledger, request=self.request)

    def _declaration(self) -> Any:
        return self.runtime.tasks.find(self.fanout_task)

    def continuation(self) -> str:
        """Return, as JSON, the tasks that follow this message, and its place in chain, group and chord."""
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
        return json.dumps(select_recordable(following))


class ProcessTask(StageTask):
    """The Celery task that runs process on one chunk. Its arguments are the chunk ref."""

    abstract = True
    step = "process"
    ignore_result = True

    def run(self, *row: Any, **kwargs: Any) -> None:
        ref = self.parse_or_drop(lambda: parse_chunk(row, kwargs))
        with self.handle_errors(ref.job_id, ref.launch_id, ref.generation):
            run_process(self.runtime, ref, self.delivery)


class JoinTask(StageTask):
    """The Celery task that runs join, or delivers an outcome that exists. Its result is the job's value."""

    abstract = True
    step = "join"

    def run(self, *args: Any, **kwargs: Any) -> Any:
        message = self.parse_or_drop(lambda: JoinMessage.parse(args, kwargs))
        try:
            return self._join(message)
        except OutcomeError as ended:
            raise ended.error from None

    def _join(self, message: JoinMessage) -> Any:
        """Run join, and return the job's value for Celery.

        Raises:
            OutcomeError: The job has ended without a value, or its value cannot be sent.
            Ignore: The job has no outcome yet, or it was revoked.
        """
        job_id, launch_id, generation = message.job_id, message.launch_id, message.generation
        token = new_token()
        with self.handle_errors(job_id, launch_id, generation, held=[*message.held, token]):
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
                self._report_revoked(self.runtime.job(job_id, launch_id, generation))
            if outcome.failure is not None:
                raise OutcomeError(outcome.error(job_id))
            ledger = self.runtime.job(job_id, launch_id, generation).ledger
            try:
                return values.make_sendable(ledger.value(outcome), self.app, ledger, request=self.request)
            except Exception as error:
                if is_transient(error):
                    raise
                # The value is damaged, or a serializer is broken. Another attempt would change neither.
                raise OutcomeError(error) from error

    def _report_revoked(self, job: CachedJob) -> NoReturn:
        """Report the job to Celery as a revoked task: no errback is called, and a chord loses a member.

        Raises:
            Ignore: Always, since Celery needs no other report.
        """
        request = self.request
        self.backend.mark_as_revoked(job.id, "revoked", request=request, store_result=not request.ignore_result)
        job.ledger.write_delivered(_delivery_note())
        raise Ignore

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Record that the outcome is delivered: Celery has sent the callbacks and stored the result.

        That includes an outcome that could not be sent, which Celery reports as a failure: it never can be sent.
        """
        if status in ("SUCCESS", "FAILURE"):
            job = self.runtime.job(args[0], kwargs.get("launch_id"), kwargs.get("generation", 0))
            job.ledger.write_delivered(_delivery_note())
        super().after_return(status, retval, task_id, args, kwargs, einfo)


def _delivery_note() -> Note:
    return Note(by=f"{socket.gethostname()}:{new_id()}")
