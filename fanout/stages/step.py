"""The context in which stages run the user's steps."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from storage import StorageError

from ..abc import FIRST, Delivery
from ..cached_job import ENDED_CHECK_S, CachedJob
from ..external.context import Position, Signs, StepContext, Tally, current_step, running
from ..logs import fields_of
from ..records.chunk_ref import ChunkRef
from ..runtime import Runtime
from ..telemetry import Stage

_LOG = logging.getLogger(__name__)


@contextmanager
def in_step(
    runtime: Runtime,
    job: CachedJob,
    step: str,
    *,
    attempt: int = 1,
    delivery: Delivery = FIRST,
    ref: ChunkRef | None = None,
) -> Iterator[StepContext]:
    """Let a block decode values and run a step of a job's task, with the access of this process, and observe it.

    No request.

    Args:
        runtime: Its access and telemetry.
        job: The job.
        step: `setup`, `process` or `join`.
        attempt: Number of the attempt, from 1. For process, each chunk says it by `begin_run`.
        delivery: How the step's message came.
        ref: The chunks, for process.
    """
    signs = Signs()
    context = StepContext(
        access=runtime.access,
        job_id=job.id,
        launch_id=job.launch_id,
        generation=job.generation,
        step=step,
        task=job.intent.task,
        deadline_at=job.deadline_at,
        has_ended=_EndCheck(job, signs),
        note_sink=job.ledger.write_sink,
        position=Position(attempt=attempt),
        signs=signs,
    )
    if ref is not None:
        attempt = ref.attempts + 1
    stage = describe_stage(job, step, attempt=attempt, delivery=delivery, ref=ref)
    with running(context), runtime.telemetry.running(stage, context.tally):
        yield context


def describe_stage(
    job: CachedJob, step: str, *, attempt: int, delivery: Delivery = FIRST, ref: ChunkRef | None = None
) -> Stage:
    """Return a run of a stage as telemetry takes it; see `in_step`."""
    arrivals = {
        "redelivered": delivery.redelivered,
        "resent": delivery.resent or (ref is not None and ref.resent),
        "resumed": delivery.resumed,
        "requeued": delivery.requeued,
    }
    return Stage(
        job_id=job.id,
        task=job.intent.task,
        step=step,
        generation=job.generation,
        attempt=attempt,
        trace=job.intent.trace,
        chunk=ref.chunk if ref is not None else None,
        chunks=ref.count if ref is not None else 1,
        message=delivery.message,
        arrivals=tuple(name for name, has_come in arrivals.items() if has_come),
    )


def current_tally() -> Tally:
    """Return the tally of the step around this call; outside a step, one that nothing reads."""
    context = current_step()
    return context.tally if context is not None else Tally()


def begin_run(*, step: str | None = None, chunk: int | None = None, attempt: int = 1) -> Position:
    """Note which run begins in the context around this call, and return its position; outside a step, a new one.

    Args:
        step: `combine` if that runs within process; None for the step of the context.
        chunk: Index of the chunk, for process.
        attempt: Number of the attempt, from 1.
    """
    context = current_step()
    position = context.position if context is not None else Position()
    position.begin(step=step, chunk=chunk, attempt=attempt)
    if context is not None:
        context.signs.note = ""
    return position


class _EndCheck:
    """A check whether a job has ended, for its step to ask as often as it likes. At most one request per second.

    A store that does not answer counts as a job that goes on.
    """

    def __init__(self, job: CachedJob, signs: Signs) -> None:
        self._job = job
        self._signs = signs
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        pulse, job = self._signs.pulse, self._job
        if job.cached_ended or (pulse is not None and pulse.ended):
            return True
        with self._lock:
            now = time.monotonic()
            if now - self._asked_at < ENDED_CHECK_S:
                return False
            self._asked_at = now
        try:
            return job.has_ended()
        except StorageError as error:
            _LOG.warning("job %s: could not check whether it has ended: %s", job.id, error, extra=fields_of(job.id))
            return False
