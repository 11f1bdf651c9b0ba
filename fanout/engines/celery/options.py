"""Options of a signature, and which of them the messages for process and join get as well.

Celery sends one message per task; a job has many. Options that say where messages go, how urgent they are, how long a
step may take, and how they are marked apply to all of them. These are the job's *routing*, which its intent holds. The
tasks that follow the join, and whether its result is kept, stay with setup's message and the continuation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound
from kombu.utils import json

from ...config.checks import check_kind
from ...errors import ConfigError

ROUTING = (
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "headers",
    "compression",
    "delivery_mode",
    "time_limit",
    "soft_time_limit",
)
"""Options of every message of a job. The stamps of a stamped signature are further ones."""

_STAMPS = "stamped_headers"

_LIMITS = ("time_limit", "soft_time_limit")

_REMEDIES = {
    "serializer": "the messages of a job are JSON; leave it out",
    "expiration": "a message that the broker discards leaves a job that never runs: give expires=, which the job's "
    "intent holds",
}


def extract_routing(options: Mapping[str, Any], app: Celery, *, task: str) -> dict[str, Any]:
    """Return the options that every message of a job gets, as JSON-plain data.

    Args:
        options: The signature's options.
        app: The app that sends.
        task: Name of the Celery task that they were given for.

    Raises:
        ConfigError: An option would break the job, or has a value that no message can have. Names it and the remedy.
    """
    check_options(options)
    stamps = options.get(_STAMPS) or ()
    routing = {name: options[name] for name in (*ROUTING, *stamps) if options.get(name) is not None}
    if stamps:
        routing[_STAMPS] = list(stamps)
    # Celery also accepts queues and exchanges as objects.
    for name in ("queue", "exchange"):
        if name in routing:
            routing[name] = str(getattr(routing[name], "name", routing[name]))
    if "queue" in routing:
        try:
            app.amqp.router.route({"queue": routing["queue"]}, task)
        except QueueNotFound as error:
            raise ConfigError(f"queue={routing['queue']!r:.80} is not among the app's task_queues: {error}") from error
    for name, value in routing.items():
        try:
            json.dumps(value)
        except Exception as error:
            raise ConfigError(f"{name}= can't be stored with the job: {error!s:.200}") from error
    return routing


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse the options that no message of a job can have.

    Raises:
        ConfigError: Names each option and the remedy.
    """
    refused = find_refused(options)
    if refused:
        raise ConfigError("; ".join(refused.values()))


def find_refused(options: Mapping[str, Any]) -> dict[str, str]:
    """Return the options that no message of a job can have -> why, and the remedy."""
    refused: dict[str, str] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name in _REMEDIES and (name, value) != ("serializer", "json"):
            refused[name] = f"{name}={value!r:.80} can't be given to a fork-join task: {_REMEDIES[name]}"
        elif name in _LIMITS and (isinstance(value, bool) or not isinstance(value, int | float) or not value > 0):
            refused[name] = f"{name} must be a number of seconds over 0, not {value!r:.80}"
        elif name == "priority" and (type(value) is not int or not 0 <= value <= 255):
            refused[name] = f"priority must be a whole number from 0 to 255, not {value!r:.80}"
        elif name in ("queue", "exchange") and not isinstance(getattr(value, "name", value), str):
            refused[name] = f"{name} must be its name, not {value!r:.80}"
        elif name == "headers" and not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
            refused[name] = f"headers must be a mapping with string keys, not {value!r:.80}"
    return refused


def check_send_options(options: Mapping[str, Any]) -> None:
    """Refuse options that `submit` cannot pass on.

    Raises:
        ConfigError: Names the option and the remedy.
    """
    check_kind("send_options", options, Mapping, expected='a mapping of options, as {"queue": "large"}')
    unknown = sorted(str(name) for name in set(options) - set(ROUTING))
    if unknown:
        raise ConfigError(
            f"send_options can't have {', '.join(unknown)}; there are {', '.join(ROUTING)}. "
            "Give others to the signature: Task.signature(values).set(…)"
        )


NOT_RECORDED = (
    "connection",
    "add_to_parent",
    "result_cls",
    "publisher",
    "router",
    "countdown",
    "eta",
    "expires",
    # The limits of the caller that launches. A sweep has its own.
    "retry",
    "retry_policy",
    "timeout",
    "confirm_timeout",
)
"""Options of one send, or of this process, that a job's records do not hold."""


def to_timestamp(when: datetime | str | float | None) -> float | None:
    """Return a time in seconds since the epoch.

    Args:
        when: A time as Celery's options give it: a date, its ISO form, or seconds from now.
    """
    if when is None:
        return None
    if isinstance(when, int | float):
        return time.time() + when
    date = datetime.fromisoformat(when) if isinstance(when, str) else when
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def select_recordable(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have a value and can be recorded."""
    return {name: value for name, value in options.items() if value is not None and name not in NOT_RECORDED}
