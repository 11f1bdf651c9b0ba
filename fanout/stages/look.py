"""After a chunk: is its group full, is the job complete?"""

from __future__ import annotations

from functools import partial

from .. import barrier
from ..handle import Handle
from ..keys import GROUP_WIDTH
from ..runtime import OpenJob, Runtime
from .ending import start_join


def look_after(runtime: Runtime, job: OpenJob, handle: Handle, *, by: str) -> None:
    """See to it that somebody looks at the chunk's group now that its result stands; whoever completes the job joins.

    What matters is a look after the group's last result. Whoever writes that is likely to be at one of the last
    chunks, and looks at once. After any other chunk the look waits until this process is idle, for there may be
    more chunks of the group to come: then one look, after the last of them, does for all. If the process dies
    before that, a sweep looks.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        handle: Names the chunk.
        by: Token of the run, for a mark.
    """
    idle, manifest = runtime.idle, job.known_manifest()
    group = (job.id, job.round, handle.attempt, handle.chunk // GROUP_WIDTH)
    if idle is None or handle.nudged or (manifest is not None and barrier.is_near_end(handle.chunk, manifest.chunks)):
        if idle is not None:
            idle.drop(group)
        _look(runtime, job, handle, by)
    else:
        idle.put_off(group, partial(_look_later, runtime, job, handle, by))


def _look(runtime: Runtime, job: OpenJob, handle: Handle, by: str) -> None:
    if _is_complete(job, handle, by):
        start_join(runtime, job)


def _look_later(runtime: Runtime, job: OpenJob, handle: Handle, by: str) -> None:
    """The same, at a time when somebody else may have seen the same results and started the join."""
    if not job.known_ended and _is_complete(job, handle, by) and not job.ledger.is_claimed():
        start_join(runtime, job)


def _is_complete(job: OpenJob, handle: Handle, by: str) -> bool:
    return barrier.complete_after(job.ledger, handle.attempt, handle.chunk, job.manifest, by=by)
