"""Registered classes of users: each has a name, by which a process that registered it restores its values."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Unregistrable


class AdapterError(Exception):
    """An adapter refuses a value, or contents that do not fit its class; the text gives the reason."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """Functions that encode and decode values of one class.

    Attributes:
        name: Name of the class in the bytes. Nothing is imported by it: a reader looks it up in its own registry.
        type: The exact class; a subclass is another class.
        encode: Returns a plainer value, of anything that travels.
        decode: The reverse.
    """

    name: str
    type: type[Any]
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class TypeRegistry:
    """The adapters of a process. Safe for use from several threads."""

    def __init__(self) -> None:
        self._by_type: dict[type[Any], Adapter] = {}
        self._by_name: dict[str, Adapter] = {}
        self._lock = threading.Lock()

    def add(self, adapter: Adapter) -> None:
        """Let values of the adapter's class travel from now on.

        A class with the same module and qualified name is the same class, made anew by a reload. Values are restored as
        the latest one, and those of the earlier one still travel.

        Raises:
            Unregistrable: Another class has the name, or the class has another name.
        """
        with self._lock:
            same_name = self._by_name.get(adapter.name)
            if same_name is not None and origin_of(same_name.type) != origin_of(adapter.type):
                raise Unregistrable(
                    f"two classes would travel as {adapter.name!r}: {origin_of(same_name.type)} "
                    f"and {origin_of(adapter.type)}",
                    remedy="Give one of them another name: register_type(cls, name=…).",
                )
            same_type = self._by_type.get(adapter.type)
            if same_type is not None and same_type.name != adapter.name:
                raise Unregistrable(
                    f"{origin_of(adapter.type)} travels as {same_type.name!r} already, and not as {adapter.name!r}",
                    remedy="Register a class once, under one name.",
                )
            self._by_name[adapter.name] = adapter
            self._by_type[adapter.type] = adapter

    def of(self, of: type[Any]) -> Adapter | None:
        """Return the adapter of exactly this class, or None."""
        return self._by_type.get(of)

    def named(self, name: str) -> Adapter | None:
        """Return the adapter of that name, or None. Nothing is imported to find it."""
        return self._by_name.get(name)


def origin_of(of: type[Any]) -> str:
    """Return the module of a class and its name there.

    The main script is `__main__`, in the processes that it spawns too.
    """
    module = "__main__" if of.__module__ == "__mp_main__" else of.__module__
    return f"{module}.{of.__qualname__}"


TYPES = TypeRegistry()
"""The classes of this process. Registering a class adds to it, as importing a module does to `sys.modules`."""
