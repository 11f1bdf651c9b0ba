"""When to look after a chunk whether its group is full: at once, or as soon as the process has nothing else to do."""

from __future__ import annotations

from functools import partial

from ..records.chunk_ref import Handle
from ..records.keys import GROUP_WIDTH
from ..runtime import OpenJob, Runtime
from . import barrier
from .combine import Delivery, complete_after
from .outcome import start_join


def look_after(runtime: Runtime, job: OpenJob, handle: Handle, delivery: Delivery, *, by: str) -> None:
    """See to it that somebody looks at the chunk's group now that its result stands; whoever completes the job joins.

    What matters is a look after the group's last result. Whoever writes that is likely to be at one of the last
    chunks, and looks at once. After any other chunk the look waits until this process is idle, for there may be
    more chunks of the group to come: then one look, after the last of them, does for all. If the process dies
    before that, a sweep looks. Where a look may have to combine results it does not wait: that is work, and belongs
    into a message that comes back if its worker dies.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        handle: Names the chunk.
        delivery: What is known of earlier runs for the same message.
        by: Token of the run.
    """
    idle = runtime.idle
    if idle is not None:
        group = (job.id, job.round, handle.attempt, handle.chunk // GROUP_WIDTH)
        if not (handle.nudged or job.intent.combines or _near_end(job, handle)):
            idle.put_off(group, partial(_look_later, runtime, job, handle, by))
            return
        idle.drop(group)
    if complete_after(runtime, job, handle, delivery, by=by):
        start_join(runtime, job)


def _look_later(runtime: Runtime, job: OpenJob, handle: Handle, by: str) -> None:
    """The same, at a time when somebody else may have seen the same results and started the join."""
    if job.known_ended:
        return
    if complete_after(runtime, job, handle, Delivery(), by=by) and not job.ledger.is_claimed():
        start_join(runtime, job)


def _near_end(job: OpenJob, handle: Handle) -> bool:
    manifest = job.recent_manifest()
    return manifest is not None and barrier.is_near_end(handle.chunk, manifest.chunks)
