"""The progress of a job while a command waits for its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..errors import JobTimeout
from ..job import Job
from ..progress import JobState, Progress
from ..runtime import Runtime


def follow(runtime: Runtime, job: Job[Any], *, timeout_s: float | None, sweeping: bool = False) -> Iterator[Progress]:
    """Yield a job's progress at once, then whenever it has changed, and last when the job has ended.

    One request a second, whatever the size of the job.

    Args:
        runtime: The store that holds the job.
        job: The job.
        timeout_s: Seconds until JobTimeout; None for as long as it takes.
        sweeping: Whether to send the missing messages of the job if it stalls, as a caller in `Job.get` does.

    Raises:
        JobTimeout: The time is up. The job goes on.
        JobNotFound: The store has no such job.
    """
    progress = None
    try:
        for progress in job.watch(timeout_s, sweeping=sweeping):
            yield progress
    except JobTimeout as error:
        if progress is None:
            raise
        raise JobTimeout(_describe_timeout(runtime, job, progress, str(error))) from error


def progress_fields(job: Job[Any], progress: Progress) -> dict[str, Any]:
    """Return a job's progress for JSON."""
    return {
        "job_id": job.id,
        "state": str(progress.state),
        "chunks_done": progress.chunks_done,
        "chunks": progress.chunks,
        "items_done": progress.items_done,
        "items": progress.items,
        "items_failed": progress.items_failed,
        "items_per_s": progress.items_per_s,
        "left_s": progress.left_s,
        "fraction": progress.fraction,
        "note": progress.note,
    }


def _describe_timeout(runtime: Runtime, job: Job[Any], progress: Progress, text: str) -> str:
    """Return the message of a timeout, with the cause if no worker has begun the job. At most two requests."""
    if progress.state is not JobState.LAUNCHED or next(iter(runtime.ledger(job.id).objects()), None) is not None:
        return f"{text}. `fanout jobs watch {job.id}` waits again"
    return f"{text}. No worker has begun it: {runtime.start_hint}"
