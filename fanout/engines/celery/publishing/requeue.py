"""What a stage does with its own message when the broker takes none: back with it, after a pause."""

from __future__ import annotations

import logging
import random
import time

from celery.exceptions import Ignore, Reject

from ....errors import BrokerUnavailable
from .publish import BrokerRefuses

_LOG = logging.getLogger("fanout")

PAUSE_S = 5.0
"""Longest pause before a stage's message goes back; the shortest is a fifth of it. Without one, a broker that refuses
would deliver it as fast as it can."""


def requeued(name: str, *, redelivered: bool, may_drop: bool, error: BrokerUnavailable) -> Exception:
    """Wait a little, and return the exception that gives a stage's message back to the broker.

    A message that the broker takes back lies at the head of its queue. Where the queue is full, and all who take from
    it wait for room in it, they would take the same messages for ever. So a message that comes back and meets a full
    queue again is dropped, and the next sweep sends what is missing.

    Args:
        name: The stage's task, for the log.
        redelivered: Whether the message has been given back before.
        may_drop: Whether a sweep can do the stage's work as well.
        error: Why the stage could not send.
    """
    if may_drop and redelivered and isinstance(error, BrokerRefuses):
        _LOG.error("%s: its message is dropped, a sweep goes on with the job: %s", name, error)
        return Ignore(str(error))
    pause_s = random.uniform(PAUSE_S / 5, PAUSE_S)  # noqa: S311
    _LOG.warning("%s: its message goes back to the broker in %.1f s: %s", name, pause_s, error)
    time.sleep(pause_s)
    return Reject(str(error), requeue=True)
