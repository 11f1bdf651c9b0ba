"""The slow path of encoding: names values that cannot travel, and spells out those that the packer cannot."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, Final

from ..errors import Unencodable
from .adapters import is_registrable
from .extension import ExtensionType, ExtensionTypeError
from .extension_types import extension_type_of

# Shared with the packer and the decoder. Each level costs both some Python frames, and a value written at the bottom of
# one stack must be readable deep in another.
MAX_DEPTH: Final = 100

_PLAIN: Final = frozenset({type(None), bool, float, str, bytes})
_BYTES_LIKE: Final = frozenset({bytearray, memoryview})
_NESTED: Final = frozenset({list, dict})
_SHOWN_CHARACTERS: Final = 40
_NAME_CHARACTERS: Final = 40
_CLASS_CHARACTERS: Final = 30
_PATH_CHARACTERS: Final = 60
_REASON_CHARACTERS: Final = 90
"""Most characters of a key or a value, of a class with and without its module, of a path and of a reason."""
_EXCERPTS: Final = reprlib.Repr()


def fits_msgpack(value: int) -> bool:
    """Return whether msgpack has an integer of this size."""
    return -(2**63) <= value < 2**64


class Diagnosis:
    """A walk over one value from the outside in that keeps the path.

    Args:
        extend: Returns an extension of a type for a plainer value that is spelled out already.
        replace: Returns a replacement for an object that does not travel, or raises `ExtensionTypeError`.
    """

    def __init__(self, *, extend: Callable[[ExtensionType, Any], Any], replace: Callable[[object], object]) -> None:
        self._extend = extend
        self._replace = replace
        self._open: set[int] = set()

    def spell_out(self, value: object, *, path: str) -> Any:
        """Return the value as a tree of plain values, lists, dicts and extensions.

        Args:
            value: The value.
            path: Its path, for errors.

        Raises:
            Unencodable: It holds something that cannot travel, contains itself, or is nested deeper than 100 levels.
                The error names the path.
        """
        value_type = type(value)
        if value_type in _PLAIN or (type(value) is int and fits_msgpack(value)):
            return value
        if value_type in _BYTES_LIKE:
            return bytes(value)  # type: ignore[call-overload]
        if id(value) in self._open:
            raise Unencodable(f"{shorten_path(path)} contains itself", path=path, remedy="Break the cycle first.")
        if len(self._open) >= MAX_DEPTH:
            raise Unencodable(
                f"{shorten_path(path)} is nested deeper than {MAX_DEPTH} levels",
                path=path,
                remedy="Flatten the value first.",
            )
        self._open.add(id(value))
        try:
            return self._spell_out_contents(value, path)
        except ExtensionTypeError as refusal:
            reason = str(refusal)
            because = f": {_cut(reason, _REASON_CHARACTERS)}" if reason else ""
            excerpt = "" if reason else _excerpt(value)
            remedy = None if reason else remedy_for(value_type)
            raise Unencodable(
                f"{shorten_path(path)} is a {_name(value_type)}{excerpt}, which cannot travel{because}",
                path=path,
                remedy=remedy,
            ) from refusal.__cause__
        finally:
            self._open.discard(id(value))

    def _spell_out_contents(self, value: Any, path: str) -> Any:
        if type(value) is list:
            return self._spell_out_members(value, path)
        if type(value) is dict:
            return self._spell_out_entries(value, path)
        extension = extension_type_of(type(value))
        if extension is None:
            return self.spell_out(self._replace(value), path=path)
        plain = extension.take_apart(value)
        if extension.is_buffered:
            return self._extend(extension, plain)
        if extension.is_framed:
            contents, about = plain
            plainer = (
                self._spell_out_contents(contents, path)
                if type(contents) in _NESTED
                else self.spell_out(contents, path=path)
            )
            return self._extend(extension, [plainer, about])
        if extension.is_unordered:
            return self._extend(extension, [self.spell_out(member, path=f"{path}.<member>") for member in plain])
        plainer = self._spell_out_contents(plain, path) if type(plain) in _NESTED else self.spell_out(plain, path=path)
        return self._extend(extension, plainer)

    def _spell_out_members(self, values: list[Any], path: str) -> list[Any]:
        members = []
        # A comprehension would cost a frame of its own per level.
        for index, member in enumerate(values):
            members.append(self.spell_out(member, path=f"{path}[{index}]"))
        return members

    def _spell_out_entries(self, values: dict[Any, Any], path: str) -> dict[Any, Any]:
        entries = {}
        for key, member in values.items():
            name = self.spell_out(key, path=f"{path}.<key {_show(key)}>")
            entries[name] = self.spell_out(member, path=path + _path_step(key))
        return entries


def shorten_path(path: str) -> str:
    """Return a path for the text of an error: its beginning and its end if it is long."""
    half = _PATH_CHARACTERS // 2
    return path if len(path) <= _PATH_CHARACTERS else f"{path[:half]}…{path[-half:]}"


def remedy_for(of: type[Any]) -> str | None:
    """Return the remedy for values of a class that do not travel, or None if there is no special one."""
    if not is_registrable(of):
        return None
    name = _cut(of.__name__, _CLASS_CHARACTERS)
    return f"Register it: types = ({name},) on the task, or fanout.register_type({name})."


def _path_step(key: object) -> str:
    return f".{key}" if type(key) is str and key.isidentifier() else f"[{_show(key)}]"


def _show(key: object) -> str:
    # The repr of an unknown object may be any text of any length, or fail.
    if type(key) in (str, int, bool, float, type(None), bytes):
        shown = ascii(key)
        return _cut(shown, _SHOWN_CHARACTERS)
    return f"a {type(key).__qualname__}"


def _name(of: type[Any]) -> str:
    name = f"{of.__module__}.{of.__qualname__}"
    if len(name) <= _NAME_CHARACTERS:
        return name
    end = name[-_NAME_CHARACTERS:]
    return f"…{end.partition('.')[2] or end}"


def _excerpt(value: object) -> str:
    """Return the beginning of a value's own text in brackets; nothing if it has none of its own."""
    if type(value).__repr__ is object.__repr__:
        return ""
    try:
        # Numbers and containers are cut before their text is made.
        shown = _EXCERPTS.repr(value)
    except Exception:
        return ""
    return f" ({_cut(' '.join(shown.encode('ascii', 'backslashreplace').decode().split()), _SHOWN_CHARACTERS)})"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else f"{text[:characters]}…"
