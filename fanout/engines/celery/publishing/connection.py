"""A connection to RabbitMQ on which nothing waits without a limit, and an alarm of the broker is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import amqp
from kombu import Connection

REDECLARED: dict[str, Any] = {"max_retries": 1, "interval_start": 0.0, "interval_step": 0.0, "interval_max": 0.0}
"""How often Celery may declare a queue anew by itself; its own default is for ever."""


def amqp_connection(connection: Connection) -> amqp.Connection | None:
    """The open connection of py-amqp below one of kombu's; None for another transport. Opens it if need be."""
    found = connection.connection
    return found if isinstance(found, amqp.Connection) else None


@contextmanager
def bounded(connection: Connection, *, limit_s: float) -> Iterator[None]:
    """Let no read or write on this connection wait longer than `limit_s`; raise `TimeoutError` then.

    py-amqp waits without a limit for the answer to whatever it asks: a channel, a declaration, the end of a channel.
    And a heartbeat of the broker starts a limit anew that a caller has given. Nothing changes for another transport.

    Args:
        connection: An open connection that nobody else uses meanwhile.
        limit_s: Seconds for one read or write.
    """
    inner: Any = amqp_connection(connection)
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
    """Whether RabbitMQ has blocked those who publish on a connection, for want of memory or disk.

    It says so once, when it is first published to, and reads nothing more until the alarm is over.

    Attributes:
        on: Whether it has, as of the last frame that was read.
    """

    def __init__(self, connection: Any) -> None:
        self.on = False
        self._others = connection.on_blocked, connection.on_unblocked
        connection.on_blocked = self._blocked
        connection.on_unblocked = self._unblocked

    def _blocked(self, reason: str) -> None:
        self.on = True
        if self._others[0]:
            self._others[0](reason)

    def _unblocked(self) -> None:
        self.on = False
        if self._others[1]:
            self._others[1]()
