"""The slow look at a value: names what cannot travel, and spells out what a packer would confuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ..errors import Unencodable
from .adapters import is_registrable
from .extension_types import ExtensionType, ExtensionTypeError, extension_type_of

# Shared with the packer and the decoder: a level costs each of them some Python frames, and what was
# written at the bottom of one stack must be readable deep in another.
MAX_DEPTH: Final = 100

_PLAIN: Final = frozenset({type(None), bool, float, str, bytes})
_BYTES_LIKE: Final = frozenset({bytearray, memoryview})
_NESTED: Final = frozenset({list, dict})
_SHOWN_CHARACTERS: Final = 40


def fits(value: int) -> bool:
    """Return whether msgpack has an integer of this size."""
    return -(2**63) <= value < 2**64


class Diagnosis:
    """Walks one value from the outside in and remembers where it is.

    Args:
        extend: Makes an extension of a kind from the plainer value, all of it spelled out already.
        replace: Returns a replacement for an object of no known kind, or raises `ExtensionTypeError`.
    """

    def __init__(self, *, extend: Callable[[ExtensionType, Any], Any], replace: Callable[[object], object]) -> None:
        self._extend = extend
        self._replace = replace
        self._open: set[int] = set()

    def spell_out(self, value: object, *, path: str) -> Any:
        """Return the value as a tree of plain values, lists, dicts and extensions.

        Args:
            value: What to look at.
            path: What the caller calls it.

        Raises:
            Unencodable: It holds something that cannot travel, contains itself, or is nested deeper
                than 100 levels; the error names the path.
        """
        kind = type(value)
        if kind in _PLAIN or (type(value) is int and fits(value)):
            return value
        if kind in _BYTES_LIKE:
            return bytes(value)  # type: ignore[call-overload]
        if id(value) in self._open:
            raise Unencodable(f"{path} contains itself", path=path, remedy="Break the cycle first.")
        if len(self._open) >= MAX_DEPTH:
            raise Unencodable(
                f"{path} is nested deeper than {MAX_DEPTH} levels",
                path=path,
                remedy="Flatten the value first.",
            )
        self._open.add(id(value))
        try:
            return self._opened(value, path)
        except ExtensionTypeError as refusal:
            reason = str(refusal)
            because = f": {reason}" if reason else ""
            remedy = None if reason else remedy_for(kind)
            raise Unencodable(
                f"{path} is a {kind.__module__}.{kind.__qualname__}, which cannot travel{because}",
                path=path,
                remedy=remedy,
            ) from refusal.__cause__
        finally:
            self._open.discard(id(value))

    def _opened(self, value: Any, path: str) -> Any:
        if type(value) is list:
            return self._members(value, path)
        if type(value) is dict:
            return self._entries(value, path)
        kind = extension_type_of(type(value))
        if kind is None:
            return self.spell_out(self._replace(value), path=path)
        plain = kind.take_apart(value)
        if kind.is_buffered:
            return self._extend(kind, plain)
        if kind.is_framed:
            contents, about = plain
            plainer = self._opened(contents, path) if type(contents) in _NESTED else self.spell_out(contents, path=path)
            return self._extend(kind, [plainer, about])
        if kind.is_unordered:
            return self._extend(kind, [self.spell_out(member, path=f"{path}.<member>") for member in plain])
        plainer = self._opened(plain, path) if type(plain) in _NESTED else self.spell_out(plain, path=path)
        return self._extend(kind, plainer)

    def _members(self, values: list[Any], path: str) -> list[Any]:
        members = []
        # A comprehension would cost a frame of its own for each level.
        for index, member in enumerate(values):
            members.append(self.spell_out(member, path=f"{path}[{index}]"))
        return members

    def _entries(self, values: dict[Any, Any], path: str) -> dict[Any, Any]:
        entries = {}
        for key, member in values.items():
            name = self.spell_out(key, path=f"{path}.<key {_shown(key)}>")
            entries[name] = self.spell_out(member, path=path + _step(key))
        return entries


def remedy_for(of: type[Any]) -> str | None:
    """Return what to do about values of a class that do not travel; None for what is true of any."""
    if not is_registrable(of):
        return None
    name = of.__name__
    return f"Register its class: types = ({name},) on the task, or fanout.register_type({name})."


def _step(key: object) -> str:
    return f".{key}" if type(key) is str and key.isidentifier() else f"[{_shown(key)}]"


def _shown(key: object) -> str:
    # The repr of a foreign object may be anything, of any length, or fail.
    if type(key) in (str, int, bool, float, type(None), bytes):
        shown = ascii(key)
        return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
    return f"a {type(key).__qualname__}"
