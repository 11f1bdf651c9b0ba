"""Every broker with every result backend, as configurations of the storm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from .configuration import Backend, Configuration

Broker = Literal["RabbitMQ, classic queues", "RabbitMQ, quorum queues", "Redis"]

NO_RESULTS = "Celery's chords need a result backend that keeps results"
QUORUM: Mapping[str, Any] = {
    "task_default_queue_type": "quorum",
    "task_default_exchange_type": "topic",
    "worker_detect_quorum_queues": True,
}
BACKENDS: Mapping[Backend, str] = {
    "none": "none",
    "redis": "Redis",
    "rpc": "rpc",
    "database": "database",
    "file": "files",
}
"""The result backends, with their names in the table."""

_CHORDS = ("chord", "chord fails")


def _make(broker: Broker, backend: Backend) -> Configuration:
    without = dict.fromkeys(_CHORDS, NO_RESULTS) if backend in ("none", "rpc") else {}
    if broker == "Redis":
        without["cut"] = "closes connections of RabbitMQ"
    return Configuration(
        name=f"{broker} × {BACKENDS[backend]}",
        why=f"{broker} as the broker, and as the result backend: {BACKENDS[backend]}.",
        settings=QUORUM if broker == "RabbitMQ, quorum queues" else {},
        broker="redis" if broker == "Redis" else "rabbitmq",
        backend=backend,
        own=("quorum",) if broker == "RabbitMQ, quorum queues" else (),
        without=without,
    )


MATRIX: tuple[Configuration, ...] = tuple(_make(broker, backend) for broker in get_args(Broker) for backend in BACKENDS)
"""One configuration for each pair."""
