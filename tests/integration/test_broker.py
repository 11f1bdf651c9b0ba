"""What goes through the broker: handles, the same for a byte and for megabytes; and what it costs the broker."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.counters import Traffic
from devstack import CephGateway, RabbitMQ
from fanout.engines.celery.publishing.publisher import ConfirmingPublisher

from .app import SumTask, WordCounterTask
from .cluster import Cluster, running_cluster

MB = 1_000_000
LINE = "the quick brown fox jumps over the lazy dog and the small grey cat sleeps on\n"


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """Two workers, no result backend."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, concurrency=1) as cluster:
        yield cluster


@pytest.fixture
def idle_cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """No worker, so that every message stays in its queue to be weighed."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, workers=0) as cluster:
        yield cluster


def documents(size_bytes: int, count: int) -> list[str]:
    """`count` documents of `size_bytes` together."""
    lines = size_bytes // count // len(LINE)
    return [LINE * lines] * count


def weigh(rabbitmq: RabbitMQ, cluster: Cluster) -> tuple[int, int]:
    """Messages in the cluster's queue, and their bytes as the broker counts them."""
    queue = cluster.environment["TEST_QUEUE"]
    return rabbitmq.messages().get(queue, 0), rabbitmq.message_bytes().get(queue, 0)


def test_bytes_a_chunk_do_not_grow_with_the_data(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """A chunk costs the broker under 1.6 kB, no matter how large it is."""
    sizes = []
    for size_bytes in (0.1 * MB, 1 * MB, 10 * MB):
        messages, before = weigh(rabbitmq, idle_cluster)
        WordCounterTask.submit({"documents": iter(documents(int(size_bytes), 32))}, chunk_items=1)
        now, after = weigh(rabbitmq, idle_cluster)
        assert now - messages == 32
        sizes.append((after - before) / 32)
    assert max(sizes) < 1600
    assert max(sizes) - min(sizes) < 40, "only the digits of offsets and lengths may differ"


def test_a_signature_is_small_whatever_its_input(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Launching a job of 10 MB of documents sends one small message, and the signature itself is small."""
    signature = WordCounterTask.signature({"documents": documents(10 * MB, 32)})
    assert len(repr(dict(signature))) < 1000
    signature()
    messages, size = weigh(rabbitmq, idle_cluster)
    assert messages == 1
    assert size < 2000


def test_40_mb_in_32_chunks(cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """40 MB in 32 chunks give the right answer while the broker grows by less than 20 MB; bare Canvas takes 1.8 GB.

    Less than 0.2 MB reach it. Its memory is what is in use: what Erlang's allocators keep besides comes and goes with
    what other tests have left to it.
    """
    everything = documents(40 * MB, 32)
    # What the broker needs for so many messages at all, it shall have taken by then.
    WordCounterTask.submit({"documents": ["fox"] * 32}, chunk_count=32).get(timeout=60)
    traffic, before = Traffic.of(rabbitmq), rabbitmq.memory_bytes()
    job = WordCounterTask.submit({"documents": everything}, chunk_count=32)
    peak = rabbitmq.memory_bytes()
    while not job.ready:
        peak = max(peak, rabbitmq.memory_bytes())
    count = job.get()["word_count"]["fox"]
    assert count == sum(document.count("fox") for document in everything)
    assert job.progress().chunks == 32
    assert peak - before < 20 * MB
    went_through = Traffic.of(rabbitmq) - traffic
    assert went_through.published >= 32, "the chunks, at least, were sent through this broker"
    assert went_through.lost == 0, "no connection closed with its count"
    assert went_through.published_bytes < 0.2 * MB


def test_a_list_may_be_cut_where_it_is(cluster: Cluster) -> None:
    """With `setup_in_caller` the job is set up when `submit` returns, the list is not stored, and the answer is the
    same."""
    everything = documents(4 * MB, 32)
    job = WordCounterTask.submit({"documents": everything}, setup_in_caller=True, chunk_count=8)
    assert job.progress().chunks == 8
    assert sum(found.size for found in job.objects()) > 4 * MB
    assert job.get(timeout=60)["word_count"]["fox"] == sum(document.count("fox") for document in everything)


def test_what_a_cut_connection_took_along_is_sent_again(
    idle_cluster: Cluster, rabbitmq: RabbitMQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks while hundreds of messages are unconfirmed: every chunk is in the queue afterwards."""
    publish, cuts = ConfirmingPublisher.publish, []

    def publish_and_cut(publisher: ConfirmingPublisher, key: int, task_id: str, send: Callable[[Any], object]) -> None:
        publish(publisher, key, task_id, send)
        # Chunks are sent a pack at a time: the last one is the largest.
        if key == 200 and not cuts:
            cuts.append(key)
            publisher.producer.channel.connection.transport.sock.shutdown(socket.SHUT_RDWR)

    monkeypatch.setattr(ConfirmingPublisher, "publish", publish_and_cut)
    messages, _ = weigh(rabbitmq, idle_cluster)
    SumTask.submit({"numbers": iter(range(700))}, chunk_items=1)
    assert cuts
    queue = idle_cluster.environment["TEST_QUEUE"]
    taken: set[int] = set()
    with idle_cluster.app.connection_for_read() as connection, connection.SimpleQueue(queue) as waiting:
        for _ in range(weigh(rabbitmq, idle_cluster)[0] - messages):
            message = waiting.get(timeout=10)
            taken.add(message.payload[0][3])
            message.ack()
    assert taken == set(range(700))


def test_a_connection_that_was_given_up_is_opened_again(idle_cluster: Cluster, rabbitmq: RabbitMQ) -> None:
    """Chunks are sent although the connection that the pool hands out was closed while the broker was away."""
    app = idle_cluster.app
    with app.producer_or_acquire() as producer:
        producer.connection.ensure_connection()
        given_up = producer.connection
    given_up._close()
    messages, _ = weigh(rabbitmq, idle_cluster)
    WordCounterTask.submit({"documents": iter(documents(1000, 8))}, chunk_items=1)
    now, _ = weigh(rabbitmq, idle_cluster)
    assert now - messages == 8
