"""Cerberus' errors about a document, as path -> reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MOST_PARAMETERS = 1_000
"""Most parameters of a job. Many values are one parameter: a list or a mapping."""
LONGEST_NAME = 200
"""Longest name of a parameter, in characters."""


class _FormattedOnly:
    """A refused value that can be formatted, and that copies without cost.

    Cerberus makes a deep copy of each refused value, however large.
    """

    def __init__(self, value: Any) -> None:
        self._value = value

    def __deepcopy__(self, _: object) -> _FormattedOnly:
        return self

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)


def check_names(values: Mapping[Any, Any]) -> dict[str, list[str]]:
    """Return the refusal of an input with too many parameters, or with a name that is too long; empty if there is none.

    Cerberus would describe each of them, and its time grows with the square of their number.
    """
    if len(values) > MOST_PARAMETERS:
        reason = f"has {len(values)} parameters, and a job has at most {MOST_PARAMETERS}: pass a mapping as one of them"
        return {"input": [reason]}
    longest = max((name for name in values if isinstance(name, str)), key=len, default="")
    if len(longest) > LONGEST_NAME:
        shown = ascii(longest[:40])
        return {"input": [f"has a name of {len(longest)} characters, {shown}…, and the most are {LONGEST_NAME}"]}
    return {}


def lighten(errors: Iterable[Any]) -> None:
    """Make Cerberus' errors, and their child errors, cheap to copy. Some values can't be copied at all."""
    for error in errors:
        error.value = _FormattedOnly(error.value)
        if error.child_errors is None:
            error.info = tuple(map(_FormattedOnly, error.info))
        else:
            lighten(error.child_errors)


def collect(tree: Any, path: str, into: dict[str, list[str]]) -> None:
    """Add Cerberus' nested errors to `into`, as path -> reasons."""
    if isinstance(tree, Mapping):
        for key, below in tree.items():
            step = f"[{key}]" if isinstance(key, int) else (f".{key}" if path else str(key))
            collect(below, path + step, into)
        return
    for entry in tree:
        if isinstance(entry, Mapping):
            collect(entry, path, into)
        else:
            into.setdefault(path, []).append(str(entry))


def sort_paths(errors: Mapping[str, Any], fields: tuple[str, ...]) -> list[str]:
    """Return the paths of errors in the order of the schema's fields, all others last."""
    rank = {name: index for index, name in enumerate(fields)}

    def position(path: str) -> int:
        return rank.get(path.split(".")[0].split("[")[0], len(rank))

    return sorted(errors, key=position)
