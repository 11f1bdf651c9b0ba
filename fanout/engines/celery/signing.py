"""Signatures of messages: with them, access to a queue alone runs nothing.

A caller or a worker that sends a message of fanout's puts a message authentication code into a header. It covers the
task, its arguments, the tasks that follow, and all headers that a worker acts upon. A worker that requires signatures
drops a message without a valid one before it asks the store for anything.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Final

from celery import Celery
from celery.exceptions import Ignore
from celery.signals import before_task_publish
from kombu.utils import json

from ...config.settings import Config
from ...errors import ConfigError
from ...records.record import FORMAT
from .current_app import ATTRIBUTE, CONNECTED
from .envelope import EMBEDDED, Body
from .headers import FORMAT_HEADER, MESSAGE_HEADER, OVERRAN_HEADER, REQUEUED_HEADER, SIGNATURE_HEADER, STORE_HEADER

_LOG = logging.getLogger(__name__)

_HEADERS: Final = (
    *("id", "eta", "expires", "group", "group_index", "retries", "timelimit", "root_id", "parent_id"),
    *("ignore_result", "replaced_task_nesting", "reply_to"),
    *(FORMAT_HEADER, MESSAGE_HEADER, OVERRAN_HEADER, REQUEUED_HEADER, STORE_HEADER),
)
"""Headers that a worker acts upon, and the property that names the queue to which it sends the result."""

_FORM: Final = re.compile(r"([A-Za-z0-9._-]{1,32}):([0-9]{1,12}):([0-9a-f]{64})")
_AHEAD_S: Final = 300.0
"""Seconds by which a sender's clock may be ahead of a worker's."""


class BadSignature(ValueError):
    """A message has no valid signature."""


def sign(keys: Mapping[str, str], task: str, facts: str, *, at: int) -> str:
    """Return the header's value for a message: its code with the first of the keys.

    Args:
        keys: Id of a key -> the secret.
        task: Name of the message's Celery task.
        facts: The rest of the message; see `describe`.
        at: When it is signed, in seconds since the epoch.
    """
    key_id = next(iter(keys))
    return f"{key_id}:{at}:{_code(keys[key_id], task, facts, at)}"


def check(
    value: object, keys: Mapping[str, str], task: str, facts: Callable[[], str], *, max_age_s: float | None
) -> None:
    """Check a message's signature with the key that it names.

    Args:
        value: The header's value.
        keys: Id of a key -> the secret.
        task: Name of the message's Celery task.
        facts: Returns the rest of the message; see `describe`.
        max_age_s: Age at which a signature expires; None for never.

    Raises:
        BadSignature: The message is not signed, by no known key, altered or too old. Repeats nothing of the message.
    """
    match = _FORM.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise BadSignature("it is not signed")
    key_id, at, code = match[1], int(match[2]), match[3]
    if key_id not in keys:
        raise BadSignature(f"it is signed with the key {key_id!r}, which is not among signing_keys")
    if not hmac.compare_digest(code, _code(keys[key_id], task, facts(), at)):
        raise BadSignature("it was altered, or signed with another secret")
    age_s = time.time() - at
    if max_age_s is not None and not -_AHEAD_S <= age_s <= max_age_s:
        raise BadSignature(f"it was signed {age_s:.0f} s ago, and signature_max_age_s is {max_age_s:g}")


def describe(args: Any, kwargs: Any, embedded: Mapping[str, Any], headers: Mapping[str, Any]) -> str:
    """Return what a signature covers of a message as canonical JSON.

    A message has the same form before it is sent and after: values that JSON changes are changed first.

    Args:
        args: Its arguments.
        kwargs: Its keyword arguments.
        embedded: Its body's third part, with the tasks that follow.
        headers: Its headers.
    """
    covered = [
        args,
        kwargs,
        {name: embedded.get(name) or None for name in EMBEDDED},
        {name: headers.get(name) for name in _HEADERS if headers.get(name) not in (None, "")},
    ]
    return json.dumps(json.loads(json.dumps(covered)), sort_keys=True, separators=(",", ":"))


def check_message(task: str, body: Body, headers: Mapping[str, Any], config: Config) -> None:
    """Check the signature of a message that a worker has received, if the settings require one.

    Args:
        task: Name of its Celery task.
        body: Its parts.
        headers: Its headers, and its property `reply_to`.
        config: The worker's settings.

    Raises:
        BadSignature: It has no valid one.
    """
    if not config.require_signatures:
        return
    check(
        headers.get(SIGNATURE_HEADER),
        config.signing_keys,
        task,
        lambda: describe(body.args, body.kwargs, body.embedded, headers),
        max_age_s=config.signature_max_age_s,
    )


def check_request(task: str, request: Any, config: Config, *, args: Any, kwargs: Any) -> None:
    """Check the signature of the message of a request; see `check_message`.

    Args:
        task: Name of its Celery task.
        request: Celery's request. It has the headers of its message and the third part of its body side by side.
        config: The worker's settings.
        args: The arguments that the task gets. A forged message could name others in the request.
        kwargs: The keyword arguments that the task gets.

    Raises:
        BadSignature: It has no valid one.
    """
    fields = {name: request.get(name) for name in (*_HEADERS, *EMBEDDED, SIGNATURE_HEADER)}
    check_message(task, Body(args, kwargs, fields), fields, config)


def drop_unless_signed(task: Any, config: Config, *, args: Any, kwargs: Any) -> None:
    """Drop the message that a Celery task handles if it has no valid signature; see `check_request`. Logs a line.

    A worker's main process has checked it, too. This is for workers whose consumer is not Celery's.

    Raises:
        Ignore: It was dropped.
    """
    if _EAGER.get():
        return
    try:
        check_request(task.name, task.request, config, args=args, kwargs=kwargs)
    except BadSignature as error:
        _LOG.warning("%s: dropped a message: %s", task.name, error)
        raise Ignore from None


def _code(secret: str, task: str, facts: str, at: int) -> str:
    return hmac.digest(secret.encode(), f"{task}\n{at}\n{facts}".encode(), hashlib.sha256).hex()


_EAGER: ContextVar[bool] = ContextVar("fanout_eager", default=False)


@contextmanager
def running_eagerly() -> Iterator[None]:
    """Run a task in its caller inside the block, without a message. Its request says so, too, but could be forged."""
    token = _EAGER.set(True)
    try:
        yield
    finally:
        _EAGER.reset(token)


_SENDING: ContextVar[Celery | None] = ContextVar("fanout_sending", default=None)


@contextmanager
def sending(app: Celery) -> Iterator[None]:
    """Sign messages that are sent inside the block with this app's key, since Celery's signal does not tell the app."""
    token = _SENDING.set(app)
    try:
        yield
    finally:
        _SENDING.reset(token)


@before_task_publish.connect
def _finish_message(
    sender: Any = None, body: Any = None, headers: Any = None, properties: Any = None, **_: Any
) -> None:
    """Give a message of fanout's its format on its way to the broker, and sign it if its app has keys."""
    with suppress(ConfigError):
        # Celery itself sends what follows in a chain, and `celery beat` the sweep.
        app = _SENDING.get() or CONNECTED.choose()
        extension = getattr(app, ATTRIBUTE, None)
        is_ours = STORE_HEADER in headers or getattr(app.tasks.get(sender), "is_of_fanout", False)
        if is_ours:
            # A message that an older worker gives back keeps its format.
            headers.setdefault(FORMAT_HEADER, FORMAT)
        keys = extension.signing_keys if extension is not None and is_ours else {}
        if keys and isinstance(body, tuple | list) and len(body) == len(("args", "kwargs", "embedded")):
            args, kwargs, embedded = body
            facts = describe(args, kwargs, embedded, {**headers, "reply_to": (properties or {}).get("reply_to")})
            headers[SIGNATURE_HEADER] = sign(keys, sender, facts, at=int(time.time()))
