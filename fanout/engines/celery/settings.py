"""The settings that a Celery app should have for fork-join jobs, and the danger if they differ."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery
from kombu import serialization
from kombu.entity import maybe_delivery_mode

from ...config.settings import CONSUMER_TIMEOUT_S
from .publishing.broker import broker_for_read, broker_for_write

_LOG = logging.getLogger(__name__)

_registry: Any = serialization.registry  # type: ignore[attr-defined]

_TRANSIENT = 1
_SAFE = ("application/json", "application/x-yaml", "application/x-msgpack", "application/data", "text/plain")
"""Content types that hold data and no code, as kombu reads them; `application/data` is signed."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A setting that should have another value.

    Attributes:
        setting: Its name.
        found: Its value.
        wanted: The value that it should have.
        danger: The possible consequence of its value.
    """

    setting: str
    found: object
    wanted: object
    danger: str

    def __str__(self) -> str:
        return f"{self.setting} is {self.found!r}, should be {self.wanted!r}: {self.danger}"


def advice(app: Celery) -> list[Advice]:
    """Return the settings that the app should change, the most dangerous first. Reads settings only; asks no server."""
    entries = [
        *_check_content(app),
        *_check_messages(app),
        *_check_annotations(app),
        *_check_time_limits(app),
        *_check_workers(app),
    ]
    if broker_for_read(app).is_rabbitmq:
        entries += _check_rabbitmq(app)
    return entries


def warn(app: Celery) -> None:
    """Log each piece of advice, when a worker starts."""
    for entry in advice(app):
        _LOG.warning("Celery setting %s", entry)


def broker_waits_s(app: Celery) -> float | None:
    """Return for how long the broker waits for a message's acknowledgement, by the settings; None if for ever.

    RabbitMQ's consumer timeout is a setting of the server. The shortest `x-consumer-timeout` of the app's queues
    counts, or else the server's default.
    """
    broker = broker_for_read(app)
    if broker.is_rabbitmq:
        timeouts_ms = [_argument(queue, "x-consumer-timeout") for queue in app.amqp.queues.values()]
        return float(min([CONSUMER_TIMEOUT_S, *(timeout_ms / 1000 for timeout_ms in timeouts_ms if timeout_ms)]))
    return broker.visibility_timeout_s


def default_limit_s(app: Celery) -> int | None:
    """Return the hard time limit of a stage if the app has none: five sixths of the time for which the broker waits."""
    waits_s = broker_waits_s(app)
    return None if waits_s is None else max(int(waits_s * 5 / 6), 1)


def _check_content(app: Celery) -> Iterator[Advice]:
    # Entries are content types or names of serializers. Without a list, kombu refuses unsafe ones.
    dangers = {
        "accept_content": "anyone who reaches the broker can run code in the workers with a pickle",
        "result_accept_content": "anyone who reaches the result backend can run code in callers with a pickle",
    }
    names = _registry.name_to_type
    for setting, danger in dangers.items():
        accepted = app.conf.get(setting) or ()
        if any(names.get(kind, kind) not in _SAFE for kind in accepted):
            yield Advice(setting, list(accepted), ["json"], danger)


def _check_messages(app: Celery) -> Iterator[Advice]:
    """Check that messages are persistent and reach a queue."""
    conf, queues = app.conf, sorted(app.amqp.queues.items())
    rabbitmq = broker_for_write(app)
    if rabbitmq.is_rabbitmq and not rabbitmq.confirms:
        danger = "callbacks and the rest of a chain vanish without an error while RabbitMQ is short of memory"
        yield Advice("broker_transport_options['confirm_publish']", False, True, danger)
    if rabbitmq.is_rabbitmq and maybe_delivery_mode(conf.task_default_delivery_mode) == _TRANSIENT:
        danger = "messages vanish when RabbitMQ restarts"
        yield Advice("task_default_delivery_mode", conf.task_default_delivery_mode, "persistent", danger)
    for name, queue in queues if rabbitmq.is_rabbitmq else ():
        yield from _check_queue(name, queue)
    if conf.task_protocol != 2:
        danger = "messages lose the callbacks, chains and chords of a job"
        yield Advice("task_protocol", conf.task_protocol, 2, danger)
    if conf.task_always_eager:
        danger = "jobs run in the process that launches them, and never in a worker"
        yield Advice("task_always_eager", True, False, danger)


def _check_queue(name: str, queue: Any) -> Iterator[Advice]:
    """Check that a queue of RabbitMQ does not lose messages."""
    setting = f"task_queues[{name!r}]"
    if not queue.durable or queue.auto_delete or queue.exclusive:
        danger = "the queue is deleted with its messages when RabbitMQ restarts or its last worker leaves"
        flags = f"durable={queue.durable}, auto_delete={queue.auto_delete}, exclusive={queue.exclusive}"
        yield Advice(setting, flags, "durable, and neither auto_delete nor exclusive", danger)
    mode = getattr(queue.exchange, "delivery_mode", None)
    if mode and maybe_delivery_mode(mode) == _TRANSIENT:
        danger = "its messages vanish when RabbitMQ restarts"
        yield Advice(f"{setting}.exchange.delivery_mode", mode, "persistent", danger)
    limited = queue.max_length or queue.max_length_bytes or _argument(queue, "x-max-length", "x-max-length-bytes")
    if limited and not str(_argument(queue, "x-overflow") or "").startswith("reject-publish"):
        danger = "the oldest messages vanish when the queue is full; a sweep notices, and sends them again"
        yield Advice(
            f"{setting}['x-overflow']", _argument(queue, "x-overflow") or "drop-head", "reject-publish", danger
        )


def _argument(queue: Any, *names: str) -> Any:
    """Return the first of these arguments that a queue is declared with, or None."""
    arguments = queue.queue_arguments or {}
    return next((arguments[name] for name in names if arguments.get(name)), None)


def _check_annotations(app: Celery) -> Iterator[Advice]:
    """Check the settings of stages that an app can override with `task_annotations`."""
    wanted = {
        "acks_late": (True, "the chunk of a worker that is killed is lost until a sweep finds it"),
        "reject_on_worker_lost": (True, "the chunk of a child that is killed is lost until a sweep finds it"),
        "retry_on_worker_lost": (False, "a chunk that kills its worker is run more than max_attempts times"),
    }
    for name, task in _find_stages(app):
        for setting, (value, danger) in wanted.items():
            if bool(getattr(task, setting, value)) is not value:
                yield Advice(f"task_annotations[{name!r}][{setting!r}]", not value, value, danger)


def _find_stages(app: Celery) -> list[tuple[str, Any]]:
    """Return fanout's own Celery tasks by name; none before the app is finalized."""
    finalized = app.finalized  # type: ignore[attr-defined]
    return (
        [(name, task) for name, task in sorted(app.tasks.items()) if hasattr(task, "fanout_task")] if finalized else []
    )


