"""A job as a Celery signature, and `submit`, which also launches jobs with streamed input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Generic

from celery import Celery
from celery.canvas import Signature

from ...declaration.definition import Declaration
from ...errors import ConfigError
from ...job import Job, R
from ...records.ids import is_id, new_id
from .. import local
from ..caller_setup import set_up
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
            launch_id = set_up(extension.runtime, submission, job_id, annotate=annotate)
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
