"""Publishing messages within a time limit, until the broker has taken each."""

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

from ....errors import BrokerUnavailable, ConfigError
from ....figures import format_count
from ....redaction import redact
from .connection import bound_waits
from .publisher import ConfirmingPublisher, NotConfirmed

_LOG = logging.getLogger(__name__)

WIDTH = 256
"""Largest number of messages that may be unconfirmed at once."""

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0
"""Pauses between attempts to publish, which grow from the first to the second."""

CONNECT_S = 4.0
"""Longest time for one step of opening a connection, if the app sets no limit."""

ANSWER_S = 10.0
"""Longest time for an answer of Redis, if the app sets no limit."""

ASK_S = 5.0
"""Shortest time between two checks whether refused messages are still needed."""

TELL_S = 15.0
"""Shortest time between two lines of the log about messages that are not sent yet."""

_LIMITED = "_fanout_limited"


class PublishFailed(BrokerUnavailable, OperationalError):
    """The broker did not take a message. Also an `OperationalError`, as kombu and Celery raise it."""


class BrokerRefuses(PublishFailed):
    """The broker answers, but a queue is full or missing, or an alarm blocks publishers."""


@dataclass(frozen=True, slots=True)
class Message:
    """A Celery message to be published.

    Attributes:
        task_id: Its Celery task id.
        name: The name of its Celery task.
        options: The options of `send_task`, which may name a queue.
        send: Publishes it once, with the producer that it is given.
    """

    task_id: str
    name: str
    options: Mapping[str, Any]
    send: Callable[[Producer], Any]

    def queue(self, app: Celery) -> str:
        """Return the name of the queue that the message is routed to, for an error."""
        route: Any = app.amqp.router.route(dict(self.options), self.name)
        queue = route.get("queue") or route.get("exchange") or route.get("routing_key")
        return str(getattr(queue, "name", queue))


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishLimits:
    """For how long to go on while the broker takes no message at all, in seconds.

    Attributes:
        silent_s: If the broker cannot be reached, or does not answer.
        refusing_s: If its queue is full, or it has blocked publishers.
        once: Whether to make one attempt only.
    """

    silent_s: float
    refusing_s: float
    once: bool = False


def publish_all(
    app: Celery,
    messages: Sequence[Message],
    limits: PublishLimits,
    *,
    producer: Producer | None = None,
    needless: Callable[[], bool] = lambda: False,
) -> None:
    """Publish messages, and return once the broker has them all; on RabbitMQ, once it has confirmed each.

    A message that was not confirmed is published again after a pause, and so may arrive twice. A message that RabbitMQ
    refused, since its queue is full, has not arrived. Refused messages alone are published again, in the order of
    `messages`.

    Args:
        app: The app.
        messages: The messages.
        limits: For how long to go on.
        producer: The producer to use; if not given, one of the app's pool.
        needless: Returns whether the remaining messages need not be sent any more. Called every few seconds while
            attempts fail.

    Raises:
        PublishFailed: The broker has taken no message for that long; says why. Some may have got through.
        ConfigError: Another attempt would not change it: the URL of the broker names no transport that is installed,
            or the broker refuses the login, or a queue that is declared with other arguments.
    """
    _Publication(app, messages, limits, producer, needless).run()


