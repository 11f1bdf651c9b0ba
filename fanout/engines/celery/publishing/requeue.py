"""The return of a stage's own message to the broker, for a stage that cannot publish."""

from __future__ import annotations

import logging
import random
import time

from celery.exceptions import Ignore, Reject

from ....errors import BrokerUnavailable
from .publish import BrokerRefuses

_LOG = logging.getLogger(__name__)

PAUSE_S = 5.0
"""Longest pause before a stage returns its message. The shortest is a fifth of it. Without a pause, a broker that
refuses messages would redeliver this one as fast as it can."""


def requeue(name: str, *, redelivered: bool, may_drop: bool, error: BrokerUnavailable) -> Exception:
    """Pause, and return the exception that gives a stage's message back to the broker.

    The broker puts a returned message at the head of its queue. If the queue is full, and all its workers wait for room
    in it, they would take the same messages for ever. So a message that was redelivered and meets a full queue again is
    dropped, and the next sweep sends what is missing.

    Args:
        name: The stage's task, for the log.
        redelivered: Whether the message was returned before.
        may_drop: Whether a sweep can do the stage's work as well.
        error: Why the stage could not publish.

    Returns:
        `Reject` to return the message, or `Ignore` to drop it.
    """
    if may_drop and redelivered and isinstance(error, BrokerRefuses):
        _LOG.error("%s: its message is dropped, a sweep continues the job: %s", name, error)
        return Ignore(str(error))
    pause_s = random.uniform(PAUSE_S / 5, PAUSE_S)  # noqa: S311
    _LOG.warning("%s: its message goes back to the broker in %.1f s: %s", name, pause_s, error)
    time.sleep(pause_s)
    return Reject(str(error), requeue=True)
