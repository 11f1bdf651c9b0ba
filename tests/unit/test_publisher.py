"""Publisher confirms, on a channel whose answers and their times a test scripts."""

from __future__ import annotations

import uuid
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection, Producer

from fanout.engines.celery.publishing.connection import bound_waits
from fanout.engines.celery.publishing.publisher import ConfirmingPublisher, NotConfirmed

Frame = Callable[["ScriptedChannel"], None]


class ScriptedConnection:
    """A connection that a channel reads from: frames, each delivered by one read."""

    def __init__(self) -> None:
        self.frames: deque[Frame] = deque()
        self.channel: ScriptedChannel
        self.on_blocked: Any = None
        self.on_unblocked: Any = None

    def drain_events(self, timeout: float | None = None) -> None:
        assert timeout is not None, "a wait without a limit"
        if not self.frames:
            raise TimeoutError
        self.frames.popleft()(self.channel)


class ScriptedChannel:
    """A channel of RabbitMQ in confirm mode, as py-amqp shows it. Numbers the published messages as the broker does."""

    def __init__(self) -> None:
        self.connection = ScriptedConnection()
        self.connection.channel = self
        self.events: defaultdict[str, set[Callable[..., None]]] = defaultdict(set)
        self.published: list[amqp.Message] = []
        self.options: list[dict[str, Any]] = []
        self.at_once: deque[Frame] = deque()
        self.is_open = True
        self.selected = False

    def confirm_select(self) -> None:
        self.selected = True

    def prepare_message(self, body: Any, *args: Any, **options: Any) -> amqp.Message:
        return amqp.Message(body, correlation_id=options["properties"].get("correlation_id"))

    def basic_publish(self, message: amqp.Message, *args: Any, **options: Any) -> None:
        self.published.append(message)
        self.options.append(options)
        # Frames that are read while a message is written, such as before the publish of the event returns.
        while self.at_once:
            self.at_once.popleft()(self)

    def ack(self, tag: int, *, multiple: bool = False) -> None:
        for handler in self.events["basic_ack"]:
            handler(tag, multiple)

    def nack(self, tag: int, *, multiple: bool = False) -> None:
        for handler in self.events["basic_nack"]:
            handler(tag, multiple)

    def give_back(self, message: amqp.Message) -> None:
        for handler in self.events["basic_return"]:
            handler(Exception("NO_ROUTE"), "exchange", "key", message)


@pytest.fixture
def channel() -> ScriptedChannel:
    return ScriptedChannel()


@pytest.fixture
def publisher(channel: ScriptedChannel) -> ConfirmingPublisher:
    return ConfirmingPublisher(channel)


def publish(publisher: ConfirmingPublisher, channel: ScriptedChannel, key: int, *, event: bool = False) -> None:
    """Publish a message as `send_task` does: with an event after it if asked, on the same channel."""
    task_id = f"task-{key}"

    def send(producer: Producer) -> None:
        assert producer is publisher.producer
        channel.basic_publish(amqp.Message("chunk", correlation_id=task_id))
        if event:
            channel.basic_publish(amqp.Message("event"))

    publisher.publish(key, task_id, send)


def test_the_channel_is_in_confirm_mode_and_passes_messages_on(
    publisher: ConfirmingPublisher, channel: ScriptedChannel
) -> None:
    """The channel is in confirm mode, and a chunk is returned if no queue takes it."""
    publish(publisher, channel, 0, event=True)
    assert channel.selected
    assert [message.body for message in channel.published] == ["chunk", "event"]
    assert channel.options == [{"mandatory": True}, {}]


def test_a_confirmation_may_come_before_the_publish_returns(
    publisher: ConfirmingPublisher, channel: ScriptedChannel
) -> None:
    """If the acks of chunk and event are read while the event is written, the chunk is confirmed without a wait."""
    for key in range(3):
        channel.at_once.append(lambda channel: None)

        def acks(channel: ScriptedChannel, tag: int = 2 * key + 1) -> None:
            channel.ack(tag)

        channel.at_once.append(acks)
        publish(publisher, channel, key, event=True)
    publisher.wait_for_confirms(0.01)
    assert publisher.confirmed == {0, 1, 2}


def test_events_between_chunks_do_not_count(publisher: ConfirmingPublisher, channel: ScriptedChannel) -> None:
    """Tags 1, 3, 5 are chunks, and 2, 4, 6 are events. Acks of events confirm no chunk."""
    for key in range(3):
        publish(publisher, channel, key, event=True)
    channel.ack(2)
    channel.ack(4)
    channel.ack(5)
    assert publisher.confirmed == {2}
    assert publisher.unconfirmed == {0, 1}
    with pytest.raises(NotConfirmed, match=r"confirmed nothing within 0\.0 s"):
        publisher.wait_for_confirms(0.01)
    channel.connection.frames.append(lambda channel: channel.ack(3, multiple=True))
    publisher.wait_for_confirms(0.01)
    assert publisher.confirmed == {0, 1, 2}


