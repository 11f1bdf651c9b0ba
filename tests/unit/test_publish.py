"""Messages are published in order, each again until the broker accepts it, within a time limit."""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from kombu import Producer
from kombu.exceptions import OperationalError

from fanout.engines.celery.publishing import publish
from fanout.engines.celery.publishing.publish import Message, PublishFailed, PublishLimits, publish_all

LIMITS = PublishLimits(silent_s=0.5, refusing_s=0.5)


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app on a broker in memory, with one connection."""
    made = Celery("publishing", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.broker_pool_limit = 1
    yield made
    made.close()


def message(number: int, send: Callable[[], None]) -> Message:
    def publish(producer: Producer) -> None:
        assert producer.connection.connected
        send()

    return Message(str(number), "a.task", {}, publish)


def test_accepted_messages_are_not_sent_again(app: Celery) -> None:
    """If a connection breaks in between, messages before that are sent once, and later ones in order."""
    sent: list[int] = []
    attempts: Counter[int] = Counter()

    def sender(number: int) -> Callable[[], None]:
        def send() -> None:
            attempts[number] += 1
            if number % 3 == 1 and attempts[number] < 3:
                raise OperationalError("broken")
            sent.append(number)

        return send

    publish_all(app, [message(number, sender(number)) for number in range(6)], LIMITS)
    assert sent == list(range(6))
    assert attempts == {0: 1, 1: 3, 2: 1, 3: 1, 4: 3, 5: 1}


def test_an_error_that_is_not_the_brokers_is_raised_at_once(app: Celery) -> None:
    """An error of the message itself causes no second publish."""
    attempts: list[int] = []

    def send() -> None:
        attempts.append(1)
        raise ValueError("of the message")

    with pytest.raises(ValueError, match="of the message"):
        publish_all(app, [message(0, send)], LIMITS)
    assert attempts == [1]


def raise_broken() -> None:
    raise OperationalError("broken")


def test_publishing_ends_at_the_limit_with_the_reason(app: Celery) -> None:
    """Soon after the limit `publish_all` raises an error with the last error of the broker."""
    started_at = time.monotonic()
    with pytest.raises(PublishFailed, match=r"the broker takes no messages: memory://.*broken") as caught:
        publish_all(app, [message(0, raise_broken)], LIMITS)
    assert 0.2 <= time.monotonic() - started_at < 3
    assert isinstance(caught.value.__cause__, OperationalError)


def test_messages_of_an_ended_job_raise_no_error(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the job has ended, messages that cannot be sent raise no error."""
    monkeypatch.setattr(publish, "ASK_S", 0.0)
    publish_all(app, [message(0, raise_broken)], PublishLimits(silent_s=3600, refusing_s=3600), needless=lambda: True)


def test_the_wait_for_a_pool_in_use_is_limited(app: Celery) -> None:
    """If all connections of the pool are in use, the error names the setting."""
    with app.pool.acquire(block=True), pytest.raises(PublishFailed, match="raise broker_pool_limit"):
        publish_all(app, [message(0, lambda: None)], LIMITS)
