"""The benchmark's instruments agree with what is known beforehand."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import kombu
import pytest

from benchmarks.counters import Traffic
from benchmarks.sampler import Sampler, kill_tree
from devstack import RabbitMQ

MB = 1_000_000


@contextmanager
def python(code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `code`; killed at the end with all below it."""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            kill_tree(process.pid)


def said(process: subprocess.Popen[str]) -> str:
    """The next line it prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str]) -> None:
    """Let it go on to its next `input()`."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_sampler_finds_an_allocation() -> None:
    """A child that takes 200 MB and gives it back has grown by 200 MB, within 10 %."""
    code = "print('up', flush=True); input(); b = b'x' * 200_000_000; print('has', flush=True); input(); del b; input()"
    with python(code) as process:
        assert said(process) == "up"
        sampler = Sampler({"child": process.pid})
        sampler.start()
        tell(process)
        assert said(process) == "has"
        tell(process)
        found = sampler.stop()["child"]
    assert found.growth_bytes == pytest.approx(200 * MB, rel=0.1)
    assert found.process_bytes == pytest.approx(found.before_bytes + 200 * MB, rel=0.1)


def test_sampler_finds_the_allocation_of_a_grandchild() -> None:
    """What a process below the watched one takes counts too."""
    child = "b = b'x' * 200_000_000; print('has', flush=True); input()"
    code = (
        f"import subprocess, sys; print('up', flush=True); input(); subprocess.run([sys.executable, '-c', {child!r}])"
    )
    with python(code) as process:
        assert said(process) == "up"
        sampler = Sampler({"tree": process.pid})
        sampler.start()
        tell(process)
        assert said(process) == "has"
        found = sampler.stop()["tree"]
    # The interpreter of the grandchild takes memory as well.
    assert 200 * MB * 0.9 < found.growth_bytes < 200 * MB * 1.1 + 20 * MB


def test_sampler_samples_ten_times_a_second() -> None:
    """Half a second leaves five samples at least, in the order of time."""
    with python("input()") as process:
        sampler = Sampler({"child": process.pid})
        sampler.start()
        threading.Event().wait(0.5)
        series = sampler.stop()["child"].series
    assert len(series) >= 5
    assert [at_s for at_s, _ in series] == sorted(at_s for at_s, _ in series)


def test_sampler_stops_what_grows_over_its_limit() -> None:
    """A child that grows without end is reported once, at its limit, and can be killed from there."""
    reported: list[tuple[str, int]] = []
    stopped = threading.Event()
    code = "import time; b = []\nwhile True: b.append(b'x' * 5_000_000); time.sleep(0.01)"
    with python(code) as process:

        def stop(name: str, size: int) -> None:
            reported.append((name, size))
            kill_tree(process.pid)
            stopped.set()

        sampler = Sampler({"child": process.pid}, limits={"child": 150 * MB}, on_limit=stop)
        sampler.start()
        assert stopped.wait(30)
        assert process.wait(10) != 0
        sampler.stop()
    assert [name for name, _ in reported] == ["child"]
    assert 150 * MB <= reported[0][1] < 400 * MB


def test_broker_counters_agree_with_what_was_published(rabbitmq: RabbitMQ) -> None:
    """50 messages of 100 kB, published and consumed, are 50 messages and 5 MB each way, within 1 %."""
    body = b"x" * 100_000
    with kombu.Connection(rabbitmq.url) as connection:
        name = f"counted-{uuid.uuid4().hex}"
        queue = kombu.Queue(name, durable=False, auto_delete=True)
        with connection.Producer() as producer, connection.SimpleQueue(queue) as inbox:
            before = Traffic.of(rabbitmq)
            for _ in range(50):
                producer.publish(body, routing_key=name, content_type="application/data", content_encoding="binary")
            received = []
            for _ in range(50):
                message = inbox.get(timeout=30)
                received.append(len(message.body))
                message.ack()
            counted = Traffic.of(rabbitmq) - before
    assert received == [100_000] * 50
    assert (counted.published, counted.delivered, counted.lost) == (50, 50, 0)
    assert 5 * MB < counted.published_bytes < 5 * MB * 1.01
    assert 5 * MB < counted.delivered_bytes < 5 * MB * 1.01


def test_broker_counters_tell_of_lost_connections(rabbitmq: RabbitMQ) -> None:
    """A connection that closes takes its bytes along, and the counters say that they are incomplete."""
    before = Traffic.of(rabbitmq)
    with kombu.Connection(rabbitmq.url) as connection:
        connection.connect()
    assert (Traffic.of(rabbitmq) - before).lost == 1
