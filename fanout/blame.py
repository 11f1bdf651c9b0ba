"""Who is to blame for an error that ended a stage: the step, or something else that will pass. One list for all."""

from __future__ import annotations

from storage import StorageError

from .errors import BrokerUnavailable


def is_transient(error: BaseException) -> bool:
    """Whether store or broker are to blame, so that the stage should run again later; else the job has to fail.

    What can't travel, is damaged or is gone will be so the next time, and nobody installs a package meanwhile. A store
    that denies is like one that does not answer: a token is renewed, a policy is mended. See `StorageError.transient`.
    """
    return isinstance(error, BrokerUnavailable) or (isinstance(error, StorageError) and error.transient)
