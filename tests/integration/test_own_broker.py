"""What depends on a whole RabbitMQ node: its counters, its memory, its alarms, and its end."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import kombu
import pytest

from benchmarks.counters import Traffic
from devstack import CephGateway, RabbitMQ
from fanout import BrokerUnavailable, JobFailed, JobNotFound, attach
from fanout.engines.celery import extension_of
from fanout.sweep import sweep

from ..services import running
from ..tasks import SlowTask, SumTask, WordCounterTask, make_documents
from ..traces import wait_until
from .cluster import cluster_on, running_cluster
from .events import WAYS

MB = 1_000_000


@pytest.fixture(scope="module")
def own_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A node that only these tests use, and that they may block and kill."""
    yield from running(RabbitMQ.start, tmp_path_factory.mktemp("own-broker"))


def test_the_brokers_counters_agree_with_what_was_published(own_broker: RabbitMQ) -> None:
    """50 messages of 100 kB are 50 messages and 5 MB each way, within 1 %; a connection that closes is reported."""
    body = b"x" * 100_000
    before = Traffic.of(own_broker)
    with kombu.Connection(own_broker.url) as connection:
        queue = kombu.Queue(f"counted-{uuid.uuid4().hex}", durable=False, auto_delete=True)
        with connection.Producer() as producer, connection.SimpleQueue(queue) as inbox:
            for _ in range(50):
                producer.publish(
                    body, routing_key=queue.name, content_type="application/data", content_encoding="binary"
                )
            for _ in range(50):
                inbox.get(timeout=30).ack()
            counted = Traffic.of(own_broker) - before
    assert (counted.published, counted.delivered, counted.lost) == (50, 50, 0)
    assert 5 * MB < counted.published_bytes < 5 * MB * 1.01
    assert 5 * MB < counted.delivered_bytes < 5 * MB * 1.01
    assert (Traffic.of(own_broker) - before).lost == 1


def test_40_mb_in_32_chunks_do_not_pass_through_the_broker(
    own_broker: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path
) -> None:
    """40 MB in 32 chunks give the right value while the broker grows by less than 20 MB. Plain Canvas takes 1.8 GB.

    The broker receives less than 0.2 MB. The test measures memory in use, because the memory that Erlang's allocators
    hold in reserve depends on earlier tests.
    """
    texts = make_documents(40 * MB, 32)
    environment = {**ceph_gateway.environment, "TEST_BROKER": own_broker.url, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, concurrency=1):
        # Let the broker allocate its memory for this number of messages before the measurement.
        WordCounterTask.submit({"documents": ["fox"] * 32}, chunk_count=32).get(timeout=60)
        traffic, before = Traffic.of(own_broker), own_broker.memory_bytes()
        job = WordCounterTask.submit({"documents": texts}, chunk_count=32)
        peak = own_broker.memory_bytes()
        while not job.ready:
            peak = max(peak, own_broker.memory_bytes())
        count = job.get()["word_count"]["fox"]
        assert count == sum(document.count("fox") for document in texts)
        assert job.progress().chunks == 32
        assert peak - before < 20 * MB
        delta = Traffic.of(own_broker) - traffic
        assert delta.published >= 32, "at least the chunks were sent through this broker"
        assert delta.lost == 0, "no connection closed before it was counted"
        assert delta.published_bytes < 0.2 * MB


@contextmanager
def raise_alarm(broker: RabbitMQ) -> Iterator[None]:
    """Raise RabbitMQ's memory alarm within the context."""
    broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
    try:
        yield
    finally:
        broker.evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.4)")


def is_blocked(broker: RabbitMQ) -> bool:
    return "blocked" in re.findall(r"\w+", broker.evaluate("rabbit_networking:connection_info_all([state])"))


@pytest.mark.slow
def test_a_launch_during_an_alarm_ends_in_time(own_broker: RabbitMQ, tmp_path: Path) -> None:
    """The launch ends in time with the reason. Its job never runs, although RabbitMQ may read its messages later."""
    with cluster_on(own_broker, tmp_path, workers=0) as cluster:
        cluster.app.conf.fanout_publish_timeout_s = 2.0
        with raise_alarm(own_broker):
            for launch in WAYS.values():
                started_at = time.monotonic()
                with pytest.raises(BrokerUnavailable, match=r"blocked publishers.*memory or disk alarm") as caught:
                    launch([1, 2, 3])
                assert time.monotonic() - started_at < 10
                job_id = str(caught.value).partition("job ")[2].split()[0]
                with pytest.raises((JobNotFound, JobFailed)):
                    attach(job_id, app=cluster.app).get(timeout=1)
        wait_until(lambda: not is_blocked(own_broker), "the caller's connection is free again")
        for launch in WAYS.values():
            launch([1, 2, 3])


@pytest.mark.slow
def test_a_setup_waits_for_the_end_of_an_alarm(own_broker: RabbitMQ, tmp_path: Path) -> None:
    """Setup that RabbitMQ blocks in the middle continues after the alarm, and no step runs twice."""
    with cluster_on(own_broker, tmp_path, workers=1) as cluster:
        numbers = list(range(40))
        job = SlowTask.submit(
            {"numbers": numbers, "trace": str(cluster.trace), "pause_s": 0.0, "setup_pause_s": 0.05},
        )
        wait_until(lambda: len(cluster.runs("process-*")) > 3, "chunks run")
        with raise_alarm(own_broker):
            wait_until(lambda: is_blocked(own_broker), "setup is blocked")
        assert job.get(timeout=60) == sum(numbers)
        assert len(cluster.runs("process-*")) == len(numbers)
        assert len(cluster.runs("setup")) == 1


def test_a_failed_launch_may_be_repeated_after_a_restart(own_broker: RabbitMQ, tmp_path: Path) -> None:
    """Launches under one id fail while the broker is down. After the restart there is one job with one message."""
    with cluster_on(own_broker, tmp_path, workers=0) as cluster:
        cluster.app.conf.fanout_publish_timeout_s = 0.5
        SumTask.submit({"numbers": [1]})
        own_broker.kill()
        for _ in range(2):
            with pytest.raises(BrokerUnavailable, match="job own was not launched, and never runs"):
                SumTask.submit({"numbers": [1, 2, 3]}, job_id="own")
        assert [job_id for job_id, _ in sweep(extension_of(cluster.app).runtime) if job_id == "own"] == []
        own_broker.restart()
        # The pool's open connection is broken now.
        SumTask.submit({"numbers": [1, 2, 3]}, job_id="own")
        assert own_broker.messages()[cluster.environment["TEST_QUEUE"]] == 2