def _check_time_limits(app: Celery) -> Iterator[Advice]:
    """Check that a worker stops a step before the broker gives up waiting for its message."""
    waits_s = broker_waits_s(app)
    if waits_s is None:
        return
    if broker_for_read(app).is_rabbitmq:
        wanted = f"below {waits_s:g}"
        danger = "RabbitMQ closes the channel of a worker whose chunk takes longer than its consumer timeout"
    else:
        wanted = f"below the visibility timeout, {waits_s:g}"
        danger = "a chunk that takes longer is delivered to a second worker while the first still runs"
    limit_s = app.conf.task_time_limit
    if limit_s is not None and limit_s >= waits_s:
        yield Advice("task_time_limit", limit_s, wanted, danger)
    for name, task in _find_stages(app):
        if task.time_limit is not None and task.time_limit >= waits_s and task.time_limit != limit_s:
            yield Advice(f"task_annotations[{name!r}]['time_limit']", task.time_limit, wanted, danger)


def _check_workers(app: Celery) -> Iterator[Advice]:
    conf = app.conf
    if conf.worker_prefetch_multiplier != 1:
        danger = "a busy worker holds chunks that an idle one could run"
        yield Advice("worker_prefetch_multiplier", conf.worker_prefetch_multiplier, 1, danger)
    if conf.broker_connection_retry is False or conf.broker_connection_retry_on_startup is False:
        danger = "workers end when the broker restarts, or starts later than they do"
        setting = "broker_connection_retry" + ("" if conf.broker_connection_retry is False else "_on_startup")
        yield Advice(setting, False, True, danger)
    redis = broker_for_read(app).is_redis
    if redis and not _get(conf, "worker_soft_shutdown_timeout"):
        danger = "messages of a worker that is told to quit at once are redelivered only after the visibility timeout"
        yield Advice("worker_soft_shutdown_timeout", 0.0, "some seconds, such as 10", danger)
    elif redis and not _get(conf, "worker_enable_soft_shutdown_on_idle"):
        danger = (
            "a stage that waits for a retry in a worker that is told to quit is redelivered only after the visibility "
            "timeout"
        )
        yield Advice("worker_enable_soft_shutdown_on_idle", False, True, danger)


def _check_rabbitmq(app: Celery) -> Iterator[Advice]:
    conf = app.conf
    if not _get(conf, "broker_channel_error_retry"):
        danger = "a worker whose chunk outlives RabbitMQ's consumer timeout ends, with all its other chunks"
        yield Advice("broker_channel_error_retry", False, True, danger)
    quorum = [name for name, queue in app.amqp.queues.items() if _argument(queue, "x-queue-type") == "quorum"]
    if quorum and not _get(conf, "worker_detect_quorum_queues"):
        danger = f"a worker can't consume from {quorum[0]}: quorum queues have no global prefetch limit"
        yield Advice("worker_detect_quorum_queues", False, True, danger)


def _get(conf: Any, name: str) -> Any:
    """Return a setting, or None in an older version of Celery, which does not have it."""
    return conf.get(name)
