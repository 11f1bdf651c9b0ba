"""An extension type: how values of one type travel as a msgpack extension."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class ExtensionTypeError(Exception):
    """A value of a type that travels cannot; the text gives the reason."""


@dataclass(frozen=True, slots=True)
class ExtensionType:
    """One type of value that travels as a msgpack extension.

    Attributes:
        code: msgpack's extension code. Part of the wire format: never reuse or renumber one.
        type: The exact type; subclasses are other types.
        take_apart: Returns a plainer value: one that msgpack packs itself, or one of another extension type.
        put_together: The reverse.
        is_unordered: The plainer value is a list whose order means nothing.
        is_framed: The plainer value is a pair: the contents, and a plain scalar about them.
        is_buffered: The plainer value is a list of plain values and, last, a `buffers.Buffer`. `put_together` gets a
            memoryview instead of that: the fetched bytes themselves, not a copy.
        form: Type of the plainer value, or the types of the members of a list, with `object` for any. Another value is
            refused before `put_together` sees it: a constructor would take a range of 2**40 numbers for a list.
    """

    code: int
    type: type[Any]
    take_apart: Callable[[Any], Any]
    put_together: Callable[[Any], Any]
    is_unordered: bool = False
    is_framed: bool = False
    is_buffered: bool = False
    form: Any = list

    def check_form(self, plain: Any) -> None:
        """Refuse a plainer value of another form.

        Raises:
            ValueError: It has another form.
        """
        if not isinstance(self.form, tuple):
            fits = type(plain) is self.form
        else:
            fits = type(plain) is list and len(plain) == len(self.form)
            fits = fits and all(of in (object, type(each)) for of, each in zip(self.form, plain, strict=True))
        if not fits:
            raise ValueError(f"a value of extension type {self.code} has another form")
