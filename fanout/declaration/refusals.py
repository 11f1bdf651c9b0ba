"""What Cerberus says against a document, as path -> reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class _Shown:
    """A refused value as far as a message needs it: Cerberus copies each one deeply, however large it is."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __deepcopy__(self, _: object) -> _Shown:
        return self

    def __format__(self, spec: str) -> str:
        return format(self._value, spec)


def lighten(errors: Iterable[Any]) -> None:
    """Free Cerberus' errors, and those in them, of the values that they carry, of which some can't be copied."""
    for error in errors:
        error.value = _Shown(error.value)
        if error.child_errors is None:
            error.info = tuple(map(_Shown, error.info))
        else:
            lighten(error.child_errors)


def collect(tree: Any, path: str, into: dict[str, list[str]]) -> None:
    """Flatten Cerberus' nested errors into path -> reasons."""
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


def in_order(errors: Mapping[str, Any], fields: tuple[str, ...]) -> list[str]:
    """The paths of errors in the order of the schema's fields, all others last."""
    rank = {name: index for index, name in enumerate(fields)}

    def place(path: str) -> int:
        return rank.get(path.split(".")[0].split("[")[0], len(rank))

    return sorted(errors, key=place)
