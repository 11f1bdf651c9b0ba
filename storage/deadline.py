"""How long a call may take: one limit over all that it tries.

Without a word from the caller a call to an S3 store ends after a minute, plus a second for each MiB that it moves
(`Limits`). A caller with less time says so:

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
    """How long things may take where the caller sets no limit.

    Attributes:
        call_s: A call, over all attempts and both clients.
        mib_s: What is added to that for each MiB of a body: a line of 1 MiB/s will do.
        answer_s: One attempt at a small request.
        connect_s: To connect to a server, the handshake included.
        reach_s: Until a server that cannot be reached at all is given up.
        pause_s: The most that is waited before the second attempt; twice that before the next, and so on.
        pauses_end_s: The most that is waited before any attempt.
    """

    call_s: float = 60.0
    mib_s: float = 1.0
    answer_s: float = 25.0
    connect_s: float = 4.0
    reach_s: float = 10.0
    pause_s: float = 0.5
    pauses_end_s: float = 12.0


LIMITS = Limits()
"""What holds in this process; a test may put shorter ones here."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When something has to end.

    Attributes:
        ends_at: By `time.monotonic()`.
        timeout_s: What whoever set it said, for messages.
    """

    ends_at: float
    timeout_s: float


_DEADLINE: ContextVar[Deadline | None] = ContextVar("storage_deadline", default=None)
# When the call began that another client is asked to finish.
_BEGAN_AT: ContextVar[float | None] = ContextVar("storage_call_began_at", default=None)


@contextmanager
def within(timeout_s: float | None) -> Iterator[None]:
    """Let each call to a store that is made inside end by then, with `StorageUnavailable` if need be.

    Nested ones take the sooner. It holds in this thread and task (a context variable), for each page of a listing
    that is fetched inside, and for the making of clients; stores in memory and in a directory do not heed it. A
    write that is given up may still happen, as one whose answer was lost.

    Args:
        timeout_s: Seconds from now; None sets no limit.
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
    """Return how many seconds `within` leaves, 0 at the least; None if it sets no limit here."""
    deadline = _DEADLINE.get()
    return None if deadline is None else max(0.0, deadline.ends_at - time.monotonic())


def is_limited() -> bool:
    """Return whether a caller has set a limit."""
    return _DEADLINE.get() is not None


@contextmanager
def begun_at(began_at: float) -> Iterator[None]:
    """Count what is called inside as part of a call that began then (by `time.monotonic()`)."""
    token = _BEGAN_AT.set(began_at)
    try:
        yield
    finally:
        _BEGAN_AT.reset(token)


class CallLimit:
    """When one call has to end: by the default limit, which grows with the body, or by the caller's if that is sooner.

    Args:
        size_bytes: Of the body, as far as it is known.
    """

    __slots__ = ("_asked", "_own", "began_at")

    def __init__(self, size_bytes: int = 0) -> None:
        self.began_at = _BEGAN_AT.get() or time.monotonic()
        self._asked = _DEADLINE.get()
        self.allow(size_bytes)

    def allow(self, size_bytes: int) -> None:
        """Allow for a body of that size."""
        limits = LIMITS
        timeout_s = limits.call_s + limits.mib_s * size_bytes / _MIB
        self._own = Deadline(self.began_at + timeout_s, timeout_s)

    @property
    def deadline(self) -> Deadline:
        """The sooner of the two."""
        asked = self._asked
        return asked if asked is not None and asked.ends_at < self._own.ends_at else self._own

    @property
    def remaining_s(self) -> float:
        """Seconds left, 0 at the least."""
        return max(0.0, self.deadline.ends_at - time.monotonic())