def test_other_messages_on_the_channel_are_numbered_too(
    publisher: ConfirmingPublisher, channel: ScriptedChannel
) -> None:
    """A message of a signal handler before the publisher's messages, or between two of them, shifts no tag."""
    channel.basic_publish(amqp.Message("of another publisher"))
    task_id = "task-0"

    def send(producer: Producer) -> None:
        channel.basic_publish(amqp.Message("of a handler", correlation_id="another"))
        channel.basic_publish(amqp.Message("chunk", correlation_id=task_id))

    publisher.publish(0, task_id, send)
    channel.ack(1)
    channel.ack(2)
    assert publisher.unconfirmed == {0}
    channel.ack(3)
    assert publisher.confirmed == {0}


@pytest.mark.parametrize("multiple", [False, True])
def test_confirmations_may_come_in_any_order(
    publisher: ConfirmingPublisher, channel: ScriptedChannel, *, multiple: bool
) -> None:
    """Acks and nacks in any order, single or multiple, are counted for the messages that they name."""
    for key in range(6):
        publish(publisher, channel, key)
    channel.ack(5)
    channel.nack(2, multiple=multiple)
    channel.connection.frames.extend([lambda channel: channel.ack(6), lambda channel: channel.ack(4, multiple=True)])
    publisher.wait_for_confirms(0.01)
    refused = {0, 1} if multiple else {1}
    assert set(publisher.refused) == refused
    assert publisher.confirmed == set(range(6)) - refused
    assert "reject-publish" in publisher.refused[1]


def test_a_message_without_a_queue_is_refused(publisher: ConfirmingPublisher, channel: ScriptedChannel) -> None:
    """RabbitMQ returns a message without a queue and then confirms it. The publisher counts it as refused."""
    for key in range(2):
        publish(publisher, channel, key)
    channel.give_back(channel.published[1])
    channel.ack(2, multiple=True)
    assert publisher.confirmed == {0}
    assert publisher.refused == {1: "does not exist: no queue is bound to exchange 'exchange' with routing key 'key'"}


def test_frames_that_confirm_nothing_do_not_count(publisher: ConfirmingPublisher, channel: ScriptedChannel) -> None:
    """The limit is for confirmations. Other frames do not prolong the wait."""
    publish(publisher, channel, 0)
    channel.connection.frames.extend([lambda channel: None] * 10**6)
    with pytest.raises(NotConfirmed):
        publisher.wait_for_confirms(0.01)
    assert channel.connection.frames, "the limit passed while frames came"


def test_a_blocked_broker_is_distinguished_from_a_silent_one(
    publisher: ConfirmingPublisher, channel: ScriptedChannel
) -> None:
    """If RabbitMQ says that it blocks publishers, the error says so, and the wait has the limit for that case."""
    publish(publisher, channel, 0)
    channel.connection.frames.append(lambda channel: channel.connection.on_blocked("low on memory"))
    with pytest.raises(NotConfirmed, match="memory or disk alarm") as caught:
        publisher.wait_for_confirms(60, blocked_s=0.01)
    assert caught.value.blocked
    channel.connection.on_unblocked()
    assert not publisher.blocked


def test_confirmations_of_an_earlier_use_do_not_count(publisher: ConfirmingPublisher, channel: ScriptedChannel) -> None:
    """Confirmations for messages of an earlier use confirm no message of this use."""
    publish(publisher, channel, 0)
    publisher.begin()
    publish(publisher, channel, 0)
    channel.ack(1)
    assert publisher.confirmed == set()
    channel.ack(2)
    assert publisher.confirmed == {0}


def test_a_message_that_was_not_published_is_an_error(publisher: ConfirmingPublisher) -> None:
    """A publish that puts no message on the channel raises, because its confirmation would never come."""
    with pytest.raises(RuntimeError, match="was not published"):
        publisher.publish(0, "task-0", lambda producer: None)


def test_another_transport_has_no_confirms() -> None:
    """On Redis, in a directory or in memory there are no confirms, and the connection is unchanged."""
    app = Celery("memory", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    with app.connection_for_write() as connection:
        assert ConfirmingPublisher.of(connection) is None
        with bound_waits(connection, limit_s=1):
            assert "ensure" not in vars(connection)


class HeartbeatsOnly(amqp.Connection):
    """A connection that only brings heartbeats. After each one py-amqp reads on, and the limit begins anew."""

    def __init__(self) -> None:
        self.reads = 0
        self.limits_s: list[float | None] = [None]

    def blocking_read(self, timeout: float | None = None) -> bool:
        self.reads += 1
        return False

    @property
    def sock(self) -> Any:
        return self

    def gettimeout(self) -> float | None:
        return self.limits_s[-1]

    def settimeout(self, limit_s: float | None) -> None:
        self.limits_s.append(limit_s)

    @property
    def connected(self) -> bool:
        return True


def test_heartbeats_do_not_prolong_a_wait() -> None:
    """Each read from the connection (of a declaration, of a channel's end) stops at the limit, or at its own."""
    inner = HeartbeatsOnly()
    outer = Connection("amqp://")
    outer._connection = inner  # type: ignore[attr-defined]
    outer._transport = type("Open", (), {"verify_connection": lambda self, connection: True})()  # type: ignore[attr-defined]
    with bound_waits(outer, limit_s=0.02):
        for limit in ({}, {"timeout": 0.01}):
            with pytest.raises(TimeoutError, match=r"silent for 0\.0[12] s"):
                inner.drain_events(**limit)
        assert inner.limits_s[-1] == 0.02
    assert inner.limits_s[-1] is None
    assert "drain_events" not in vars(inner)
