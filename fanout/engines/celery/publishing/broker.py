"""Which broker an app's messages go through, as kombu says: settings spell it in many ways."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from celery import Celery

_UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker at one end of an app.

    Attributes:
        kind: kombu's name for the kind of server: `amqp`, `redis`, `sqs`, `memory`, …; `unknown` where what speaks to
            it is not installed.
        confirms: Whether kombu waits for the broker to confirm each message that Celery itself publishes.
        visibility_timeout_s: Seconds after which it delivers a message again that nobody has acknowledged, if it has
            such a limit.
    """

    kind: str
    confirms: bool
    visibility_timeout_s: float | None

    @property
    def is_rabbitmq(self) -> bool:
        """Whether it speaks RabbitMQ's protocol."""
        return self.kind == "amqp"

    @property
    def is_redis(self) -> bool:
        return self.kind == "redis"


def written_to(app: Celery) -> Broker:
    """The broker that an app's messages are sent to. Opens no connection."""
    return _broker(app.connection_for_write)


def read_from(app: Celery) -> Broker:
    """The broker that an app's workers take messages from, which may be another. Opens no connection."""
    return _broker(app.connection_for_read)


def _broker(connect: Callable[[], Any]) -> Broker:
    try:
        connection = connect()
        transport: Any = connection.get_transport_cls()
    except Exception:
        # A misspelt URL, or a package that is not installed: whoever connects is told.
        return Broker(_UNKNOWN, confirms=False, visibility_timeout_s=None)
    options = connection.transport_options or {}
    return Broker(
        str(transport.driver_type or _UNKNOWN).lower(),
        confirms=bool(options.get("confirm_publish")),
        visibility_timeout_s=_visibility_timeout_s(transport, options),
    )


def _visibility_timeout_s(transport: Any, options: dict[str, Any]) -> float | None:
    channel = getattr(transport, "Channel", None)
    # Redis has the default under the option's own name, SQS beside it.
    for name in ("default_visibility_timeout", "visibility_timeout"):
        default = getattr(channel, name, None)
        if isinstance(default, int | float):
            return float(options.get("visibility_timeout") or default)
    return None
