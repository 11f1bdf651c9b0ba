"""Many messages at once, confirmed by RabbitMQ together instead of one by one."""

from __future__ import annotations

from typing import Any

from kombu import Connection, Producer

WIDTH = 256
"""Messages that may be on their way unconfirmed."""


class Refused(Exception):
    """The broker did not take a message."""


class Wave:
    """A channel of its own, on which messages are published without waiting for each to be confirmed.

    To wait for RabbitMQ after every message, as `confirm_publish` does, costs a round trip and a write to its disk
    each. Here at most 256 are unconfirmed at any time, and `settle` waits for the rest. What was not confirmed when
    something fails is known, and may be sent again.

    Args:
        connection: A connection of kombu's to RabbitMQ, with `confirm_publish`.
    """

    def __init__(self, connection: Connection) -> None:
        channel: Any = connection.channel()
        # With `confirm_publish` each channel has a basic_publish of its own, which waits; below it lies the plain one.
        vars(channel).pop("basic_publish", None)
        channel.confirm_select()
        channel.events["basic_ack"].add(self._settled)
        channel.events["basic_nack"].add(self._nacked)
        self._channel = channel
        self.producer = Producer(channel)
        self._sent = 0
        self._open: dict[int, int] = {}
        self._nacks = 0

    def sent(self, index: int) -> None:
        """Note that the `index`-th message has just been published; waits while too many are unconfirmed.

        Raises:
            Refused: The broker refused a message.
        """
        self._sent += 1
        self._open[self._sent] = index
        while len(self._open) >= WIDTH:
            self._wait()

    def settle(self) -> None:
        """Wait until everything is confirmed.

        Raises:
            Refused: The broker refused a message.
        """
        while self._open:
            self._wait()

    @property
    def unconfirmed(self) -> set[int]:
        """Indices of the messages that were published, and may have been lost."""
        return set(self._open.values())

    def close(self) -> None:
        self._channel.close()

    def _wait(self) -> None:
        self._channel.connection.drain_events()
        if self._nacks:
            raise Refused("the broker refused a message")

    def _settled(self, tag: int, multiple: bool) -> None:
        for settled in [open_tag for open_tag in self._open if open_tag <= tag] if multiple else [tag]:
            self._open.pop(settled, None)

    def _nacked(self, tag: int, multiple: bool) -> None:
        self._nacks += 1


def is_confirmed(connection: Connection) -> bool:
    """Whether messages on this connection are confirmed by RabbitMQ, one by one."""
    options = connection.transport_options or {}
    return connection.transport.driver_type == "amqp" and bool(options.get("confirm_publish"))
