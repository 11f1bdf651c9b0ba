"""The end of a job: by a join, or by an outcome that needs none."""

from __future__ import annotations

import time

from ..cached_job import CachedJob
from ..records.batch import Landed
from ..records.failure import Failure
from ..records.models import Outcome, OutcomeStatus
from ..runtime import Runtime
from .failure_summary import FailureSummary, too_many_failed


def start_join(runtime: Runtime, job: CachedJob, *, resent: bool = False) -> None:
    """Send the message for the join, with the continuation that setup recorded. Sending it twice is harmless.

    Nothing is sent for a job that ended before its setup began: only setup's message holds the continuation.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        resent: Whether a sweep sends the message, because it believes an earlier join to be lost.
    """
    continuation = job.ledger.continuation()
    if continuation is None and awaits_setup(runtime, job):
        return
    message = continuation.message if continuation is not None else None
    runtime.dispatcher.send_join(job.id, job.intent, message, resent=resent, generation=job.generation)


def awaits_setup(runtime: Runtime, job: CachedJob) -> bool:
    """Return whether a job without a continuation may get one, because setup's message has not expired."""
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
    """End the job without a value, and have the outcome delivered.

    Does nothing to a job that has ended already.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        status: How the job ends.
        failure: Why the job ends.
        summary: The job's failed items, if it ends because they are too many.
        deliver: Whether to have the outcome delivered; False if the engine has delivered it.

    Returns:
        The job's outcome, which may be an earlier one.
    """
    current, is_ours = end_job(job, status, failure, summary=summary)
    if is_ours:
        runtime.telemetry.count_job(job.intent.task, status)
        if deliver:
            start_join(runtime, job)
    return current


def end_job(
    job: CachedJob, status: OutcomeStatus, failure: Failure, *, summary: FailureSummary | None = None
) -> tuple[Outcome, bool]:
    """Write the outcome of a job without a value; see `conclude`. One request.

    Returns:
        The job's outcome, and whether it is the one given here.
    """
    outcome = Outcome(
        status=status,
        task=job.intent.task,
        stats=job.stats(time.time()).to_row(),
        failure=failure,
        failed=summary.failed if summary else 0,
        failures=list(summary.listed) if summary else [],
    )
    current = job.ledger.write_outcome(outcome)
    job.cached_ended = True
    return current, current is outcome


def fail_if_overdue(runtime: Runtime, job: CachedJob) -> bool:
    """End the job if its deadline has passed, and return whether it has. No request before the deadline."""
    if job.deadline_at is None or runtime.now() <= job.deadline_at:
        return False
    conclude(runtime, job, OutcomeStatus.FAILED, Failure("job", "DeadlineExceeded", "its deadline has passed"))
    return True


def fail_if_too_many_failed(runtime: Runtime, job: CachedJob, setup_id: str, landed: Landed, items: int | None) -> bool:
    """End the job if more of its items failed than it tolerates, and return whether they did.

    No request if they did not. Otherwise one request for each chunk whose failed items the outcome lists, and those of
    `conclude`.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        setup_id: Setup id of the chunks.
        landed: The chunks that have a result.
        items: Number of items of the job; None if it is not known yet.
    """
    if not too_many_failed(job, landed, items):
        return False
    summary = FailureSummary.of(job, setup_id, landed)
    conclude(runtime, job, OutcomeStatus.FAILED, summary.to_failure(job, items), summary=summary)
    return True
