"""Options that are given to a signature, and which of them the messages for process and join have as well.

Celery knows one message a task; a job has many. Where they go, how urgent they are, how long a step may take, and what
they are marked with is meant for all of them: that is their *routing*, which is kept with the job's intent. When setup
starts, what follows the join and whether its result is kept stays with the message for setup and its continuation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from celery import Celery
from celery.exceptions import QueueNotFound
from kombu.utils import json

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
"""Options that all messages of a job have. The stamps of a stamped signature are further ones."""

_STAMPS = "stamped_headers"

_LIMITS = ("time_limit", "soft_time_limit")

_REMEDIES = {
    "serializer": "the messages of a job are JSON; leave it out",
    "expiration": "a message that the broker throws away leaves a job that stands still: give expires=, which is "
    "put on record",
}


def extract_routing(options: Mapping[str, Any], app: Celery, *, task: str) -> dict[str, Any]:
    """Those of the options that all messages of a job have, in a form that can be put on record.

    Args:
        options: What was given to the signature.
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
    # Celery takes queues and exchanges as objects, too.
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
            raise ConfigError(f"{name}= can't be put on record: {error!s:.200}") from error
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
    """The options that no message of a job can have -> why, and what to do."""
    found: dict[str, str] = {}
    for name, given in options.items():
        if given is None:
            continue
        if name in _REMEDIES and (name, given) != ("serializer", "json"):
            found[name] = f"{name}={given!r:.80} can't be given to a fork-join task: {_REMEDIES[name]}"
        elif name in _LIMITS and (isinstance(given, bool) or not isinstance(given, int | float) or not given > 0):
            found[name] = f"{name} must be a number of seconds over 0, not {given!r:.80}"
        elif name == "priority" and (type(given) is not int or not 0 <= given <= 255):
            found[name] = f"priority must be a whole number from 0 to 255, not {given!r:.80}"
        elif name == "headers" and not (isinstance(given, Mapping) and all(isinstance(key, str) for key in given)):
            found[name] = f"headers must be a mapping of names, not {given!r:.80}"
    return found


def check_send_options(options: Mapping[str, Any]) -> None:
    """Refuse what `submit` can't hand on.

    Raises:
        ConfigError: Names the option and the remedy.
    """
    unknown = sorted(set(options) - set(ROUTING))
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


def to_timestamp(when: datetime | str | float | None) -> float | None:
    """A time as Celery's options give it (a date, its ISO form, or seconds from now), in seconds since the epoch."""
    if when is None:
        return None
    if isinstance(when, int | float):
        return time.time() + when
    date = datetime.fromisoformat(when) if isinstance(when, str) else when
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def select_recordable(options: dict[str, Any]) -> dict[str, Any]:
    """Those options that say something and can be written down."""
    return {name: value for name, value in options.items() if value is not None and name not in NOT_RECORDED}
