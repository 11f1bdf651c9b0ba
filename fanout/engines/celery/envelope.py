"""What surrounds a message's arguments: Celery's own headers, and the body's third part with the tasks that follow.

Celery copies headers, and then every name of the body's third part, into the request that a task sees. So a forged name
could replace the arguments that a signature covers, or claim that the task runs in its caller. fanout's messages
therefore have known names only, each of its type. Pure functions: no store, no broker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from celery.app.task import Context

from .headers import FORMAT_HEADER, MESSAGE_HEADER, OVERRAN_HEADER, REQUEUED_HEADER, SIGNATURE_HEADER, STORE_HEADER
from .messages import abbreviate

EMBEDDED: Final = ("callbacks", "errbacks", "chain", "chord")
"""Names of the body's third part."""

DEEPEST: Final = 200
"""Most levels of lists and mappings in a message. Celery pickles it for its pool, which stops for good at some 500."""

_LONGEST_TEXT: Final = 4096
"""Longest text of a header, in characters, but for the texts by which monitors show arguments."""


class Body(NamedTuple):
    """The three parts of a message's body.

    Attributes:
        args: The arguments.
        kwargs: The keyword arguments.
        embedded: The tasks that follow, by the names of `EMBEDDED`.
    """

    args: list[Any] | tuple[Any, ...]
    kwargs: dict[str, Any]
    embedded: dict[str, Any]


def check_headers(headers: Mapping[str, Any]) -> None:
    """Check the headers of a message of fanout's. Others, such as those of tracing, may have any value.

    Raises:
        ValueError: A header of Celery's or fanout's has another type, or a header would replace a part of the request.
            Names the header, in at most some 200 characters.
    """
    for name, value in headers.items():
        check = _HEADERS.get(name)
        if check is None:
            if name in _RESERVED:
                raise ValueError(f"header {name} belongs to the request, and no message has it")
        elif value is not None and not check(value):
            raise ValueError(f"header {name} is {abbreviate(value)}")


def check_depth(value: object) -> None:
    """Check how deeply lists and mappings are nested in a message, without recursion.

    Raises:
        ValueError: There are more than `DEEPEST` levels.
    """
    level = [value]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, list | tuple | dict)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return
    raise ValueError(f"it is nested in more than {DEEPEST} levels")


def check_essentials(headers: Mapping[str, Any]) -> None:
    """Check the headers of any task that a worker's main process rests on: a wrong one would end it, or cost it a slot.

    Raises:
        ValueError: Names the header.
    """
    for name in ("id", "timelimit", "stamped_headers", "stamps"):
        value = headers.get(name)
        if not (_HEADERS[name](value) or (value is None and name != "id")):
            raise ValueError(f"header {name} is {abbreviate(value)}")


def read_body(payload: object) -> Body:
    """Return the parts of a decoded body of Celery's second protocol, the only one that fanout's messages use.

    Raises:
        ValueError: It has another form. Says which part, in at most some 200 characters.
    """
    if not isinstance(payload, list | tuple) or len(payload) != len(Body._fields):
        raise ValueError(f"its body is {abbreviate(payload)}, not arguments, keyword arguments and following tasks")
    args, kwargs, embedded = payload
    if not isinstance(args, list | tuple):
        raise ValueError(f"arguments: {abbreviate(args)} is no list")
    if not isinstance(kwargs, dict):
        raise ValueError(f"keyword arguments: {abbreviate(kwargs)} is no mapping")
    if embedded is not None and not isinstance(embedded, dict):
        raise ValueError(f"following tasks: {abbreviate(embedded)} is no mapping")
    for name, value in (embedded or {}).items():
        if name not in EMBEDDED:
            raise ValueError(f"following tasks have an entry {abbreviate(name)}, which no message has")
        for signature in value if isinstance(value, list | tuple) else [] if value is None else [value]:
            if not isinstance(signature, dict) or not isinstance(signature.get("task"), str):
                raise ValueError(f"{name}: {abbreviate(signature)} is no signature of a task")
    return Body(args, kwargs, embedded or {})


def _is_text(value: object) -> bool:
    # Names and ids are written into logs, where a line break would begin a line of the sender's.
    return isinstance(value, str) and len(value) <= _LONGEST_TEXT and value.isprintable()


def _is_index(value: object) -> bool:
    return type(value) is int and 0 <= value < 1_000_000


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < 10**9  # type: ignore[operator]


def _is_limits(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == len(("hard", "soft"))
        and all(limit is None or _is_seconds(limit) for limit in value)
    )


def _is_stamps(value: object) -> bool:
    """Return whether a value is stamps: name -> values that can be looked up."""
    return isinstance(value, dict) and all(
        type(item) in (str, int, float, bool, type(None))
        for items in value.values()
        for item in (items if isinstance(items, list | tuple) else [items])
    )


def _is_a(*kinds: type) -> Callable[[object], bool]:
    return lambda value: type(value) in kinds


_HEADERS: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("id", "task", "lang", "root_id", "parent_id", "group", "shadow", "origin"), _is_text),
    **dict.fromkeys(("eta", "expires", MESSAGE_HEADER, SIGNATURE_HEADER, STORE_HEADER), _is_text),
    **dict.fromkeys(("argsrepr", "kwargsrepr"), _is_a(str)),
    **dict.fromkeys(("group_index", "retries", "replaced_task_nesting", FORMAT_HEADER, REQUEUED_HEADER), _is_index),
    OVERRAN_HEADER: _is_seconds,
    "timelimit": _is_limits,
    "ignore_result": _is_a(bool),
    "stamped_headers": lambda value: isinstance(value, list | tuple) and all(map(_is_text, value)),
    "stamps": _is_stamps,
    "compression": _is_text,
}
"""Header -> whether a value is one that it may have, beside None."""

_RESERVED: Final = frozenset(name for name in dir(Context) if name not in _HEADERS)
