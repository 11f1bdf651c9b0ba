"""The completion check after a chunk or a batch: at once, or as soon as the process is idle."""

from __future__ import annotations

from functools import partial

from ..abc import FIRST, Delivery
from ..cached_job import CachedJob
from ..records.chunk_ref import ChunkRef
from ..runtime import Runtime
from . import barrier
from .combine import combine_ready_nodes
from .outcome import start_join


def check_completion(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery) -> None:
    """Check, now or soon, whether the job is complete after some of its chunks, and start the join if it is.

    One check after the last result of a job is enough. The worker that writes this result is likely to have one of the
    last chunks, so it checks at once after those. After any other chunk it waits until its process is idle, for there
    may be more chunks to come. Then one check after the last of them is enough. If the process dies before that, a
    sweep makes the check. A job with `combine` is checked at once: combining results is work, and belongs to a message
    that the broker redelivers if its worker dies.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        ref: The chunks, whose results exist.
        delivery: Earlier runs for the same message, as far as they are known.
    """
    debouncer = runtime.debouncer
    if debouncer is not None:
        name = (job.id, job.generation, ref.setup_id)
        if not (ref.resent or job.intent.combines or _is_near_end(job, ref)):
            debouncer.defer(name, partial(_check_later, runtime, job, ref))
            return
        debouncer.drop(name)
    if _is_complete(runtime, job, ref, delivery):
        start_join(runtime, job)


def _check_later(runtime: Runtime, job: CachedJob, ref: ChunkRef) -> None:
    """Make a deferred check. Another worker may have seen the same results by now, and started the join."""
    if job.cached_ended:
        return
    if _is_complete(runtime, job, ref, FIRST) and not job.ledger.is_claimed():
        start_join(runtime, job)


def _is_complete(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery) -> bool:
    """Return whether the job is complete. False while there is no manifest: then setup checks after writing it."""
    if job.intent.combines:
        return combine_ready_nodes(runtime, job, ref, delivery)
    # Before the listing: if there is no manifest yet, setup will see all results that this worker has written.
    manifest = job.manifest()
    if manifest is None or manifest.setup_id != ref.setup_id:
        return False
    if ref.chunk <= job.done:
        # These chunks have results, as the caller says.
        job.done = max(job.done, ref.chunks[-1] + 1)
    if job.done < manifest.chunks:
        job.done = barrier.find_first_missing(job.ledger, ref.setup_id, manifest.chunks, done=job.done)
    return job.done >= manifest.chunks


def _is_near_end(job: CachedJob, ref: ChunkRef) -> bool:
    manifest = job.poll_manifest()
    return manifest is not None and barrier.is_near_end(ref.chunks[-1], manifest.chunks)
