"""Limits for every wait on a connection to RabbitMQ, and the state of the broker's alarm."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import amqp
from kombu import Connection

REDECLARED: dict[str, Any] = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0, "interval_max": 0.0}
"""Retry policy with which Celery may declare a queue anew by itself. Its own default is for ever."""


def open_amqp_connection(connection: Connection) -> amqp.Connection | None:
    """Return py-amqp's open connection below one of kombu's, or None for another transport. Opens it if needed."""
    inner = connection.connection
    return inner if isinstance(inner, amqp.Connection) else None


@contextmanager
def bound_waits(connection: Connection, *, limit_s: float) -> Iterator[None]:
    """Let no read or write on this connection wait longer than `limit_s`; then `TimeoutError` is raised.

    py-amqp waits without a limit for the answer to all that it asks: a channel, a declaration, the end of a channel. A
    heartbeat of the broker also restarts a limit that a caller has given. Nothing changes for another transport.

    Args:
        connection: An open connection that no other thread uses meanwhile.
        limit_s: Seconds for one read or write.
    """
    inner: Any = open_amqp_connection(connection)
    if inner is None:
        yield
        return

    def drain_events(timeout: float | None = None) -> None:
        ends_at = time.monotonic() + (limit_s if timeout is None else timeout)
        while not inner.blocking_read(max(ends_at - time.monotonic(), 0.0)):
            if timeout != 0 and time.monotonic() >= ends_at:
                raise TimeoutError(f"the broker was silent for {limit_s if timeout is None else timeout:g} s")

    before_s = inner.sock.gettimeout()
    inner.sock.settimeout(limit_s)
    inner.drain_events = drain_events
    outer: Any = connection
    outer.ensure = partial(type(connection).ensure, connection, **REDECLARED)
    try:
        yield
    finally:
        del inner.drain_events, outer.ensure
        if inner.connected:
            inner.sock.settimeout(before_s)


class Alarm:
    """The state of RabbitMQ's alarm: whether it has blocked publishers on a connection, for want of memory or disk.

    RabbitMQ says so once, at the connection's first message. It reads nothing more until the alarm is over.

    Args:
        connection: The connection of py-amqp.

    Attributes:
        on: Whether publishers are blocked, as of the last frame that was read.
    """

    def __init__(self, connection: Any) -> None:
        self.on = False
        self._previous = connection.on_blocked, connection.on_unblocked
        connection.on_blocked = self._blocked
        connection.on_unblocked = self._unblocked

    def _blocked(self, reason: str) -> None:
        self.on = True
        if self._previous[0]:
            self._previous[0](reason)

    def _unblocked(self) -> None:
        self.on = False
        if self._previous[1]:
            self._previous[1]()
