"""Process: runs the user's process on the chunks that a message refers to."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext

from ..abc import FIRST, Delivery
from ..errors import JobNotFound
from ..logs import fields_of
from ..records.chunk_ref import ChunkRef
from ..records.ledger import Ledger
from ..runtime import Runtime
from .batch_run import BatchRun
from .chunk_run import ChunkRun, is_superseded
from .outcome import fail_if_overdue
from .step import in_step

_LOG = logging.getLogger(__name__)


def run_process(runtime: Runtime, ref: ChunkRef, delivery: Delivery = FIRST) -> None:
    """Run process on one chunk or on a batch, unless it has results, its job has ended, or its setup was superseded.

    Without failures: one ranged read, one write-once write, and at most two listings, for a chunk as for a batch. If an
    item raises, its chunk is sent again, up to `max_attempts` runs. A failure of the last run ends the job. In a job
    that tolerates failures the last run records the failed item instead and keeps the results of the others, at the
    cost of two listings. A batch that lasts is shared out; see `BatchRun`.

    Args:
        runtime: Store, settings and dispatcher.
        ref: The chunks.
        delivery: Earlier runs for the same message, as far as they are known.

    Raises:
        StorageError: The store does not answer. The chunks may safely run again, as a resumed delivery.
        BrokerUnavailable: The broker takes no message. The chunks may safely run again, as a resumed delivery.
    """
    address = ref.job_id, ref.launch_id, ref.generation
    asked_at, is_new = time.monotonic(), runtime.cached(*address) is None
    has_outcome = runtime.begin(Ledger.has_outcome, *address, early=is_new)
    # Any delivery but the first may find that the chunks have results.
    packs = runtime.begin_slice(ref) if is_new and delivery.is_first and not ref.resent else None
    try:
        job = runtime.job(*address)
    except JobNotFound:
        extra = fields_of(ref.job_id, step="process", chunk=ref.chunk)
        _LOG.info("job %s does not exist any more; chunk %d dropped", ref.job_id, ref.chunk, extra=extra)
        return
    if is_new:
        job.remember_ended(has_outcome(job.ledger), asked_at=asked_at)
    if job.has_ended() or is_superseded(ref, job.cached_manifest()) or fail_if_overdue(runtime, job):
        return
    if packs is not None:
        job.use(packs)
    run = ChunkRun(runtime, job, ref, delivery) if ref.count == 1 else BatchRun(runtime, job, ref, delivery)
    observed = in_step(runtime, job, "process", delivery=delivery, ref=ref)
    with runtime.debouncer.work() if runtime.debouncer else nullcontext(), observed:
        run.run()
