"""What a Celery app's settings should be for fork-join jobs, and the danger where they differ."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from celery import Celery

from ...config import CONSUMER_TIMEOUT_S

_LOG = logging.getLogger("fanout")

VISIBILITY_TIMEOUT_S = 3600
"""After so long Celery's Redis transport delivers a message again that nobody has acknowledged."""

_RABBITMQ = ("amqp", "amqps", "pyamqp", "py-amqp")
_REDIS = ("redis", "rediss", "sentinel")


@dataclass(frozen=True, slots=True)
class Advice:
    """One setting that should be another.

    Attributes:
        setting: Its name.
        found: What it is.
        wanted: What it should be.
        danger: What may happen as it is.
    """

    setting: str
    found: object
    wanted: object
    danger: str

    def __str__(self) -> str:
        return f"{self.setting} is {self.found!r}, should be {self.wanted!r}: {self.danger}"


def advice(app: Celery) -> list[Advice]:
    """What to change in the app's settings, most dangerous first. Reads settings only; asks no server."""
    found = [*_of_content(app), *_of_messages(app), *_of_tries(app), *_of_time(app), *_of_workers(app)]
    if transport_of(app) in _RABBITMQ:
        found += _of_rabbitmq(app)
    return found


def warn(app: Celery) -> None:
    """Log each piece of advice once, at worker start."""
    for entry in advice(app):
        _LOG.warning("Celery setting %s", entry)


def transport_of(app: Celery) -> str:
    """Which broker the app's messages go to, as its URL says: `amqp`, `redis`, …"""
    return str(app.conf.broker_write_url or app.conf.broker_url or "amqp").partition(":")[0]


def is_rabbitmq(app: Celery) -> bool:
    return transport_of(app) in _RABBITMQ


def broker_waits_s(app: Celery) -> float | None:
    """For how long the broker waits for the acknowledgement of a message, as far as settings tell; None for ever.

    RabbitMQ's consumer timeout is a setting of the server. What a queue of the app says about its own counts; else
    the server is taken to have its default.
    """
    if is_rabbitmq(app):
        told = [(queue.queue_arguments or {}).get("x-consumer-timeout") for queue in app.amqp.queues.values()]
        return float(min([CONSUMER_TIMEOUT_S, *(timeout_ms / 1000 for timeout_ms in told if timeout_ms)]))
    if transport_of(app) in _REDIS:
        return float((app.conf.broker_transport_options or {}).get("visibility_timeout", VISIBILITY_TIMEOUT_S))
    return None


def default_limit_s(app: Celery) -> int | None:
    """The hard time limit of a stage where the app has none: five sixths of the time for which the broker waits."""
    waits_s = broker_waits_s(app)
    return None if waits_s is None else max(int(waits_s * 5 / 6), 1)


def _of_content(app: Celery) -> Iterator[Advice]:
    accepted = app.conf.accept_content
    if any(kind not in ("json", "application/json") for kind in accepted):
        danger = "whoever reaches the broker can run code in the workers with a pickle"
        yield Advice("accept_content", list(accepted), ["json"], danger)


def _of_messages(app: Celery) -> Iterator[Advice]:
    """What decides whether a message stays and finds its way."""
    conf = app.conf
    if is_rabbitmq(app) and not (conf.broker_transport_options or {}).get("confirm_publish"):
        danger = "messages vanish without an error while RabbitMQ is short of memory"
        yield Advice("broker_transport_options['confirm_publish']", False, True, danger)
    if is_rabbitmq(app) and conf.task_default_delivery_mode in (1, "transient"):
        danger = "messages vanish when RabbitMQ restarts"
        yield Advice("task_default_delivery_mode", conf.task_default_delivery_mode, "persistent", danger)
    for name, queue in sorted(app.amqp.queues.items()):
        if is_rabbitmq(app) and (not queue.durable or queue.auto_delete or queue.exclusive):
            danger = "the queue goes, with its messages, when RabbitMQ restarts or its last worker leaves"
            found = f"durable={queue.durable}, auto_delete={queue.auto_delete}, exclusive={queue.exclusive}"
            yield Advice(f"task_queues[{name!r}]", found, "durable, and neither auto_delete nor exclusive", danger)
    if conf.task_protocol != 2:
        danger = "callbacks, chains and chords of a job are lost on the way"
        yield Advice("task_protocol", conf.task_protocol, 2, danger)
    if conf.task_always_eager:
        danger = "jobs run in the process that launches them, and no worker ever gets one"
        yield Advice("task_always_eager", True, False, danger)


