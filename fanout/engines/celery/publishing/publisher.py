"""Messages that RabbitMQ confirms, many at once, each by its own delivery tag."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import amqp
from kombu import Connection, Producer

from .connection import Alarm, open_amqp_connection

FULL = "is full (x-overflow = reject-publish): raise its x-max-length, or start workers that take from it"
"""Why RabbitMQ refuses a message."""

_ATTRIBUTE = "_fanout_publisher"


class NotConfirmed(TimeoutError):
    """The broker confirmed nothing for too long. It may still get the messages that were published.

    Attributes:
        blocked: Whether the broker has said that it blocks publishers.
    """

    def __init__(self, text: str, *, blocked: bool) -> None:
        super().__init__(text)
        self.blocked = blocked


class ConfirmingPublisher:
    """A channel with publisher confirms, on which messages are published without waiting for each one's confirm.

    kombu's `confirm_publish` waits for RabbitMQ after every message, which costs a round trip and a write to its disk
    each. Here the broker confirms many messages together, by their delivery tags.

    Celery publishes on this channel, too: an event after each message, with `task_send_sent_event`. It also reads
    from the connection while it publishes, so a confirm may come before the publish returns. So every message on the
    channel, Celery's own too, gets its tag at the moment when it is written.

    Use it within `bound_waits`: Celery's own requests on this channel have no limit.

    Args:
        channel: A channel of py-amqp that has no other user.

    Attributes:
        producer: A producer on the channel, for `send_task`.
        confirmed: Keys of the messages that the broker has confirmed, since `begin`.
        refused: Keys of the messages that the broker has refused -> why, since `begin`.
    """

    def __init__(self, channel: Any) -> None:
        # With `confirm_publish`, py-amqp gives the channel an attribute basic_publish that waits for each confirm.
        vars(channel).pop("basic_publish", None)
        self._publish = channel.basic_publish
        # no limit: `bound_waits` gives it one
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
        """Delivery tag -> key of the message; None for a message of Celery's own. In ascending order."""
        self._expected: tuple[str, int] | None = None
        self._keys: dict[str, int] = {}
        self._returned: dict[int, str] = {}

    @classmethod
    def of(cls, connection: Connection) -> ConfirmingPublisher | None:
        """Return the publisher of an open connection, made at first use (two round trips); None without py-amqp."""
        inner = open_amqp_connection(connection)
        if inner is None:
            return None
        publisher: ConfirmingPublisher | None = vars(inner).get(_ATTRIBUTE)
        if publisher is None or not publisher._channel.is_open:
            publisher = cls(inner.channel())
            setattr(inner, _ATTRIBUTE, publisher)
        return publisher

    @property
    def blocked(self) -> bool:
        """Whether the broker has blocked publishers, for want of memory or disk."""
        return self._alarm.on

    @property
    def unconfirmed(self) -> set[int]:
        """Keys of the messages that were published, and neither confirmed nor refused yet."""
        return {key for key in self._open.values() if key is not None}

    def begin(self) -> None:
        """Forget the messages so far, so that their keys can be used again."""
        self.confirmed.clear()
        self.refused.clear()
        self._returned.clear()
        self._keys.clear()
        self._open = dict.fromkeys(self._open)

    def publish(self, key: int, task_id: str, send: Callable[[Producer], object]) -> None:
        """Publish a message without waiting for its confirm.

        Args:
            key: The message's key in `confirmed`, `refused` and `unconfirmed`.
            task_id: Its Celery task id, which tells it from other messages on the channel.
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
        """Wait until the broker has confirmed or refused every message that was published.

        Args:
            timeout_s: Longest time without any confirm.
            blocked_s: The same while the broker blocks publishers; `timeout_s` if not given.

        Raises:
            NotConfirmed: That time has passed.
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
            # Not with RabbitMQ's delayed-message plugin, which returns every mandatory message.
            options["mandatory"] = "x-delay" not in (message.properties.get("application_headers") or {})
        # Before the message is written, since its confirm may come at once.
        self._open[self._last_tag] = key
        return self._publish(message, *args, **options)

    def _close(self, tag: int, multiple: bool) -> list[int]:
        """Remove the messages that a confirm is about from the open ones, and return the keys of ours."""
        tags = [each for each in self._open if each <= tag] if multiple else [tag]
        keys = [self._open.pop(each, None) for each in tags]
        return [key for key in keys if key is not None]

    def _on_ack(self, tag: int, multiple: bool) -> None:
        for key in self._close(tag, multiple):
            if key in self._returned:
                self.refused[key] = self._returned.pop(key)
            else:
                self.confirmed.add(key)

    def _on_nack(self, tag: int, multiple: bool) -> None:
        for key in self._close(tag, multiple):
            self.refused[key] = FULL

    def _on_return(self, error: Exception, exchange: str, routing_key: str, message: amqp.Message) -> None:
        # RabbitMQ returns a message that it cannot route, and then confirms it.
        for task_id in _ids_of(message):
            if task_id in self._keys:
                self._returned[self._keys[task_id]] = (
                    f"does not exist: no queue is bound to exchange {exchange!r} with routing key {routing_key!r}"
                )


def _ids_of(message: amqp.Message) -> tuple[Any, Any]:
    """Return a message's two task ids. Celery writes it twice, and handlers of its signals may change either."""
    properties = message.properties
    return properties.get("correlation_id"), (properties.get("application_headers") or {}).get("id")
