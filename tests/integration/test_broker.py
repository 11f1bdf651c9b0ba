"""Messages and their cost to the broker: refs of one size, for chunks of a byte and of megabytes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack import CephGateway, RabbitMQ
from fanout.engines.celery.publishing.publisher import ConfirmingPublisher

from ..tasks import SumTask, WordCounterTask, make_documents
from .cluster import Cluster, running_cluster

MB = 1_000_000


@pytest.fixture
def idle_cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """No worker, so that each message stays in its queue and can be counted."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, workers=0) as cluster:
        yield cluster


def measure_queue(rabbitmq: RabbitMQ, cluster: Cluster) -> tuple[int, int]:
    """Return the number of messages in the cluster's queue, and their bytes, as the broker counts them."""
    queue = cluster.environment["TEST_QUEUE"]
    return rabbitmq.messages().get(queue, 0), rabbitmq.message_bytes().get(queue, 0)


@pytest.mark.slow
def test_the_bytes_of_a_chunks_message_do_not_grow_with_the_data(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """A chunk of any size costs the broker under 1.6 kB, also if it shares its message with no other."""
    sizes = []
    for size_bytes in (0.1 * MB, 1 * MB, 10 * MB):
        messages, before = measure_queue(rabbitmq, idle_cluster)
        WordCounterTask.submit({"documents": iter(make_documents(int(size_bytes), 32))}, chunk_items=1, max_attempts=1)
        now, after = measure_queue(rabbitmq, idle_cluster)
        assert now - messages == 32
        sizes.append((after - before) / 32)
    assert max(sizes) < 1600
    assert max(sizes) - min(sizes) < 40, "only the digits of offsets and lengths may differ"


def test_a_signature_is_small_for_any_input(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """The launch of a job with 10 MB of documents sends one small message, and its signature is small."""
    signature = WordCounterTask.signature({"documents": make_documents(10 * MB, 32)})
    assert len(repr(dict(signature))) < 1000
    signature()
    messages, size = measure_queue(rabbitmq, idle_cluster)
    assert messages == 1
    assert size < 2000


def test_setup_in_the_caller(redis_cluster: Cluster) -> None:
    """With `setup_in_caller` setup is done when `submit` returns, the list is not stored, and the value is the same."""
    texts = make_documents(4 * MB, 32)
    job = WordCounterTask.submit({"documents": texts}, setup_in_caller=True, chunk_count=8)
    assert job.progress().chunks == 8
    assert sum(info.size for info in job.ledger.objects()) > 4 * MB
    assert job.get(timeout=60)["word_count"]["fox"] == sum(document.count("fox") for document in texts)


def test_messages_of_a_cut_connection_are_sent_again(
    idle_cluster: Cluster, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a connection is cut with hundreds of unconfirmed messages, the queue has a message for each chunk."""
    publish, cuts = ConfirmingPublisher.publish, []

    def publish_and_cut(publisher: ConfirmingPublisher, key: int, task_id: str, send: Callable[[Any], object]) -> None:
        publish(publisher, key, task_id, send)
        # Chunks are sent pack by pack, and the last pack is the largest.
        if key == 200 and not cuts:
            cuts.append(key)
            publisher.producer.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)

    monkeypatch.setattr(ConfirmingPublisher, "publish", publish_and_cut)
    messages, _ = measure_queue(rabbitmq, idle_cluster)
    SumTask.submit({"numbers": iter(range(700))}, chunk_items=1, max_attempts=1)
    assert cuts
    queue = idle_cluster.environment["TEST_QUEUE"]
    received_chunks: set[int] = set()
    with idle_cluster.app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        for _ in range(measure_queue(rabbitmq, idle_cluster)[0] - messages):
            message = waiting.get(timeout=10)
            received_chunks.add(message.payload[0][3])
            message.ack()
    assert received_chunks == set(range(700))


def test_a_closed_connection_is_opened_again(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Chunks are sent although the pool's connection was closed while the broker was unavailable."""
    app = idle_cluster.app
    with app.producer_or_acquire() as producer:
        producer.connection.ensure_connection()
        closed = producer.connection
    closed._close()
    messages, _ = measure_queue(rabbitmq, idle_cluster)
    WordCounterTask.submit({"documents": iter(make_documents(1000, 8))}, chunk_items=1, max_attempts=1)
    now, _ = measure_queue(rabbitmq, idle_cluster)
    assert now - messages == 8
