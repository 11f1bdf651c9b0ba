"""Brokers that block or refuse publishers, or that other code uses on the same connection."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery.signals import before_task_publish
from kombu import Exchange, Queue

from devstack import RabbitMQ
from fanout import BrokerUnavailable, JobState, attach
from fanout.engines.celery.publishing import publish

from ..tasks import SlowTask, SumTask
from .cluster import Cluster, cluster_on
from .events import EVENTS, WAYS

# Events and messages of other code


@pytest.fixture(scope="module")
def eventful(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An app and workers with all of Celery's events, and priorities."""
    with cluster_on(rabbitmq, tmp_path_factory.mktemp("eventful"), settings=EVENTS, args=("--events",)) as cluster:
        yield cluster


@pytest.mark.parametrize("way", WAYS)
def test_events_between_the_chunks_disturb_no_confirms(eventful: Cluster, way: str) -> None:
    """With `task_send_sent_event` each way of launching gives the right value, and each chunk has its event."""
    sent: list[str] = []
    app = eventful.app
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"task-sent": lambda event: sent.append(event["name"])})
        with receiver.consumer_context() as (listening, _, _):
            job = WAYS[way](list(range(40)))
            assert job.get(timeout=60) == sum(range(40))
            while sent.count(f"{SumTask.name}.process") < 40:
                listening.drain_events(timeout=20)


def test_messages_of_a_handler_disturb_no_confirms(eventful: Cluster) -> None:
    """All messages are confirmed while a `before_task_publish` handler sends another message before each of them."""
    app, queue = eventful.app, uuid.uuid4().hex
    entity = Queue(queue, Exchange(queue), queue)
    senders: list[str] = []

    def handler(sender: str = "", **_: Any) -> None:
        senders.append(sender)
        with app.producer_pool.acquire(block=True, timeout=10) as producer:
            producer.publish(sender, exchange=entity.exchange, routing_key=queue, declare=[entity])

    before_task_publish.connect(handler)
    try:
        job = SumTask.submit({"numbers": iter(range(300))}, max_attempts=1)
    finally:
        before_task_publish.disconnect(handler)
    assert job.get(timeout=60) == sum(range(300))
    assert len(senders) >= 300


POOLS = """
import sys
from tests.integration import app as tasks

for limit in (None, 0, 1):
    app = tasks.make_app({"TEST_BROKER": sys.argv[1], "TEST_QUEUE": f"pool-{limit}", "FANOUT_STORE": "memory://pools"})
    app.conf.update(broker_pool_limit=limit, broker_heartbeat=1)
    tasks.SumTask.submit({"numbers": iter(range(300))}, app=app, max_attempts=1)
    tasks.SumTask.submit({"numbers": [1]}, app=app)
    app.close()
"""


def test_each_message_arrives_once_with_pools_of_any_size(rabbitmq: RabbitMQ) -> None:
    """With a connection per message, or one for all, each message arrives once, and all connections are closed.

    The test runs in a new process, because kombu's pools and their limit belong to the process.
    """
    command = [sys.executable, "-W", "error", "-c", POOLS, rabbitmq.url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "ResourceWarning" not in done.stderr
    messages = rabbitmq.messages()
    assert [messages[f"pool-{limit}"] for limit in (None, 0, 1)] == [301] * 3


@pytest.fixture
def idle_cluster(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster without workers."""
    with cluster_on(rabbitmq, tmp_path, workers=0) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_deleted_queue_is_declared_again(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """A message that RabbitMQ returns, because its queue was deleted, is sent again to a newly declared queue."""
    queue = idle_cluster.environment["TEST_QUEUE"]
    SumTask.submit({"numbers": [1]})
    for launch, messages in ((lambda: SumTask.submit({"numbers": [1]}), 1), (lambda: WAYS["stream"]([1, 2, 3]), 3)):
        rabbitmq.ctl("delete_queue", "--vhost", rabbitmq.host, queue)
        launch()
        assert rabbitmq.messages()[queue] == messages


# A queue with a limit


@contextmanager
def limit_queue(broker: RabbitMQ, queue: str, *, messages: int) -> Iterator[None]:
    """Limit a queue to that number of messages within the context. RabbitMQ rejects further ones."""
    definition = json.dumps({"max-length": messages, "overflow": "reject-publish"})
    policy = f'<<"{broker.host}">>, <<"limit-{queue}">>'
    rule = f'<<"^{queue}$">>, <<{json.dumps(definition)}>>, 0, <<"queues">>'
    broker.evaluate(f'ok = rabbit_policy:parse_set({policy}, {rule}, <<"tests">>)')
    try:
        yield
    finally:
        broker.evaluate(f'ok = rabbit_policy:delete({policy}, <<"tests">>)')


@pytest.mark.slow
def test_a_full_queue_slows_setup_down(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """With 300 chunks and a queue limited to 10, setup waits and continues, and each step runs once."""
    with (
        cluster_on(rabbitmq, tmp_path, workers=1) as cluster,
        limit_queue(rabbitmq, cluster.environment["TEST_QUEUE"], messages=10),
    ):
        values = {"numbers": list(range(300)), "trace": str(cluster.trace), "pause_s": 0.0}
        # With one attempt each chunk has its own message.
        job = SlowTask.submit(values, max_attempts=1)
        assert job.get(timeout=120) == sum(range(300))
        run_numbers = sorted(
            int(path.name.split(".")[0].removeprefix("process-")) for path in cluster.runs("process-*")
        )
        assert run_numbers == list(range(300))
        assert len(cluster.runs("setup")) == len(cluster.runs("join")) == 1


def test_publishing_to_a_full_queue_ends_in_time(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Without consumers, a stream and a launch end in time, and the error names the queue and the remedy."""
    idle_cluster.app.conf.fanout_publish_timeout_s = 1.0
    queue = idle_cluster.environment["TEST_QUEUE"]
    with limit_queue(rabbitmq, queue, messages=10):
        for way in ("stream", "submit"):
            started_at = time.monotonic()
            with pytest.raises(BrokerUnavailable, match=f"queue {queue} takes no messages.*raise its x-max-length"):
                WAYS[way](list(range(30)))
            assert time.monotonic() - started_at < 10


def test_a_stream_stops_waiting_for_a_cancelled_job(
    idle_cluster: Cluster, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller whose stream waits for a full queue stops waiting when the job is cancelled."""
    monkeypatch.setattr(publish, "ASK_S", 0.1)
    app, queue = idle_cluster.app, idle_cluster.environment["TEST_QUEUE"]

    def numbers() -> Iterator[int]:
        yield from range(30)
        attach("own", app=app).cancel()

    with limit_queue(rabbitmq, queue, messages=10):
        job = SumTask.submit({"numbers": numbers()}, job_id="own", max_attempts=1)
        assert job.state == JobState.CANCELLED
        assert rabbitmq.messages()[queue] <= 10
