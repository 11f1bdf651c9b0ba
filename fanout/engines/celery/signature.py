"""A job as a Celery signature, and the launch of a job whose input is streamed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.canvas import Signature

from ...declaration import Declaration
from ...job import Job
from ...keys import new_id
from ...runtime import Runtime
from ...stages import run_setup
from .. import local
from ..launch import Order
from . import wire
from .carrier import celery_name
from .extension import Extension, extension_of

SUBTASK_TYPE = "fanout"


@Signature.register_type(SUBTASK_TYPE)
class ForkJoinSignature(Signature[Any]):
    """A signature that launches when it is called, as a chain does, and not runs its task inline.

    All else is Celery's: `apply_async`, `delay`, `link`, `set`, `|`, and its place in groups, chords and chains.
    """

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Celery | None = None) -> ForkJoinSignature:
        return cls(d, app=app)  # type: ignore[arg-type]

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Job:
        """Launch the job and return its `Job`."""
        result = self.apply_async(partial_args, partial_kwargs)
        return extension_of(self.app).job(result.id)


def signature(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    receives: str | None = None,
    app: Celery | None = None,
    options: Mapping[str, Any],
) -> ForkJoinSignature:
    """See `ForkJoinTask.signature`."""
    extension = extension_of(app)
    order = _order(extension, task, values, options=options, receives=receives, may_stream=False)
    return _signature_of(extension, order)


def submit(
    task: Declaration, values: Mapping[str, Any], *, app: Celery | None = None, options: Mapping[str, Any]
) -> Job:
    """See `ForkJoinTask.submit`."""
    extension = extension_of(app)
    order = _order(extension, task, values, options=options)
    if not order.streams:
        return _signature_of(extension, order)()
    if extension.app.conf.task_always_eager:
        job_id = new_id()
        local.run_inline(extension.runtime, order, job_id)
        return extension.job(job_id)
    return _streamed(extension.runtime, order)


def _order(
    extension: Extension,
    task: Declaration,
    values: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    receives: str | None = None,
    may_stream: bool = True,
) -> Order:
    runtime = extension.runtime
    return Order.of(
        task,
        values,
        store=runtime.store,
        inline_bytes=runtime.config.inline_bytes,
        options=options,
        receives=receives,
        may_stream=may_stream,
    )


def _signature_of(extension: Extension, order: Order) -> ForkJoinSignature:
    return ForkJoinSignature(
        celery_name(order.task.name, "setup"),
        kwargs={"order": wire.to_wire(order)},
        subtask_type=SUBTASK_TYPE,
        app=extension.app,
    )


def _streamed(runtime: Runtime, order: Order) -> Job:
    """Run setup here, on a stream that only this process has."""
    job_id = new_id()
    errors: list[BaseException] = []
    # A runtime of its own, so that the exception of this setup can be told from anybody else's.
    own = Runtime(runtime.store, runtime.config, runtime.carrier, tasks=runtime.tasks, on_error=errors.append)
    own.open(job_id, runtime.launch(job_id, order.intent()).intent)
    run_setup(own, job_id, streams=order.streams)
    if errors:
        outcome = own.ledger(job_id).outcome()
        if outcome is not None and outcome.failure is not None:
            raise outcome.error(job_id) from errors[0]
    return Job(job_id, runtime)
