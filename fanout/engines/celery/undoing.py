"""A launch that fails leaves no job behind: whoever sees it fail will try again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from ..._storage import StorageError
from ...errors import JobNotFound
from ...runtime import Runtime
from ..launch import take_back
from .offering import BrokerUnavailable

_LOG = logging.getLogger("fanout")


@contextmanager
def undone_unless_sent(runtime: Runtime, job_id: str, *, first: bool) -> Iterator[None]:
    """Within it a job's message is sent. If that fails, the job is taken off the record, so that it never runs.

    Unless its message got through all the same, and a worker has begun: then the launch has succeeded. The error that
    is raised says what became of the job.

    Args:
        runtime: The store.
        job_id: The job, which is on record.
        first: Whether this process has put it there. A job that was launched before stays on record.

    Raises:
        BrokerUnavailable: The message could not be sent.
    """
    try:
        yield
    except BaseException as error:
        undone, fate = _undone(runtime, job_id) if first else _before(runtime, job_id)
        if undone is False and isinstance(error, BrokerUnavailable):
            _LOG.warning("job %s: was launched, though its message was not confirmed: %s", job_id, error)
            return
        raise _told(error, fate) from error.__cause__


@contextmanager
def removed_unless_set_up(runtime: Runtime, job_id: str, *, first: bool) -> Iterator[None]:
    """Within it a job is set up in the process that launches it. If that fails, nothing is left of the job.

    Its input was in this process and is spent, so that nobody could go on with it. What was sent of it is dropped.

    Args:
        runtime: The store.
        job_id: The job, which is on record.
        first: Whether this process has put it there.
    """
    try:
        yield
    except BaseException as error:
        if not first:
            raise
        try:
            runtime.forget(job_id)
            if runtime.ledger(job_id).has_outcome():
                raise
            runtime.ledger(job_id).remove()
        except StorageError as failed:
            fate = f"job {job_id} could not be removed either ({failed}): a sweep ends it as failed (CallerLost)"
        else:
            fate = f"job {job_id} was removed: submit it again, under the same job_id if it has one of yours"
        raise _told(error, fate) from error.__cause__


def _undone(runtime: Runtime, job_id: str) -> tuple[bool | None, str]:
    """Whether a launch could be undone, None if that is not known; and what that means for who launched it."""
    try:
        if take_back(runtime, job_id):
            return True, f"job {job_id} was not launched, and never runs: launch it again"
        return False, f"job {job_id} was launched, and runs"
    except JobNotFound:
        return True, f"job {job_id} was not launched, and never runs: launch it again"
    except StorageError as failed:
        return None, (
            f"job {job_id} is on record and may run, for the store does not answer either ({failed}): launch it again "
            "under the same id, which makes one job of both, or ask for it with attach"
        )


def _before(runtime: Runtime, job_id: str) -> tuple[bool | None, str]:
    """The same of a job that had been launched before, and may be somebody else's to undo."""
    try:
        runtime.ledger(job_id).intent()
    except JobNotFound:
        return True, f"job {job_id} was not launched, and never runs: launch it again"
    except StorageError:
        pass
    return None, f"job {job_id} had been launched before: it stays on record, and runs with the next sweep"


def _told(error: BaseException, fate: str) -> BaseException:
    """The error, saying what became of the job."""
    if isinstance(error, BrokerUnavailable):
        return type(error)(f"{error}; {fate}")
    error.add_note(fate)
    return error
