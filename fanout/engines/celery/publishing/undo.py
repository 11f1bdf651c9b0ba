"""A launch that fails leaves no job behind: whoever sees it fail will try again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from storage import StorageError

from ....runtime import CachedJob
from ...submission import take_back
from .publish import PublishFailed

_LOG = logging.getLogger("fanout")


@contextmanager
def undone_unless_sent(job: CachedJob, *, first: bool) -> Iterator[None]:
    """Within it a job's message is sent. If that fails, the job is taken off the record, so that it never runs.

    Unless its message got through all the same, and a worker has begun: then the launch has succeeded. The error that
    is raised says what became of the job.

    Args:
        job: The job, which is on record.
        first: Whether this process has put it there. A job that was launched before stays on record.

    Raises:
        PublishFailed: The message could not be sent.
    """
    try:
        yield
    except BaseException as error:
        before = f"job {job.id} had been launched before: it stays on record, and runs with the next sweep"
        undone, fate = _undone(job) if first else (None, before)
        if undone is False and isinstance(error, PublishFailed):
            _LOG.warning("job %s: was launched, though its message was not confirmed: %s", job.id, error)
            return
        raise told(error, fate) from error.__cause__


def _undone(job: CachedJob) -> tuple[bool | None, str]:
    """Whether a launch could be undone, None if that is not known; and what that means for who launched it."""
    try:
        if take_back(job):
            return True, f"job {job.id} was not launched, and never runs: launch it again"
        return False, f"job {job.id} was launched, and runs"
    except StorageError as failed:
        return None, (
            f"job {job.id} is on record and may run, for the store does not answer either ({failed}): launch it again "
            "under the same id, which makes one job of both, or ask for it with attach"
        )


def told(error: BaseException, fate: str) -> BaseException:
    """The error, saying what became of the job."""
    if isinstance(error, PublishFailed):
        return type(error)(f"{error}; {fate}")
    error.add_note(fate)
    return error
