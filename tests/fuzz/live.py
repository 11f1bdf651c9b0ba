"""Mutated messages to live workers: they must all stay alive, and run the next job right."""

from __future__ import annotations

import random
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from kombu import Connection, Exchange

from devstack import RabbitMQ
from tests.integration.cluster import Cluster, cluster_on
from tests.tasks import SumTask

from .messages import MESSAGES
from .values import mutate

EMPTY_S = 900.0
"""Seconds within which the workers must have taken all messages."""


def run_live(count: int, *, seed: int) -> int:
    """Start a broker and workers, send them mutated messages, and run jobs; return the number of findings."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        broker = RabbitMQ.start(Path(directory) / "rabbitmq")
        try:
            with cluster_on(broker, Path(directory)) as cluster:
                return _send_all(cluster, count, random.Random(f"{seed}:live"))
        finally:
            broker.stop()


def _send_all(cluster: Cluster, count: int, source: random.Random) -> int:
    began, found = time.monotonic(), []
    pids = [worker.children() for worker in cluster.workers]
    queue = cluster.app.conf.task_default_queue
    with Connection(cluster.app.conf.broker_url) as connection, connection.channel() as channel:
        for _ in range(count):
            _send(channel, queue, source)
        limit = time.monotonic() + EMPTY_S
        while channel.queue_declare(queue, passive=True).message_count and time.monotonic() < limit:
            time.sleep(0.2)
        if channel.queue_declare(queue, passive=True).message_count:
            found.append(f"messages were left after {EMPTY_S:.0f} s")
    found += [f"worker {number} has died" for number, worker in enumerate(cluster.workers) if not worker.alive]
    jobs = [SumTask.submit({"numbers": [1, 2, index]}) for index in range(20)]
    for index, job in enumerate(jobs):
        value = job.get(120)
        if value != 3 + index:
            found.append(f"job {index} gave {value!r}")
    lost = [len(set(before) - set(worker.children())) for before, worker in zip(pids, cluster.workers, strict=True)]
    if any(lost):
        found.append(f"workers lost {sum(lost)} pool children")
    for line in found:
        click.echo(f"live: {line}")
    click.echo(f"live: {count:,} messages, {len(found)} findings, {time.monotonic() - began:.0f} s")
    return len(found)


def _send(channel: Any, queue: str, source: random.Random) -> None:
    """Send one message: a mutated one in a good envelope, or a good one in a mutated envelope."""
    step, message = source.choice(MESSAGES)
    task_id, args, kwargs = message
    headers: dict[str, Any] = {"task": f"{SumTask.declaration.name}.{step}", "id": task_id, "lang": "py"}
    body: Any = [args, kwargs, {}]
    if source.random() < 0.7:
        body = mutate(body, source)
    else:
        headers = mutate(headers, source)
    content, encoding, kind = _spell(body), "utf-8", "application/json"
    act = source.random()
    if act < 0.05:
        content = bytes(source.randrange(256) for _ in range(source.randrange(200)))
    elif act < 0.1:
        at = source.randrange(len(content) + 1)
        content = content[:at] + source.randbytes(3) + content[at:]
    elif act < 0.15:
        kind = source.choice(["application/x-python-serialize", "application/x-yaml", "text/plain", "", "x"])
    elif act < 0.18:
        encoding = source.choice(["binary", "latin-1", "no such", ""])
    channel.basic_publish(
        channel.prepare_message(
            content,
            content_type=kind,
            content_encoding=encoding,
            headers=_sendable(headers),
            properties={"correlation_id": task_id, "delivery_mode": 1},
        ),
        exchange=Exchange("").name,
        routing_key=queue,
    )


def _spell(body: Any) -> bytes:
    import json

    try:
        return json.dumps(body).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        return b"[" * 100_000


def _sendable(headers: Any) -> dict[str, Any]:
    """Return headers that AMQP can carry. A broker closes the connection that sends it another one."""
    if not isinstance(headers, dict):
        return {}
    return {
        name[:100]: value
        for name, value in ((str(name).encode("utf-8", "replace").decode(), value) for name, value in headers.items())
        if len(repr(value)) < 500 and _is_carried(value)
    }


def _is_carried(value: Any) -> bool:
    """Return whether a value and all in it have a form in AMQP: 64 bits, UTF-8, names of at most 255 bytes."""
    match value:
        case None | bool():
            return True
        case int():
            return abs(value) < 2**63
        case str():
            return not any("\ud800" <= character <= "\udfff" for character in value)
        case list():
            return all(map(_is_carried, value))
        case dict():
            names = list(value)
            return all(
                isinstance(name, str) and _is_carried(name) and len(name.encode()) < 256 for name in names
            ) and all(map(_is_carried, value.values()))
    return False
