"""Deadlines of calls to a store: one limit over all that a call tries.

A call to an S3 store ends after a minute, plus a second for each MiB that it moves (`Limits`). A caller with less time
sets a limit of its own:

    with within(3.0):
        store.get(key)      # raises StorageUnavailable after 3 s, whatever the server does
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits that hold where the caller sets none, in seconds.

    Attributes:
        call_s: For a call, over all attempts and both clients.
        mib_s: Added to `call_s` for each MiB of a body. A line of 1 MiB/s is fast enough.
        answer_s: For one attempt at a small request.
        connect_s: For connecting to a server, the handshake included.
        reach_s: Until a server that accepts no connection is given up.
        pause_s: Longest pause before the second attempt. It doubles before each further attempt.
        pauses_end_s: Longest pause before any attempt.
    """

    call_s: float = 60.0
    mib_s: float = 1.0
    answer_s: float = 25.0
    connect_s: float = 4.0
    reach_s: float = 10.0
    pause_s: float = 0.5
    pauses_end_s: float = 12.0


LIMITS = Limits()
"""The limits of this process; a test may replace them by shorter ones."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment at which a call has to end.

    Attributes:
        ends_at: The moment, by `time.monotonic()`.
        timeout_s: The timeout that set it, for messages.
    """

    ends_at: float
    timeout_s: float


_DEADLINE: ContextVar[Deadline | None] = ContextVar("storage_deadline", default=None)
# The beginning of a call that one client hands on to another.
_BEGAN_AT: ContextVar[float | None] = ContextVar("storage_call_began_at", default=None)


@contextmanager
def within(timeout_s: float | None) -> Iterator[None]:
    """Make each call to a store inside the block end in time, with `StorageUnavailable` if need be.

    Of nested limits the sooner counts. A limit holds in this thread and task (it is a context variable), for each page
    of a listing that is fetched inside, and while a client is made. Stores in memory and in a directory ignore it. A
    write that was given up may still happen, like one whose answer was lost.

    Args:
        timeout_s: Seconds from now. None sets no limit.
    """
    if timeout_s is None:
        yield
        return
    outer = _DEADLINE.get()
    own = Deadline(time.monotonic() + timeout_s, timeout_s)
    token = _DEADLINE.set(own if outer is None or own.ends_at < outer.ends_at else outer)
    try:
        yield
    finally:
        _DEADLINE.reset(token)


def remaining_s() -> float | None:
    """Return how many seconds `within` leaves, at least 0, or None if it sets no limit here."""
    deadline = _DEADLINE.get()
    return None if deadline is None else max(0.0, deadline.ends_at - time.monotonic())


def is_limited() -> bool:
    """Return whether a caller has set a limit."""
    return _DEADLINE.get() is not None


@contextmanager
def count_from(began_at: float) -> Iterator[None]:
    """Count each call inside the block as part of a call that began at this moment (by `time.monotonic()`)."""
    token = _BEGAN_AT.set(began_at)
    try:
        yield
    finally:
        _BEGAN_AT.reset(token)


class CallLimit:
    """The limit of one call: the default, which grows with the body, or the caller's if that is sooner.

    Args:
        size_bytes: Size of the body, as far as it is known.
    """

    __slots__ = ("_callers", "_own", "began_at")

    def __init__(self, size_bytes: int = 0) -> None:
        self.began_at = _BEGAN_AT.get() or time.monotonic()
        self._callers = _DEADLINE.get()
        self.allow(size_bytes)

    def allow(self, size_bytes: int) -> None:
        """Extend the default limit to what a body of this size may take."""
        limits = LIMITS
        timeout_s = limits.call_s + limits.mib_s * size_bytes / _MIB
        self._own = Deadline(self.began_at + timeout_s, timeout_s)

    @property
    def deadline(self) -> Deadline:
        """The sooner of the default deadline and the caller's."""
        callers = self._callers
        return callers if callers is not None and callers.ends_at < self._own.ends_at else self._own

    @property
    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.deadline.ends_at - time.monotonic())
