"""The removal of a job whose launch has failed, since its caller will launch again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from storage import StorageError

from ....cached_job import CachedJob
from ....logs import fields_of
from ...job_creation import withdraw
from .publish import PublishFailed

_LOG = logging.getLogger(__name__)


@contextmanager
def undo_unless_sent(job: CachedJob, *, is_new: bool) -> Iterator[None]:
    """Undo a job's launch if its message cannot be sent within this block, so that the job never runs.

    If the message got through all the same, and a worker has begun, the launch has succeeded, and no error is raised.
    Any error that is raised says what became of the job.

    Args:
        job: The job, whose intent is written.
        is_new: Whether this process has created it. A job that was launched before is not undone.

    Raises:
        PublishFailed: The message could not be sent.
    """
    try:
        yield
    except BaseException as error:
        existing = f"job {job.id} had been launched before: it still exists, and runs with the next sweep"
        is_undone, fate = _undo(job) if is_new else (None, existing)
        if is_undone is False and isinstance(error, PublishFailed):
            text = "job %s: was launched, although its message was not confirmed: %s"
            _LOG.warning(text, job.id, error, extra=fields_of(job.id))
            return
        raise annotate(error, fate) from error.__cause__


def _undo(job: CachedJob) -> tuple[bool | None, str]:
    """Undo a launch. Return whether it is undone (None: unknown), and what that means for the caller."""
    try:
        if withdraw(job):
            return True, f"job {job.id} was not launched, and never runs: launch it again"
        return False, f"job {job.id} was launched, and runs"
    except StorageError as failed:
        return None, (
            f"job {job.id} exists and may run, since the store does not answer either ({failed}): launch it again "
            "under the same id, which makes one job of both, or look at it with attach"
        )


def annotate(error: BaseException, fate: str) -> BaseException:
    """Return the error with a note on what became of the job."""
    if isinstance(error, PublishFailed):
        return type(error)(f"{error}; {fate}")
    error.add_note(fate)
    return error
