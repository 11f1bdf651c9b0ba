"""What a Celery app's settings should be for fork-join jobs, and the danger where they differ."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from celery import Celery

from ...config import CONSUMER_TIMEOUT_S

_LOG = logging.getLogger("fanout")


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
    conf = app.conf
    found: list[Advice] = []
    transport = (conf.broker_write_url or conf.broker_url or "amqp").partition(":")[0]
    rabbitmq = transport in ("amqp", "amqps", "pyamqp")
    content = [kind for kind in conf.accept_content if kind not in ("json", "application/json")]
    if content:
        found.append(
            Advice(
                "accept_content",
                list(conf.accept_content),
                ["json"],
                "whoever reaches the broker can run code in the workers with a pickle",
            )
        )
    if rabbitmq and not (conf.broker_transport_options or {}).get("confirm_publish"):
        found.append(
            Advice(
                "broker_transport_options['confirm_publish']",
                False,
                True,
                "messages vanish without an error while RabbitMQ is short of memory",
            )
        )
    limit_s = conf.task_time_limit
    if rabbitmq and (limit_s is None or limit_s >= CONSUMER_TIMEOUT_S):
        found.append(
            Advice(
                "task_time_limit",
                limit_s,
                f"below {CONSUMER_TIMEOUT_S}",
                "RabbitMQ closes the channel of a worker whose chunk takes longer than its consumer timeout",
            )
        )
    visibility_s = (conf.broker_transport_options or {}).get("visibility_timeout", 3600)
    if transport in ("redis", "rediss") and (limit_s is None or limit_s >= visibility_s):
        found.append(
            Advice(
                "task_time_limit",
                limit_s,
                f"below the visibility timeout, {visibility_s}",
                "a chunk that takes longer is delivered to a second worker while the first still runs",
            )
        )
    if conf.worker_prefetch_multiplier != 1:
        found.append(
            Advice(
                "worker_prefetch_multiplier",
                conf.worker_prefetch_multiplier,
                1,
                "a busy worker sits on chunks that an idle one could run",
            )
        )
    return found


def warn(app: Celery) -> None:
    """Log each piece of advice once, at worker start."""
    for entry in advice(app):
        _LOG.warning("Celery setting %s", entry)
