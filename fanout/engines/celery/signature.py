"""A job as a Celery signature, and `submit`, which also launches jobs with streamed input."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic

from celery import Celery
from celery.canvas import Signature

from storage import StorageError

from ...cached_job import CachedJob
from ...declaration.definition import Declaration
from ...errors import ConfigError
from ...external.access import Access
from ...job import Job, R
from ...records.failure import Failure
from ...records.keys import is_id, new_id
from ...records.models import OutcomeStatus
from ...runtime import Runtime
from ...stages import end_job, run_setup
from .. import local
from ..job_creation import CALLER_STOPPED, create_job
from ..submission import Submission
from . import signature_codec
from .dispatcher import celery_name
from .extension import Extension, extension_of
from .options import check_options, check_send_options, extract_routing
from .preflight import check_workers
from .publishing.undo import annotate

SUBTASK_TYPE = "fanout"


class ForkJoinSignature(Signature[Any], Generic[R]):
    """A signature that launches its job when it is called, and does not run its task inline.

    All else is Celery's: `apply_async`, `delay`, `link`, `set`, `|`, and its place in groups, chords and chains.
    """

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Celery | None = None) -> ForkJoinSignature[R]:
        return cls(d, app=app)  # type: ignore[arg-type]

    @property
    def app(self) -> Celery:
        """The app that the signature was made with; if it was received from elsewhere, the current connected app."""
        made_with: Celery | None = self._app  # type: ignore[attr-defined]
        return made_with if made_with is not None else extension_of().app

    def set(self, immutable: bool | None = None, **options: Any) -> Signature[Any]:
        """Set message options as Celery does, but refuse at once those that no message of a job can have.

        Raises:
            ConfigError: Names the option and the remedy.
        """
        check_options(options)
        return super().set(immutable=immutable, **options)

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Job[R]:
        """Launch the job and return its `Job`."""
        result = self.apply_async(partial_args, partial_kwargs)
        return extension_of(self.app).job(result.id)


# Not as a decorator, which would take the class's type from type checkers.
Signature.register_type(SUBTASK_TYPE)(ForkJoinSignature)


def signature(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    receives: str | None = None,
    app: Celery | None = None,
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, Any],
) -> ForkJoinSignature:
    """Return the signature of a job; see `ForkJoinTask.signature`."""
    extension = extension_of(app)
    check_workers(extension, task)
    submission = _submission(extension, task, values, options=options, receives=receives, may_stream=False, tags=tags)
    return _signature_of(extension, submission)


def submit(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    job_id: str | None = None,
    setup_in_caller: bool = False,
    app: Celery | None = None,
    send_options: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
    options: Mapping[str, Any],
) -> Job:
    """Launch a job; see `ForkJoinTask.submit`."""
    extension = extension_of(app)
    check_workers(extension, task)
    check_send_options(send_options or {})
    if job_id is not None and not is_id(job_id):
        raise ConfigError(
            f"job_id {job_id!r:.80} can't be the id of a job: letters, digits, '.', '_' and '-', "
            "at most 128, starting with a letter or digit"
        )
    job_id = job_id or new_id()
    routing = extract_routing(send_options or {}, extension.app, task=celery_name(task.name, "process"))
    submission = replace(
        _submission(extension, task, values, options=options, setup_in_caller=setup_in_caller, tags=tags),
        routing=routing,
    )
    if extension.app.conf.task_always_eager:
        local.run_inline(extension.runtime, submission, job_id)
    elif not (submission.caller_parameters or setup_in_caller):
        _signature_of(extension, submission).apply_async(task_id=job_id)
    else:
        with extension.runtime.telemetry.launching(job_id, task.name):
            launch_id = _set_up(extension.runtime, submission, job_id)
        return extension.job(job_id, launch_id=launch_id)
    return extension.job(job_id)


def _submission(
    extension: Extension,
    task: Declaration,
    values: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    receives: str | None = None,
    may_stream: bool = True,
    setup_in_caller: bool = False,
    tags: Mapping[str, str] | None = None,
) -> Submission:
    runtime = extension.runtime
    return Submission.of(
        task,
        values,
        store=runtime.store,
        inline_bytes=runtime.config.inline_bytes,
        options=options,
        receives=receives,
        may_stream=may_stream,
        setup_in_caller=setup_in_caller,
        tags=tags,
    )


def _signature_of(extension: Extension, submission: Submission) -> ForkJoinSignature:
    return ForkJoinSignature(
        celery_name(submission.task.name, "setup"),
        kwargs={"submission": signature_codec.encode(submission)},
        options=dict(submission.routing),
        subtask_type=SUBTASK_TYPE,
        app=extension.app,
    )


def _set_up(runtime: Runtime, submission: Submission, job_id: str) -> str:
    """Create the job and run setup here, unless setup is done, or another caller runs it.

    Returns:
        The current launch of the id.
    """
    errors: list[BaseException] = []
    # A separate runtime, so that `errors` has the exceptions of this setup only.
    own = Runtime(
        runtime.store,
        runtime.config,
        runtime.dispatcher,
        tasks=runtime.tasks,
        on_error=errors.append,
        # An event loop that stops reading a stream cancels it.
        is_stop=lambda error: isinstance(error, KeyboardInterrupt | CancelledError),
        access=Access.of_caller(runtime.config),
        telemetry=runtime.telemetry,
    )
    job, is_new = create_job(own, job_id, submission.intent(now=runtime.now))
    if not is_new and _is_set_up(own, job):
        return job.launch_id
    try:
        run_setup(own, job_id, launch_id=job.launch_id, caller_parameters=submission.caller_parameters, fresh=is_new)
    except BaseException as error:
        raise annotate(error, _give_up(job, error)) from error.__cause__
    if errors:
        outcome = job.ledger.outcome()
        if outcome is not None and outcome.failure is not None:
            raise outcome.error(job_id) from errors[0]
    return job.launch_id


def _give_up(job: CachedJob, error: BaseException) -> str:
    """End the job, since this caller stops: it sees its launch fail, and will launch again.

    Workers then stop, and the id can be used again. If the store does not take the outcome, a sweep writes it later.

    Returns:
        What became of the job, for the caller.
    """
    is_stopped = not isinstance(error, Exception)
    failure = Failure("setup", CALLER_STOPPED, f"its caller stopped while it was launched: {type(error).__name__}")
    try:
        outcome, is_ours = end_job(job, OutcomeStatus.CANCELLED if is_stopped else OutcomeStatus.FAILED, failure)
    except StorageError as failed:
        return f"job {job.id} could not be ended either ({failed}): a sweep continues it, or ends it as CallerLost"
    if not is_ours:
        return f"job {job.id} had {outcome.status} before"
    return f"job {job.id} was ended, and never runs: submit it again, under the same job_id if you chose it"


def _is_set_up(runtime: Runtime, job: CachedJob) -> bool:
    """Return whether a job that was launched before has its input, or another caller is storing it."""
    if job.ledger.has_outcome() or job.manifest() is not None:
        return True
    seen_at = max(job.ledger.last_heartbeat("setup") or 0.0, job.ledger.launched_at())
    return runtime.now() - seen_at < runtime.config.stall_s