class _Publication:
    """One call of `publish_all`."""

    def __init__(
        self,
        app: Celery,
        messages: Sequence[Message],
        limits: PublishLimits,
        producer: Producer | None,
        needless: Callable[[], bool],
    ) -> None:
        self._app = app
        self._left = dict(enumerate(messages))
        self._limits = limits
        self._producer = producer
        self._needless = needless
        self._width = WIDTH
        # When the broker last took a message, and when it last took or refused one.
        self._taken_at = self._answered_at = time.monotonic()
        self._asked_at = self._taken_at
        self._told_at = -TELL_S
        self._pause_s = FIRST_PAUSE_S
        self._channel_errors = 0

    def run(self) -> None:
        while self._left:
            error = self._try_once()
            if error is not None:
                self._pause(error)

    @property
    def _silent_s(self) -> float:
        """Seconds left to wait for a silent broker."""
        return max(self._answered_at + self._limits.silent_s - time.monotonic(), 0.0)

    @property
    def _refusing_s(self) -> float:
        """Seconds left to wait for a broker that refuses messages."""
        return max(self._taken_at + self._limits.refusing_s - time.monotonic(), 0.0)

    def _try_once(self) -> PublishFailed | None:
        """Publish what is left, or as much as the broker may take. Return why some messages failed, or None."""
        try:
            pooled = self._acquire()
        except LimitExceeded:
            limit = self._app.conf.broker_pool_limit
            return PublishFailed(f"all {limit} connections of the pool are in use: raise broker_pool_limit")
        except Exception as error:
            raise _unusable_url(error) from error
        with pooled as producer:
            # Typed as Any: kombu's stubs lack some of its attributes.
            connection: Any = producer.connection
            connection_lost = (*connection.recoverable_connection_errors, OperationalError)
            try:
                return self._publish_on(producer, connection)
            except NotConfirmed as error:
                _discard(producer, connection)
                return BrokerRefuses(str(error)) if error.blocked else PublishFailed(str(error))
            except (*connection_lost, *connection.recoverable_channel_errors) as error:
                _discard(producer, connection)
                return _unavailable(connection, error)
            except connection.channel_errors as error:
                # A queue or exchange may have been deleted. Celery declares it anew on the next connection.
                _discard(producer, connection)
                self._channel_errors += 1
                if self._channel_errors > 1:
                    remedy = "Make task_queues and task_default_queue_type those of the queue that exists, or delete it"
                    raise ConfigError(f"the broker refuses a message: {_tell(connection, error)}. {remedy}") from error
                return _unavailable(connection, error)
            except BaseException:
                # Confirms may still come on this connection, and must not reach its next user.
                _discard(producer, connection)
                raise

    def _acquire(self) -> AbstractContextManager[Producer]:
        if self._producer is not None:
            return nullcontext(self._producer)
        # Not from the pool of producers, which waits without a limit for a connection.
        pool: Any = self._app.pool
        return _producer_on(self._app, pool.acquire(block=True, timeout=self._silent_s))

    def _publish_on(self, producer: Producer, connection: Any) -> PublishFailed | None:
        _set_timeouts(connection, self._limits.silent_s)
        _open(connection, timeout_s=max(self._silent_s, 0.1))
        with bound_waits(connection, limit_s=max(self._silent_s, 0.1)):
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
            # Next time, only as many as it has just taken: it would refuse the rest again.
            self._width = max(len(publisher.confirmed), 1)
            key, why = min(publisher.refused.items())
            # The queue may have been deleted since it was declared.
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
        """Wait before the next attempt. Raise the error if the time for another attempt is over."""
        pause_s = random.uniform(0.5, 1.0) * self._pause_s  # noqa: S311
        left_s = self._refusing_s if isinstance(error, BrokerRefuses) else self._silent_s
        if self._limits.once or left_s <= pause_s:
            raise error
        if time.monotonic() - self._asked_at >= ASK_S:
            self._asked_at = time.monotonic()
            if self._needless():
                self._left.clear()
                return
        if self._pause_s >= LONGEST_PAUSE_S / 2 and time.monotonic() - self._told_at >= TELL_S:
            self._told_at = time.monotonic()
            text = "%s not sent yet, and for %.0f s more it is tried again: %s"
            _LOG.warning(text, format_count(len(self._left), "message"), left_s, error)
        self._pause_s = min(1.6 * self._pause_s, LONGEST_PAUSE_S)
        time.sleep(pause_s)


@contextmanager
def _producer_on(app: Celery, connection: Any) -> Iterator[Producer]:
    """Yield a producer on a connection of the pool, and return the connection to the pool afterwards."""
    try:
        yield app.amqp.Producer(connection, auto_declare=False)
    finally:
        connection.release()


def _open(connection: Any, *, timeout_s: float) -> None:
    """Open a connection, on the first of its hosts that answers.

    Raises:
        OperationalError: None answers.
        ConfigError: The broker answers, and refuses the login or the virtual host.
    """
    hosts = max(len(connection.alt), 1)
    try:
        connection.ensure_connection(
            max_retries=hosts, interval_start=0, interval_step=0, interval_max=0, timeout=timeout_s
        )
    except (*connection.recoverable_connection_errors, OperationalError):
        raise
    except (*connection.connection_errors, *connection.channel_errors) as error:
        remedy = "Correct the user, the password or the virtual host in broker_url"
        raise ConfigError(f"the broker refuses this app: {_tell(connection, error)}. {remedy}") from error


def _set_timeouts(connection: Any, silent_s: float) -> None:
    """Set the timeouts that must be set before a connection is opened, where the app sets none.

    With Redis they also limit an answer, for which kombu waits for ever, and redis-py asks four times.
    """
    connection.connect_timeout = connection.connect_timeout or CONNECT_S
    if connection.transport.driver_type != "redis" or vars(connection).get(_LIMITED):
        return
    options = connection.transport_options
    options["socket_timeout"] = options.get("socket_timeout") or min(ANSWER_S, silent_s / 5)
    options["socket_connect_timeout"] = options.get("socket_connect_timeout") or min(CONNECT_S, silent_s / 5)
    setattr(connection, _LIMITED, True)
    # A connection that is open already has no timeouts.
    connection.collect()


def _discard(producer: Any, connection: Any) -> None:
    """Drop a connection without a word to the broker, which may not read it. The producer opens another when needed."""
    connection.collect()
    connection.maybe_switch_next()
    producer.revive(connection)


def _unavailable(connection: Any, error: BaseException) -> PublishFailed:
    failed = PublishFailed(f"the broker takes no messages: {_tell(connection, error)}")
    failed.__cause__ = error
    return failed


def _unusable_url(error: Exception) -> ConfigError:
    """Return the error for a broker to which no connection can be made, because kombu can't read its URL."""
    reason = str(error.args[0] if error.args else error)
    remedy = "Correct it, or install what Celery needs for this kind of broker, as in pip install 'celery[redis]'"
    return ConfigError(redact(f"broker_url can't be used: {reason}. {remedy}"))


def _tell(connection: Any, error: BaseException) -> str:
    """Return a broker and its error as text without a password and without a full stop."""
    return redact(f"{connection.as_uri()}: {str(error).rstrip('. ') or type(error).__name__}")
