"""How a job is brought to its end: by a join, or by an outcome that needs none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..records.failure import Failure
from ..records.models import Outcome, OutcomeStatus
from ..records.run_stats import RunStats
from ..runtime import CachedJob, Runtime
from .failure_summary import FailureSummary, too_many


def start_join(runtime: Runtime, job: CachedJob, *, resent: bool = False) -> None:
    """Send the join, with what setup wrote down to follow it. Starting it twice is harmless.

    A job that ends before its setup has begun waits for it: only setup's message says what is to follow.
    """
    continuation = job.ledger.continuation()
    if continuation is None and awaits_setup(runtime, job):
        return
    message = continuation.message if continuation is not None else None
    runtime.dispatcher.send_join(job.id, job.intent, message, resent=resent, generation=job.generation)


def awaits_setup(runtime: Runtime, job: CachedJob) -> bool:
    """Whether a setup that has not begun yet is still to come, with what is to follow the join."""
    return job.intent.launch is not None and (job.expires_at is None or runtime.now() <= job.expires_at)


def conclude(
    runtime: Runtime,
    job: CachedJob,
    status: OutcomeStatus,
    failure: Failure,
    *,
    summary: FailureSummary | None = None,
    deliver: bool = True,
) -> Outcome:
    """End the job without a value, and have the outcome delivered. Returns the outcome that stands.

    If the job has ended already, its outcome stands and nothing else happens.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        status: How it ends.
        failure: Why.
        summary: Its failed items, if it ends because they are too many.
        deliver: Whether the outcome is to be delivered; no if the engine has done so.
    """
    current, is_ours = end_job(job, status, failure, summary=summary)
    if is_ours and deliver:
        start_join(runtime, job)
    return current


def end_job(
    job: CachedJob, status: OutcomeStatus, failure: Failure, *, summary: FailureSummary | None = None
) -> tuple[Outcome, bool]:
    """Write the outcome of a job without a value; see `conclude`. One request.

    Returns:
        The outcome that stands, and whether it is this one.
    """
    outcome = Outcome(
        status=status,
        task=job.intent.task,
        stats=RunStats.since(time.time()).to_row(),
        failure=failure,
        failed=summary.failed if summary else 0,
        failures=list(summary.listed) if summary else [],
    )
    current = job.ledger.write_outcome(outcome)
    job.cached_ended = True
    return current, current is outcome


def fail_if_overdue(runtime: Runtime, job: CachedJob) -> bool:
    """Whether the job's deadline has passed; if so it has been concluded. No request before that."""
    if job.deadline_at is None or runtime.now() <= job.deadline_at:
        return False
    conclude(runtime, job, OutcomeStatus.FAILED, Failure("job", "DeadlineExceeded", "its deadline has passed"))
    return True


def fail_if_too_many_failed(
    runtime: Runtime, job: CachedJob, setup_id: str, landed: Mapping[int, int], items: int | None
) -> bool:
    """End the job if more of its items failed than may; returns whether that is so.

    No request unless it is; then one for each chunk whose failed items the outcome lists.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        setup_id: The setup attempt that counts.
        landed: Chunk -> how many of its items failed.
        items: How many items the job has; None while nobody knows.
    """
    if not too_many(job, landed, items):
        return False
    summary = FailureSummary.of(job, setup_id, landed)
    conclude(runtime, job, OutcomeStatus.FAILED, summary.excess(job, items), summary=summary)
    return True
