"""Types of a record's fields, checked when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_MOST = 2**64
"""An index, a size or a count is below this."""


def check_fields(kind: Any, body: Mapping[str, Any]) -> None:
    """Refuse a mapping whose values are not of the types that a dataclass declares.

    A whole number may stand for a float, and a mapping for another dataclass of records, whose fields are checked too.

    Args:
        kind: The dataclass.
        body: The fields by name. Names that the dataclass does not have are left to it.

    Raises:
        ValueError: A value has another type, or a number is no index, size or count. Names the field.
    """
    if not isinstance(body, dict):
        raise ValueError(f"a mapping is expected, not {body!r:.80}")
    hints = _hints(kind)
    for name, value in body.items():
        if name in hints and not _fits(value, hints[name]):
            raise ValueError(f"{name} is no {hints[name]}: {value!r:.80}")


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _fits(value: Any, hint: Any) -> bool:
    if hint is Any:
        return True
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        return any(_fits(value, each) for each in inner)
    if origin is dict:
        names, values = inner
        return type(value) is dict and all(_fits(name, names) for name in value) and _fit(value.values(), values)
    if origin in (list, tuple):
        return type(value) is origin and _fit(value, inner[0])
    if hint is int:
        return type(value) is int and 0 <= value < _MOST
    if hint is float:
        return type(value) in (int, float)
    return type(value) is (type(None) if hint is None else hint)


def _fit(values: Any, hint: Any) -> bool:
    return hint is Any or all(_fits(value, hint) for value in values)
