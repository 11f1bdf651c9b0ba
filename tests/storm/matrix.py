"""Every broker with every result backend, as configurations of the storm."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from .configuration import Backend, Configuration, Transport

Broker = Literal["RabbitMQ, classic queues", "RabbitMQ, quorum queues", "Redis", "SQS"]

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

_SETTINGS: Mapping[Broker, dict[str, Any]] = {
    "RabbitMQ, quorum queues": dict(QUORUM),
    # Celery has no remote control by SQS.
    "SQS": {"worker_enable_remote_control": False},
}
_TRANSPORTS: Mapping[Broker, Transport] = {"Redis": "redis", "SQS": "sqs"}
_CHORDS = ("chord", "chord fails")


def _name_queues(broker: Broker, backend: Backend) -> dict[str, Any]:
    """Return the settings by which a pair has queues of its own on the one server of SQS."""
    if broker != "SQS":
        return {}
    options = {"region": "us-east-1", "is_secure": False, "wait_time_seconds": 1, "polling_interval": 0.1}
    return {"broker_transport_options": {**options, "queue_name_prefix": f"{backend}-"}}


def _make(broker: Broker, backend: Backend) -> Configuration:
    without = dict.fromkeys(_CHORDS, NO_RESULTS) if backend in ("none", "rpc") else {}
    if broker in ("Redis", "SQS"):
        without["cut"] = "closes connections of RabbitMQ"
    return Configuration(
        name=f"{broker} × {BACKENDS[backend]}",
        why=f"{broker} as the broker, and as the result backend: {BACKENDS[backend]}.",
        settings=_SETTINGS.get(broker, {}) | _name_queues(broker, backend),
        broker=_TRANSPORTS.get(broker, "rabbitmq"),
        backend=backend,
        own=("quorum",) if broker == "RabbitMQ, quorum queues" else (),
        without=without,
    )


MATRIX: tuple[Configuration, ...] = tuple(_make(broker, backend) for broker in get_args(Broker) for backend in BACKENDS)
"""One configuration for each pair."""
