"""How a job is brought to its end: by a join, or by an outcome that needs none."""

from __future__ import annotations

import time
from collections.abc import Mapping

from ..records.failure import Failure
from ..records.models import Ending, Outcome
from ..records.run_stats import Effort
from ..runtime import OpenJob, Runtime
from .failure_summary import Tally, too_many


def start_join(runtime: Runtime, job: OpenJob, *, again: bool = False) -> None:
    """Send the join, with what setup wrote down to follow it. Starting it twice is harmless.

    A job that ends before its setup has begun waits for it: only setup's message says what is to follow.
    """
    continuation = job.ledger.continuation()
    if continuation is None and awaits_setup(runtime, job):
        return
    message = continuation.message if continuation is not None else None
    runtime.carrier.send_join(job.id, job.intent, message, again=again, round=job.round)


def awaits_setup(runtime: Runtime, job: OpenJob) -> bool:
    """Whether a setup that has not begun yet is still to come, with what is to follow the join."""
    return job.intent.launch is not None and (job.expires_at is None or runtime.now() <= job.expires_at)


def conclude(
    runtime: Runtime,
    job: OpenJob,
    ending: Ending,
    failure: Failure,
    *,
    tally: Tally | None = None,
    deliver: bool = True,
) -> Outcome:
    """End the job without a value, and have the outcome delivered. Returns the outcome that stands.

    If the job has ended already, its outcome stands and nothing else happens.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        ending: How it ends.
        failure: Why.
        tally: Its failed items, if it ends because they are too many.
        deliver: Whether the outcome is to be delivered; no if the engine has done so.
    """
    standing, is_ours = end_job(job, ending, failure, tally=tally)
    if is_ours and deliver:
        start_join(runtime, job)
    return standing


def end_job(job: OpenJob, ending: Ending, failure: Failure, *, tally: Tally | None = None) -> tuple[Outcome, bool]:
    """Write the outcome of a job without a value; see `conclude`. One request.

    Returns:
        The outcome that stands, and whether it is this one.
    """
    outcome = Outcome(
        ending=ending,
        task=job.intent.task,
        effort=Effort.since(time.time()).to_row(),
        failure=failure,
        failed=tally.failed if tally else 0,
        failures=list(tally.listed) if tally else [],
    )
    standing = job.ledger.write_outcome(outcome)
    job.known_ended = True
    return standing, standing is outcome


def overdue(runtime: Runtime, job: OpenJob) -> bool:
    """Whether the job's deadline has passed; if so it has been concluded. No request before that."""
    if job.deadline_at is None or runtime.now() <= job.deadline_at:
        return False
    conclude(runtime, job, Ending.FAILED, Failure("job", "DeadlineExceeded", "its deadline has passed"))
    return True


def conclude_excess(runtime: Runtime, job: OpenJob, attempt: str, landed: Mapping[int, int], items: int | None) -> bool:
    """End the job if more of its items failed than may; returns whether that is so.

    No request unless it is; then one for each chunk whose failed items the outcome lists.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        attempt: The setup attempt that counts.
        landed: Chunk -> how many of its items failed.
        items: How many items the job has; None while nobody knows.
    """
    if not too_many(job, landed, items):
        return False
    tally = Tally.of(job, attempt, landed)
    conclude(runtime, job, Ending.FAILED, tally.excess(job, items), tally=tally)
    return True
