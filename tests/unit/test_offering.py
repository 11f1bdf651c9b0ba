"""How messages are offered again: in order, each until it is taken, and not for ever."""

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
from fanout.engines.celery.publishing.publish import Message, Patience, PublishFailed, offer

PATIENCE = Patience(silent_s=0.5, refusing_s=0.5)


@pytest.fixture
def app() -> Iterator[Celery]:
    """An app on a broker in memory, with one connection."""
    made = Celery("offering", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    made.conf.broker_pool_limit = 1
    yield made
    made.close()


def message(number: int, send: Callable[[], None]) -> Message:
    def publish(producer: Producer) -> None:
        assert producer.connection.connected
        send()

    return Message(str(number), "a.task", {}, publish)


def test_what_was_taken_is_not_sent_again(app: Celery) -> None:
    """A connection that breaks in the middle: those before are sent once, those after it in order."""
    sent: list[int] = []
    tries: Counter[int] = Counter()

    def sender(number: int) -> Callable[[], None]:
        def send() -> None:
            tries[number] += 1
            if number % 3 == 1 and tries[number] < 3:
                raise OperationalError("broken")
            sent.append(number)

        return send

    offer(app, [message(number, sender(number)) for number in range(6)], PATIENCE)
    assert sent == list(range(6))
    assert tries == {0: 1, 1: 3, 2: 1, 3: 1, 4: 3, 5: 1}


def test_an_error_that_is_not_the_brokers_is_raised_at_once(app: Celery) -> None:
    """Nothing is offered a second time because a message can't be made."""
    tries: list[int] = []

    def send() -> None:
        tries.append(1)
        raise ValueError("of the message")

    with pytest.raises(ValueError, match="of the message"):
        offer(app, [message(0, send)], PATIENCE)
    assert tries == [1]


def broken() -> None:
    raise OperationalError("broken")


def test_it_ends_in_time_and_says_why(app: Celery) -> None:
    """After the limit, and not much later, the last error is in the one that is raised."""
    started_at = time.monotonic()
    with pytest.raises(PublishFailed, match=r"the broker takes no messages: memory://.*broken") as caught:
        offer(app, [message(0, broken)], PATIENCE)
    assert 0.2 <= time.monotonic() - started_at < 3
    assert isinstance(caught.value.__cause__, OperationalError)


def test_messages_that_are_needed_no_more(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once their job has ended, it is not an error that they can't be sent."""
    monkeypatch.setattr(publish, "ASK_S", 0.0)
    offer(app, [message(0, broken)], Patience(silent_s=3600, refusing_s=3600), needless=lambda: True)


def test_a_pool_that_is_in_use_is_not_waited_for_for_ever(app: Celery) -> None:
    """Every connection is with somebody else: the error names the setting."""
    with app.pool.acquire(block=True), pytest.raises(PublishFailed, match="raise broker_pool_limit"):
        offer(app, [message(0, lambda: None)], PATIENCE)
