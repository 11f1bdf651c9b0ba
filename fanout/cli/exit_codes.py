"""Exit statuses of the command, and the sentence and the status of each error."""

from __future__ import annotations

from enum import IntEnum

from storage import CorruptObject, ObjectNotFound, StorageError

from ..errors import (
    BrokerUnavailable,
    FanoutError,
    JobConflict,
    JobFailed,
    JobNotFound,
    JobTimeout,
    RetryRefused,
)
from ..memory import MemoryLimitExceeded


class ExitCode(IntEnum):
    """The exit status of a command. Scripts rely on the numbers."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    TIMEOUT = 4
    UNAVAILABLE = 5
    REFUSED = 6
    DEFECT = 70
    INTERRUPTED = 130


_CODES: dict[type[Exception], ExitCode] = {
    JobFailed: ExitCode.FAILED,
    JobNotFound: ExitCode.NOT_FOUND,
    ObjectNotFound: ExitCode.NOT_FOUND,
    JobTimeout: ExitCode.TIMEOUT,
    BrokerUnavailable: ExitCode.UNAVAILABLE,
    CorruptObject: ExitCode.UNAVAILABLE,
    JobConflict: ExitCode.REFUSED,
    MemoryLimitExceeded: ExitCode.REFUSED,
    RetryRefused: ExitCode.REFUSED,
    FanoutError: ExitCode.USAGE,
}
"""Kind of an error -> the exit status. The first kind that fits counts."""


def exit_code_of(error: Exception) -> ExitCode:
    """Return the exit status of an error. An error that fanout does not raise on purpose is a defect."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    if isinstance(error, StorageError):
        # An error that the same call may outlive is the store's; any other one is about the given value or URL.
        return ExitCode.UNAVAILABLE if error.transient or isinstance(error, NotImplementedError) else ExitCode.USAGE
    return ExitCode.DEFECT


def describe(error: Exception) -> str:
    """Return an error in a sentence, with the remedy, and without a worker's traceback."""
    if isinstance(error, JobFailed):
        text = without_traceback(error)
        return f"{text}. --debug shows the traceback of the step" if error.traceback_text else text
    if exit_code_of(error) is ExitCode.DEFECT:
        reason = f"{type(error).__name__}: {error}"
        return f"an error that fanout does not expect: {reason}. Run it with --debug, and report the traceback"
    return str(error)


def without_traceback(error: JobFailed) -> str:
    """Return the failure of a job in a sentence, without a worker's traceback."""
    job_id, task, step, reason, chunk, item, attempts, _ = error.args
    return str(JobFailed(job_id, task, step, reason, chunk, item, attempts))
