"""The completion check after a chunk: at once, or as soon as the process is idle."""

from __future__ import annotations

from functools import partial

from ..records.chunk_ref import ChunkRef
from ..records.keys import GROUP_WIDTH
from ..runtime import CachedJob, Runtime
from . import barrier
from .combine import combine_ready_nodes
from .delivery import FIRST, Delivery
from .outcome import start_join


def check_completion(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery, *, by: str) -> None:
    """Check, now or soon, whether the chunk's group is complete, and start the join if the job is.

    One check after the last result of a group is enough. The worker that writes this result is likely to have one of
    the last chunks, so it checks at once after those. After any other chunk it waits until its process is idle, for
    there may be more chunks of the group to come. Then one check after the last of them is enough. If the process dies
    before that, a sweep makes the check. A job with `combine` is checked at once: combining results is work, and
    belongs to a message that the broker redelivers if its worker dies.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        ref: The chunk, whose result exists.
        delivery: Earlier runs for the same message, as far as they are known.
        by: Token of the run.
    """
    debouncer = runtime.debouncer
    if debouncer is not None:
        group = (job.id, job.generation, ref.setup_id, ref.chunk // GROUP_WIDTH)
        if not (ref.resent or job.intent.combines or _is_near_end(job, ref)):
            debouncer.defer(group, partial(_check_later, runtime, job, ref, by))
            return
        debouncer.drop(group)
    if _is_complete(runtime, job, ref, delivery, by=by):
        start_join(runtime, job)


def _check_later(runtime: Runtime, job: CachedJob, ref: ChunkRef, by: str) -> None:
    """Make a deferred check. Another worker may have seen the same results by now, and started the join."""
    if job.cached_ended:
        return
    if _is_complete(runtime, job, ref, FIRST, by=by) and not job.ledger.is_claimed():
        start_join(runtime, job)


def _is_complete(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery, *, by: str) -> bool:
    if job.intent.combines:
        return combine_ready_nodes(runtime, job, ref, delivery)
    return barrier.complete_after(job.ledger, ref.setup_id, ref.chunk, job.manifest, by=by)


def _is_near_end(job: CachedJob, ref: ChunkRef) -> bool:
    manifest = job.poll_manifest()
    return manifest is not None and barrier.is_near_end(ref.chunk, manifest.chunks)
