"""The progress of a job while a command waits for its end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from .. import sweep
from ..errors import JobTimeout
from ..hints import NoWorkerHint
from ..job import Job
from ..progress import JobState, Progress
from ..runtime import Runtime

POLL_S = 1.0
"""Seconds between two questions for a job's progress."""

ENDED = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


def follow(runtime: Runtime, job: Job[Any], *, timeout_s: float | None, sweeping: bool = False) -> Iterator[Progress]:
    """Yield a job's progress at once, then once a second, and last when the job has ended.

    Args:
        runtime: The store that holds the job.
        job: The job.
        timeout_s: Seconds until JobTimeout; None for as long as it takes.
        sweeping: Whether to send the missing messages of the job if it stalls, as a caller in `Job.get` does.

    Raises:
        JobTimeout: The time is up. The job goes on.
        JobNotFound: The store has no such job.
    """
    started_at = swept_at = time.monotonic()
    background = sweep.BackgroundSweep(runtime, job.id)
    not_begun: NoWorkerHint | None = None
    with runtime.listener(job.id) as listener:
        while True:
            progress = job.progress()
            yield progress
            if progress.state in ENDED:
                return
            now = time.monotonic()
            pause_s = POLL_S
            if timeout_s is not None:
                left_s = started_at + timeout_s - now
                if left_s <= 0:
                    raise JobTimeout(_describe_timeout(runtime, job, progress, timeout_s))
                pause_s = min(pause_s, left_s)
            if sweeping and now - swept_at >= runtime.config.stall_s / 2:
                background.start()
                swept_at = now
            background.check()
            not_begun = not_begun or NoWorkerHint(runtime, runtime.job(job.id))
            not_begun.check()
            listener.wait(pause_s)


def describe_progress(progress: Progress) -> str:
    """Return a job's progress as one line."""
    text = str(progress.state)
    if progress.chunks is not None:
        text += f", {progress.chunks_done:,} of {progress.chunks:,} chunks"
        if progress.fraction is not None:
            # Cut, and not rounded: 100 % means all.
            text += f" ({int(100 * progress.fraction)} %)"
        text += f" of {progress.items or 0:,} items"
    if progress.items_failed:
        text += f", {progress.items_failed:,} of them failed"
    return text


def progress_fields(job: Job[Any], progress: Progress) -> dict[str, Any]:
    """Return a job's progress for JSON."""
    return {
        "job_id": job.id,
        "state": str(progress.state),
        "chunks_done": progress.chunks_done,
        "chunks": progress.chunks,
        "items": progress.items,
        "items_failed": progress.items_failed,
        "fraction": progress.fraction,
    }


def _describe_timeout(runtime: Runtime, job: Job[Any], progress: Progress, timeout_s: float) -> str:
    """Return the message of a timeout, with the cause if no worker has begun the job. At most two requests."""
    text = f"job {job.id} has not ended within {timeout_s:g} s; it goes on"
    if progress.state is not JobState.LAUNCHED or next(iter(runtime.ledger(job.id).objects()), None) is not None:
        return f"{text}. `fanout jobs watch {job.id}` waits again"
    return (
        f"{text}. No worker has begun it: start one with `celery -A … worker`, or let `fanout doctor -A …` find out why"
    )
