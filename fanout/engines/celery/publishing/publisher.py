"""Messages that RabbitMQ confirms, many at once, each by its own delivery tag."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import amqp
from kombu import Connection, Producer

from .connection import Alarm, amqp_connection

FULL = "is full (x-overflow = reject-publish): raise its x-max-length, or start workers that take from it"
"""Why RabbitMQ refuses a message."""

_ATTRIBUTE = "_fanout_publisher"


class NotConfirmed(TimeoutError):
    """The broker confirmed nothing for too long. What was published may have got through, or may yet.

    Attributes:
        blocked: Whether the broker has said that it blocks publishers.
    """

    def __init__(self, text: str, *, blocked: bool) -> None:
        super().__init__(text)
        self.blocked = blocked


class ConfirmingPublisher:
    """A channel with publisher confirms, on which messages are published without waiting for each.

    To wait for RabbitMQ after every message, as kombu's `confirm_publish` does, costs a round trip and a write to its
    disk each. Here the broker confirms them together, by the number that each message has on its channel, the delivery
    tag. Celery publishes on this channel, too: an event after each message, with `task_send_sent_event`. And it reads
    from the connection while it publishes, so that a confirmation may come before the publish returns. So each message
    gets its tag at the very moment when it is written, whose ever it is.

    Use it with `bounded`: what Celery asks on this channel has no limit of its own.

    Args:
        channel: A channel of py-amqp's, of its own.

    Attributes:
        producer: Publishes on the channel; for `send_task`.
        confirmed: Keys of the messages that the broker has taken, since `begin`.
        refused: Keys of those that it did not take -> why, since `begin`.
    """

    def __init__(self, channel: Any) -> None:
        # With `confirm_publish` each channel has a basic_publish of its own, which waits; below it lies the plain one.
        vars(channel).pop("basic_publish", None)
        self._publish = channel.basic_publish
        # no limit: `bounded` gives it one
        channel.confirm_select()
        channel.basic_publish = self._publish_numbered
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)
        self._channel = channel
        self._alarm = Alarm(channel.connection)
        self.producer = Producer(channel)
        self.confirmed: set[int] = set()
        self.refused: dict[int, str] = {}
        self._last_tag = 0
        self._open: dict[int, int | None] = {}
        """Delivery tag -> key of the message; None for one of somebody else's. In ascending order."""
        self._expected: tuple[str, int] | None = None
        self._keys: dict[str, int] = {}
        self._returned: dict[int, str] = {}

    @classmethod
    def of(cls, connection: Connection) -> ConfirmingPublisher | None:
        """The one of an open connection, made at first use (two round trips); None if it is none of py-amqp's."""
        inner = amqp_connection(connection)
        if inner is None:
            return None
        found: ConfirmingPublisher | None = vars(inner).get(_ATTRIBUTE)
        if found is None or not found._channel.is_open:
            found = cls(inner.channel())
            setattr(inner, _ATTRIBUTE, found)
        return found

    @property
    def blocked(self) -> bool:
        """Whether the broker has blocked publishers, for want of memory or disk."""
        return self._alarm.on

    @property
    def unconfirmed(self) -> set[int]:
        """Keys of the messages that were published, and of which the broker has said nothing yet."""
        return {key for key in self._open.values() if key is not None}

    def begin(self) -> None:
        """Forget the messages so far: keys may be used again."""
        self.confirmed.clear()
        self.refused.clear()
        self._returned.clear()
        self._keys.clear()
        self._open = dict.fromkeys(self._open)

    def publish(self, key: int, task_id: str, send: Callable[[Producer], object]) -> None:
        """Publish a message. Does not wait for its confirmation.

        Args:
            key: What it is called in `confirmed`, `refused` and `unconfirmed`.
            task_id: Its Celery task id, by which it is told from whatever else is published meanwhile.
            send: Publishes it with the producer that it is given.

        Raises:
            OSError: The connection was lost, or the broker was silent.
            amqp.AMQPError: The broker refuses what Celery declares or publishes.
        """
        self._expected = task_id, key
        try:
            send(self.producer)
            if self._expected is not None:
                raise RuntimeError(f"the message of task {task_id} was not published: does a signal handler change it?")
        finally:
            self._expected = None

    def wait_for_confirms(self, timeout_s: float, *, blocked_s: float | None = None) -> None:
        """Wait until the broker has confirmed or refused everything that was published.

        Args:
            timeout_s: Longest time without any confirmation.
            blocked_s: The same while the broker blocks publishers; `timeout_s` if not given.

        Raises:
            NotConfirmed: It passed.
            OSError: The connection was lost.
        """
        confirmed_at, left = time.monotonic(), len(self._open)
        while self.unconfirmed:
            if len(self._open) < left:
                confirmed_at, left = time.monotonic(), len(self._open)
            limit_s = blocked_s if self.blocked and blocked_s is not None else timeout_s
            left_s = confirmed_at + limit_s - time.monotonic()
            if left_s <= 0:
                raise self._not_confirmed(limit_s)
            with suppress(TimeoutError):
                self._channel.connection.drain_events(timeout=left_s)

    def _not_confirmed(self, timeout_s: float) -> NotConfirmed:
        if self.blocked:
            return NotConfirmed(
                "RabbitMQ has blocked publishers (a memory or disk alarm: see `rabbitmq-diagnostics alarms`)",
                blocked=True,
            )
        return NotConfirmed(f"the broker confirmed nothing within {timeout_s:.1f} s", blocked=False)

    def _publish_numbered(self, message: amqp.Message, *args: Any, **options: Any) -> Any:
        self._last_tag += 1
        key: int | None = None
        if self._expected is not None and self._expected[0] in _ids_of(message):
            task_id, key = self._expected
            self._expected = None
            self._keys[task_id] = key
            # Not for RabbitMQ's plugin that delays messages: it returns them all.
            options["mandatory"] = "x-delay" not in (message.properties.get("application_headers") or {})
        # On record before it is written: no confirmation can come earlier.
        self._open[self._last_tag] = key
        return self._publish(message, *args, **options)

    def _settled(self, tag: int, multiple: bool) -> list[int]:
        """Take what a confirmation is about off the record; the keys of ours among it."""
        tags = [each for each in self._open if each <= tag] if multiple else [tag]
        keys = [self._open.pop(each, None) for each in tags]
        return [key for key in keys if key is not None]

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for key in self._settled(tag, multiple):
            if key in self._returned:
                self.refused[key] = self._returned.pop(key)
            else:
                self.confirmed.add(key)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for key in self._settled(tag, multiple):
            self.refused[key] = FULL

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: amqp.Message) -> None:
        # RabbitMQ returns a message that no queue takes before it confirms it.
        for task_id in _ids_of(message):
            if task_id in self._keys:
                self._returned[self._keys[task_id]] = (
                    f"does not exist: no queue is bound to exchange {exchange!r} with routing key {routing_key!r}"
                )


def _ids_of(message: amqp.Message) -> tuple[Any, Any]:
    """What tells which task a message is for: Celery says it twice, and handlers of its signals may change either."""
    properties = message.properties
    return properties.get("correlation_id"), (properties.get("application_headers") or {}).get("id")
