"""The classes of users that travel: each under a name, by which a process that knows the class restores it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import Unregistrable


class AdapterError(Exception):
    """An adapter refuses a value, or contents that its class has no place for; the text says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """How values of one class travel.

    Attributes:
        name: What the bytes call the class. Nothing is imported by it: a reader looks it up among its own.
        type: The exact class; a subclass is another class.
        encode: Value to a plainer one, of anything that travels.
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

        A class of the same module and qualified name is the same one, made anew by a reload: values are restored as
        the latest, and those of the former still travel.

        Raises:
            Unregistrable: Another class has the name, or the class has another name.
        """
        with self._lock:
            known = self._by_name.get(adapter.name)
            if known is not None and origin_of(known.type) != origin_of(adapter.type):
                raise Unregistrable(
                    f"two classes would travel as {adapter.name!r}: {origin_of(known.type)} "
                    f"and {origin_of(adapter.type)}",
                    remedy="Give one of them another name: register_type(cls, name=…).",
                )
            former = self._by_type.get(adapter.type)
            if former is not None and former.name != adapter.name:
                raise Unregistrable(
                    f"{origin_of(adapter.type)} travels as {former.name!r} already, and can't as {adapter.name!r} too",
                    remedy="Register a class once, under one name.",
                )
            self._by_name[adapter.name] = adapter
            self._by_type[adapter.type] = adapter

    def of(self, of: type[Any]) -> Adapter | None:
        """The adapter of exactly this class, or None."""
        return self._by_type.get(of)

    def named(self, name: str) -> Adapter | None:
        """The adapter of that name, or None. Nothing is imported to find it."""
        return self._by_name.get(name)


def origin_of(of: type[Any]) -> str:
    """Where a class comes from: its module and its name there.

    The script that is run is `__main__`, in the processes that it spawns too.
    """
    module = "__main__" if of.__module__ == "__mp_main__" else of.__module__
    return f"{module}.{of.__qualname__}"


TYPES = TypeRegistry()
"""The classes of this process. Registering one adds to it, as importing a module does to `sys.modules`."""