def _of_tries(app: Celery) -> Iterator[Advice]:
    """What stages set for themselves and an app can take from them, with `task_annotations`."""
    wanted = {
        "acks_late": (True, "the chunk of a worker that is killed is lost until a sweep finds it"),
        "reject_on_worker_lost": (True, "the chunk of a child that is killed is lost until a sweep finds it"),
        "retry_on_worker_lost": (False, "a chunk that kills its worker is run more than max_attempts times"),
    }
    for name, task in sorted(app.tasks.items()) if app.finalized else ():  # type: ignore[attr-defined]
        if hasattr(task, "fanout_task"):
            for setting, (value, danger) in wanted.items():
                if bool(getattr(task, setting, value)) is not value:
                    yield Advice(f"task_annotations[{name!r}][{setting!r}]", not value, value, danger)


def _of_time(app: Celery) -> Iterator[Advice]:
    """Who gives up first must be the worker, not the broker."""
    limit_s, waits_s = app.conf.task_time_limit, broker_waits_s(app)
    if limit_s is None or waits_s is None or limit_s < waits_s:
        return
    if is_rabbitmq(app):
        danger = "RabbitMQ closes the channel of a worker whose chunk takes longer than its consumer timeout"
        yield Advice("task_time_limit", limit_s, f"below {waits_s:g}", danger)
    else:
        danger = "a chunk that takes longer is delivered to a second worker while the first still runs"
        yield Advice("task_time_limit", limit_s, f"below the visibility timeout, {waits_s:g}", danger)


def _of_workers(app: Celery) -> Iterator[Advice]:
    conf = app.conf
    if conf.worker_prefetch_multiplier != 1:
        danger = "a busy worker sits on chunks that an idle one could run"
        yield Advice("worker_prefetch_multiplier", conf.worker_prefetch_multiplier, 1, danger)
    if conf.broker_connection_retry is False or conf.broker_connection_retry_on_startup is False:
        danger = "workers end when the broker restarts, or is late"
        setting = "broker_connection_retry" + ("" if conf.broker_connection_retry is False else "_on_startup")
        yield Advice(setting, False, True, danger)
    if transport_of(app) in _REDIS and not _get(conf, "worker_soft_shutdown_timeout"):
        danger = "what a worker holds when it is told to quit at once comes back only after the visibility timeout"
        yield Advice("worker_soft_shutdown_timeout", 0.0, "some seconds, such as 10", danger)
    elif transport_of(app) in _REDIS and not _get(conf, "worker_enable_soft_shutdown_on_idle"):
        danger = (
            "a worker that waits to retry a stage and is told to quit gives it back only after the visibility timeout"
        )
        yield Advice("worker_enable_soft_shutdown_on_idle", False, True, danger)


def _of_rabbitmq(app: Celery) -> Iterator[Advice]:
    conf = app.conf
    if not _get(conf, "broker_channel_error_retry"):
        danger = "a worker whose chunk outlives RabbitMQ's consumer timeout ends, with all its other chunks"
        yield Advice("broker_channel_error_retry", False, True, danger)
    quorum = [n for n, q in app.amqp.queues.items() if (q.queue_arguments or {}).get("x-queue-type") == "quorum"]
    if quorum and not _get(conf, "worker_detect_quorum_queues"):
        danger = f"a worker can't consume from {quorum[0]}: quorum queues know no global prefetch limit"
        yield Advice("worker_detect_quorum_queues", False, True, danger)


def _get(conf: Any, name: str) -> Any:
    """A setting that older versions of Celery do not have."""
    return conf.get(name)
