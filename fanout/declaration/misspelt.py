"""Attributes of a task class that look like an option and are none."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from ..errors import DeclarationError

LIKENESS = 0.85
"""Share of equal letters from which a name counts as a misspelt option, as `difflib` counts them."""


def refuse_misspelt_options(cls: type, options: Collection[str]) -> None:
    """Refuse an attribute that would be left out without a word, such as `tolerat = 3`.

    Args:
        cls: The task class; attributes of its bases and names with an underscore in front are not looked at.
        options: The names of all options.

    Raises:
        DeclarationError: An attribute is named almost like an option.
    """
    for name, value in vars(cls).items():
        if name in options or name.startswith("_") or callable(value) or isinstance(value, staticmethod | classmethod):
            continue
        for option in get_close_matches(name, options, n=1, cutoff=LIKENESS):
            raise DeclarationError(
                f"{cls.__qualname__}: {name} is no option: write {option}, or choose another name for your own"
            )
