"""Classes of users whose values may travel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import storage
from storage import Unregistrable

from ..errors import DeclarationError

T = TypeVar("T", bound=type[Any])


def register_type(
    cls: T,
    *,
    name: str | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
) -> T:
    """Let values of a class travel: in a task's input, items, results and value, at any depth.

    Dataclasses, attrs classes, named tuples, enums and Pydantic models need nothing else, and may be named in the
    `types` of a task instead. Another class needs `encode` and `decode`. The value that arrives is equal and of the
    same class. Its state is restored, and no constructor runs. The encoded bytes hold only the class's name, and a
    process looks that up among the classes that it has registered. So callers and workers both call this function,
    best where the class is defined. It can be used as a decorator. A second call is harmless.

    Args:
        cls: The class. Each subclass is registered on its own.
        name: The class's name in encoded bytes, for as long as such bytes exist; module and class name if not given.
        encode: Turns a value into a value that travels, such as a dict of its attributes.
        decode: Turns what `encode` returned into the value.

    Returns:
        The class.

    Raises:
        DeclarationError: The class can't be registered like this; says why.
    """
    try:
        return storage.register_type(cls, name=name, encode=encode, decode=decode)
    except Unregistrable as error:
        raise DeclarationError(str(error)) from error


def register_types(task: str, types: object) -> None:
    """Register the `types` of a task.

    Args:
        task: Name of the task.
        types: The classes.

    Raises:
        DeclarationError: Names the task and the class.
    """
    if not isinstance(types, Iterable) or isinstance(types, type):
        raise DeclarationError(f"{task}: types must name classes, as in types = (Point,), not {types!r:.80}")
    for each in types:
        try:
            register_type(each)
        except DeclarationError as error:
            raise DeclarationError(f"{task}: types: {error}") from error
