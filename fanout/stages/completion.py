"""When to look after a chunk whether its group is full: at once, or as soon as the process has nothing else to do."""

from __future__ import annotations

from functools import partial

from ..records.chunk_ref import ChunkRef
from ..records.keys import GROUP_WIDTH
from ..runtime import CachedJob, Runtime
from . import barrier
from .combine import complete_after
from .delivery import FIRST, Delivery
from .outcome import start_join


def check_completion(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery, *, by: str) -> None:
    """See to it that somebody looks at the chunk's group now that its result stands; whoever completes the job joins.

    What matters is a look after the group's last result. Whoever writes that is likely to be at one of the last
    chunks, and looks at once. After any other chunk the look waits until this process is idle, for there may be
    more chunks of the group to come: then one look, after the last of them, does for all. If the process dies
    before that, a sweep looks. Where a look may have to combine results it does not wait: that is work, and belongs
    into a message that comes back if its worker dies.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        ref: Names the chunk.
        delivery: What is known of earlier runs for the same message.
        by: Token of the run.
    """
    debouncer = runtime.debouncer
    if debouncer is not None:
        group = (job.id, job.generation, ref.setup_id, ref.chunk // GROUP_WIDTH)
        if not (ref.resent or job.intent.combines or _near_end(job, ref)):
            debouncer.defer(group, partial(_check_later, runtime, job, ref, by))
            return
        debouncer.drop(group)
    if complete_after(runtime, job, ref, delivery, by=by):
        start_join(runtime, job)


def _check_later(runtime: Runtime, job: CachedJob, ref: ChunkRef, by: str) -> None:
    """The same, at a time when somebody else may have seen the same results and started the join."""
    if job.cached_ended:
        return
    if complete_after(runtime, job, ref, FIRST, by=by) and not job.ledger.is_claimed():
        start_join(runtime, job)


def _near_end(job: CachedJob, ref: ChunkRef) -> bool:
    manifest = job.poll_manifest()
    return manifest is not None and barrier.is_near_end(ref.chunk, manifest.chunks)
