"""Setup in the caller's process: of a job whose input streams, or whose caller wants to cut it there."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable

from storage import StorageError

from ..cached_job import CachedJob
from ..external.access import Access
from ..records.failure import Failure
from ..records.models import OutcomeStatus
from ..runtime import Runtime
from ..stages import end_job, run_setup
from .job_creation import CALLER_STOPPED, create_job
from .submission import Submission


def _add_note(error: BaseException, fate: str) -> BaseException:
    error.add_note(fate)
    return error


def set_up(
    runtime: Runtime,
    submission: Submission,
    job_id: str,
    *,
    annotate: Callable[[BaseException, str], BaseException] = _add_note,
) -> str:
    """Create the job and run setup here, unless setup is done, or another caller runs it.

    Args:
        runtime: The caller's.
        submission: The job's input.
        job_id: The job's id.
        annotate: Returns an error that ended setup, with a sentence on what became of the job.

    Returns:
        The current launch of the id.

    Raises:
        JobFailed: Setup raised; its exception is the `__cause__`.
        JobConflict: Another job has this id.
    """
    errors: list[BaseException] = []
    # A separate runtime, so that `errors` has the exceptions of this setup only.
    own = Runtime(
        runtime.store,
        runtime.config,
        runtime.dispatcher,
        tasks=runtime.tasks,
        on_error=errors.append,
        # An event loop that stops reading a stream cancels it.
        is_stop=lambda error: isinstance(error, KeyboardInterrupt | CancelledError),
        access=Access.of_caller(runtime.config),
        telemetry=runtime.telemetry,
    )
    job, is_new = create_job(own, job_id, submission.intent(now=runtime.now))
    if not is_new and _is_set_up(own, job):
        return job.launch_id
    try:
        run_setup(own, job_id, launch_id=job.launch_id, caller_parameters=submission.caller_parameters, fresh=is_new)
    except BaseException as error:
        raise annotate(error, _give_up(job, error)) from error.__cause__
    if errors:
        outcome = job.ledger.outcome()
        if outcome is not None and outcome.failure is not None:
            raise outcome.error(job_id) from errors[0]
    return job.launch_id


def _give_up(job: CachedJob, error: BaseException) -> str:
    """End the job, since this caller stops: it sees its launch fail, and will launch again.

    Workers then stop, and the id can be used again. If the store does not take the outcome, a sweep writes it later.

    Returns:
        What became of the job, for the caller.
    """
    is_stopped = not isinstance(error, Exception)
    failure = Failure("setup", CALLER_STOPPED, f"its caller stopped while it was launched: {type(error).__name__}")
    try:
        outcome, is_ours = end_job(job, OutcomeStatus.CANCELLED if is_stopped else OutcomeStatus.FAILED, failure)
    except StorageError as failed:
        return f"job {job.id} could not be ended either ({failed}): a sweep continues it, or ends it as CallerLost"
    if not is_ours:
        return f"job {job.id} had {outcome.status} before"
    return f"job {job.id} was ended, and never runs: submit it again, under the same job_id if you chose it"


def _is_set_up(runtime: Runtime, job: CachedJob) -> bool:
    """Return whether a job that was launched before has its input, or another caller is storing it."""
    if job.ledger.has_outcome() or job.manifest() is not None:
        return True
    seen_at = max(job.ledger.last_heartbeat("setup") or 0.0, job.ledger.launched_at())
    return runtime.now() - seen_at < runtime.config.stall_s
