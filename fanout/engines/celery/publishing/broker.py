"""The broker that an app uses, by kombu's own account, since settings spell it in many ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker that an app publishes to, or consumes from.

    Attributes:
        kind: kombu's name of the kind of server: `amqp`, `redis`, `sqs`, `memory`, …; `unknown` if the package for it
            is not installed.
        confirms: Whether kombu waits for the broker to confirm each message that Celery itself publishes.
        visibility_timeout_s: Seconds after which the broker redelivers an unacknowledged message; None if it has no
            such limit.
    """

    kind: str
    confirms: bool
    visibility_timeout_s: float | None

    @property
    def is_rabbitmq(self) -> bool:
        """Whether the broker speaks AMQP, as RabbitMQ does."""
        return self.kind == "amqp"

    @property
    def is_redis(self) -> bool:
        """Whether the broker is Redis."""
        return self.kind == "redis"


def broker_for_write(app: Celery) -> Broker:
    """Return the broker that an app publishes to. Opens no connection."""
    return _describe(app.connection_for_write)


def broker_for_read(app: Celery) -> Broker:
    """Return the broker that an app's workers consume from, which may be another. Opens no connection."""
    return _describe(app.connection_for_read)


def _describe(connect: Callable[[], Any]) -> Broker:
    try:
        connection = connect()
        transport: Any = connection.get_transport_cls()
    except Exception:
        # A misspelt URL, or a package that is not installed. The first connection will raise the error.
        return Broker(_UNKNOWN, confirms=False, visibility_timeout_s=None)
    options = connection.transport_options or {}
    return Broker(
        str(transport.driver_type or _UNKNOWN).lower(),
        confirms=bool(options.get("confirm_publish")),
        visibility_timeout_s=_visibility_timeout_s(transport, options),
    )


def _visibility_timeout_s(transport: Any, options: dict[str, Any]) -> float | None:
    channel = getattr(transport, "Channel", None)
    # Redis's channel has the default under the option's own name, SQS's under a longer one.
    for name in ("default_visibility_timeout", "visibility_timeout"):
        default = getattr(channel, name, None)
        if isinstance(default, int | float):
            return float(options.get("visibility_timeout") or default)
    return None
