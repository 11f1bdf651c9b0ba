"""Messages are offered to a broker for a limited time, and told whether it took them."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.exceptions import LimitExceeded, OperationalError

from ....errors import BrokerUnavailable
from ....records.failure import redact
from .connection import bounded
from .publisher import ConfirmingPublisher, NotConfirmed

_LOG = logging.getLogger("fanout")

WIDTH = 256
"""Messages that may be on their way unconfirmed."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Pauses between two offers of a message that was not taken, which grow from the one to the other."""

CONNECT_S = 4.0
"""Longest time for one step of a connection's making, where the app sets no limit."""

ANSWER_S = 10.0
"""Longest time for an answer of Redis, where the app sets no limit."""

ASK_S = 5.0
"""Shortest time between two looks whether messages that are refused are still needed."""

_LIMITED = "_fanout_limited"


class PublishFailed(BrokerUnavailable, OperationalError):
    """The broker did not take a message. It is the error by which kombu and Celery know that, too."""


class BrokerRefuses(PublishFailed):
    """The broker is there, but a queue is full or missing, or publishers are blocked by an alarm."""


@dataclass(frozen=True, slots=True)
class Message:
    """A Celery message that is yet to be sent.

    Attributes:
        task_id: Its Celery task id.
        name: The name of its Celery task.
        options: What it is sent with, which may say where it goes.
        send: Publishes it with the producer that it is given, without trying again.
    """

    task_id: str
    name: str
    options: Mapping[str, Any]
    send: Callable[[Producer], Any]

    def queue(self, app: Celery) -> str:
        """Where it goes, for an error."""
        routed: Any = app.amqp.router.route(dict(self.options), self.name)
        queue = routed.get("queue") or routed.get("exchange") or routed.get("routing_key")
        return str(getattr(queue, "name", queue))


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how long messages are offered while the broker takes not a single one, in seconds.

    Attributes:
        silent_s: To a broker that can't be reached or does not answer.
        refusing_s: To one whose queue is full, or that has blocked publishers.
        once: Whether a message is offered no second time.
    """

    silent_s: float
    refusing_s: float
    once: bool = False


def offer(
    app: Celery,
    messages: Sequence[Message],
    patience: Patience,
    *,
    producer: Producer | None = None,
    needless: Callable[[], bool] = lambda: False,
) -> None:
    """Send messages, and return once the broker has them all; on RabbitMQ, once it has confirmed each.

    A message that was not confirmed is offered again, after a pause, and so may arrive twice. One that RabbitMQ refused
    (its queue is full) has not arrived, and is offered again alone, in the order of `messages`.

    Args:
        app: The app.
        messages: What to send.
        patience: For how long.
        producer: One of somebody else's to send with; else one of the app's pool.
        needless: Asked every few seconds while messages are refused: whether those that are left need not be sent.

    Raises:
        PublishFailed: The broker has taken none of those that are left for so long; says why. Some may have got
            through.
        amqp.AMQPError: The broker refuses what a new try would not change, such as a queue declared otherwise.
    """
    _Offer(app, messages, patience, producer, needless).run()


class _Offer:
    """One call of `offer`."""

    def __init__(
        self,
        app: Celery,
        messages: Sequence[Message],
        patience: Patience,
        producer: Producer | None,
        needless: Callable[[], bool],
    ) -> None:
        self._app = app
        self._left = dict(enumerate(messages))
        self._patience = patience
        self._given = producer
        self._needless = needless
        self._width = WIDTH
        # When the broker last took a message, and when it last said anything of one.
        self._taken_at = self._answered_at = time.monotonic()
        self._asked_at = self._taken_at
        self._pause_s = FIRST_PAUSE_S
        self._irrecoverable = 0

    def run(self) -> None:
        while self._left:
            error = self._offered()
            if error is not None:
                self._pause(error)

    @property
    def _silent_s(self) -> float:
        """Seconds for which a silent broker is still waited for."""
        return max(self._answered_at + self._patience.silent_s - time.monotonic(), 0.0)

    @property
    def _refusing_s(self) -> float:
        """Seconds for which a broker that refuses is still waited for."""
        return max(self._taken_at + self._patience.refusing_s - time.monotonic(), 0.0)

    def _offered(self) -> PublishFailed | None:
        """Offer what is left, or as much as the broker may take; why it did not take all of that."""
        try:
            pooled = self._acquired()
        except LimitExceeded:
            limit = self._app.conf.broker_pool_limit
            return PublishFailed(f"all {limit} connections of the pool are in use: raise broker_pool_limit")
        with pooled as producer:
            # Its types know less than it does.
            connection: Any = producer.connection
            connection_lost = (*connection.recoverable_connection_errors, OperationalError)
            try:
                return self._offered_by(producer, connection)
            except NotConfirmed as error:
                _discard(producer, connection)
                return BrokerRefuses(str(error)) if error.blocked else PublishFailed(str(error))
            except (*connection_lost, *connection.recoverable_channel_errors) as error:
                _discard(producer, connection)
                return _unavailable(connection, error)
            except connection.channel_errors as error:
                # A queue or exchange that was deleted behind our back is declared anew on the next connection.
                _discard(producer, connection)
                self._irrecoverable += 1
                if self._irrecoverable > 1:
                    raise
                return _unavailable(connection, error)
            except BaseException:
                # Confirmations of what was published may still come, for nobody.
                _discard(producer, connection)
                raise

    def _acquired(self) -> AbstractContextManager[Producer]:
        if self._given is not None:
            return nullcontext(self._given)
        # Not from the pool of producers, which waits for a connection without a limit.
        pool: Any = self._app.pool
        return _producer_on(self._app, pool.acquire(block=True, timeout=self._silent_s))

    def _offered_by(self, producer: Producer, connection: Any) -> PublishFailed | None:
        _limit_waits(connection, self._patience.silent_s)
        hosts = max(len(connection.alt), 1)
        connection.ensure_connection(
            max_retries=hosts, interval_start=0, interval_step=0, interval_max=0, timeout=max(self._silent_s, 0.1)
        )
        with bounded(connection, limit_s=max(self._silent_s, 0.1)):
            publisher = ConfirmingPublisher.of(connection)
            if publisher is None:
                self._send_unconfirmed(producer)
                return None
            try:
                self._publish(publisher)
            finally:
                for key in publisher.confirmed:
                    del self._left[key]
                if publisher.confirmed:
                    self._taken_at, self._pause_s = time.monotonic(), FIRST_PAUSE_S
                if publisher.confirmed or publisher.refused or publisher.blocked:
                    self._answered_at = time.monotonic()
            if not publisher.refused:
                self._width = min(2 * self._width, WIDTH)
                return None
            # As many as it has just taken: the rest would only be refused again.
            self._width = max(len(publisher.confirmed), 1)
            key, why = min(publisher.refused.items())
            # What was declared may have been deleted since.
            connection.declared_entities.clear()
            return BrokerRefuses(f"queue {self._left[key].queue(self._app)} takes no messages: it {why}")

    def _publish(self, publisher: ConfirmingPublisher) -> None:
        publisher.begin()
        for count, (key, message) in enumerate(list(islice(self._left.items(), self._width))):
            if count and publisher.blocked:
                break
            publisher.publish(key, message.task_id, message.send)
        publisher.wait_for_confirms(self._silent_s, blocked_s=self._refusing_s)

    def _send_unconfirmed(self, producer: Producer) -> None:
        for key, message in list(self._left.items()):
            message.send(producer)
            del self._left[key]
            self._taken_at = self._answered_at = time.monotonic()
            self._pause_s = FIRST_PAUSE_S

    def _pause(self, error: PublishFailed) -> None:
        """Wait before the next offer; raise the error if there is to be none."""
        pause_s = random.uniform(0.5, 1.0) * self._pause_s  # noqa: S311
        left_s = self._refusing_s if isinstance(error, BrokerRefuses) else self._silent_s
        if self._patience.once or left_s <= pause_s:
            raise error
        if time.monotonic() - self._asked_at >= ASK_S:
            self._asked_at = time.monotonic()
            if self._needless():
                self._left.clear()
                return
        if self._pause_s >= LONGEST_PAUSE_S / 2:
            _LOG.warning("%d messages are still to be sent: %s", len(self._left), error)
        self._pause_s = min(1.6 * self._pause_s, LONGEST_PAUSE_S)
        time.sleep(pause_s)


@contextmanager
def _producer_on(app: Celery, connection: Any) -> Iterator[Producer]:
    """A producer on a connection of the pool's, which goes back to it afterwards."""
    try:
        yield app.amqp.Producer(connection, auto_declare=False)
    finally:
        connection.release()


def _limit_waits(connection: Any, silent_s: float) -> None:
    """Set those limits that have to be set before a connection is opened, where the app sets none.

    With Redis that is how long an answer may take. kombu waits for ever, and redis-py asks four times.
    """
    connection.connect_timeout = connection.connect_timeout or CONNECT_S
    if connection.transport.driver_type != "redis" or vars(connection).get(_LIMITED):
        return
    options = connection.transport_options
    options["socket_timeout"] = options.get("socket_timeout") or min(ANSWER_S, silent_s / 5)
    options["socket_connect_timeout"] = options.get("socket_connect_timeout") or min(CONNECT_S, silent_s / 5)
    setattr(connection, _LIMITED, True)
    # What Celery has opened has no limit.
    connection.collect()


def _discard(producer: Any, connection: Any) -> None:
    """Drop a connection without a word to the broker, which may not listen; the producer opens another when needed."""
    connection.collect()
    connection.maybe_switch_next()
    producer.revive(connection)


def _unavailable(connection: Any, error: BaseException) -> PublishFailed:
    text = redact(f"{connection.as_uri()}: {error or type(error).__name__}")
    made = PublishFailed(f"the broker takes no messages: {text}")
    made.__cause__ = error
    return made
