"""Checks of arguments, whose errors name the argument, what was given, and what it must be."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from ..errors import ConfigError


def check_count(name: str, value: object, *, least: int = 1) -> None:
    """Check that an argument is a whole number from `least`.

    Raises:
        ConfigError: It is not; names it.
    """
    if type(value) is not int or value < least:
        raise ConfigError(f"{name} must be a whole number from {least}, not {_show(value)}")


def check_number(name: str, value: object) -> None:
    """Check that an argument is a number from 0, and not a text or NaN.

    Raises:
        ConfigError: It is not; names it.
    """
    if not _is_number(value) or not value >= 0:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number from 0, not {_show(value)}")


def check_positive(name: str, value: object) -> None:
    """Check that an argument is a number over 0, and not a text or NaN.

    Raises:
        ConfigError: It is not; names it.
    """
    if not _is_number(value) or not value > 0:  # type: ignore[operator]
        raise ConfigError(f"{name} must be a number over 0, not {_show(value)}")


def check_timeout(value: object) -> None:
    """Check that a timeout is a number of seconds, or None.

    A negative one is allowed: callers take the time from their own deadline, which may have passed.

    Raises:
        ConfigError: It is not.
    """
    if value is not None and (not _is_number(value) or math.isnan(value)):  # type: ignore[arg-type]
        raise ConfigError(f"timeout must be a number of seconds, or None to wait without end, not {_show(value)}")


def check_flag(name: str, value: object) -> None:
    """Check that an argument is True or False. A text such as "no" would count as true.

    Raises:
        ConfigError: It is not; names it.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"{name} must be True or False, not {_show(value)}")


def check_text(name: str, value: object, *, example: str) -> None:
    """Check that an argument is text.

    Raises:
        ConfigError: It is not; names it and gives the example.
    """
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be text, such as {example}, not {_show(value)}")


def check_function(name: str, value: object, *, instead: str = "") -> None:
    """Check that an argument can be called.

    Args:
        name: The argument.
        value: Its value.
        instead: What it may be as well, for the error.

    Raises:
        ConfigError: It can't; names it.
    """
    if not callable(value):
        raise ConfigError(f"{name} must be {instead}a function, not {_show(value)}")


def check_kind(name: str, value: object, kind: type[Any] | tuple[type[Any], ...], *, expected: str) -> None:
    """Check that an argument is an instance of a class.

    Args:
        name: The argument.
        value: Its value.
        kind: The class, or several.
        expected: What the argument must be, in words.

    Raises:
        ConfigError: It is not; names it.
    """
    if not isinstance(value, kind):
        raise ConfigError(f"{name} must be {expected}, not {_show(value)}")


def _is_number(value: object) -> bool:
    # Numbers of NumPy and fractions are real numbers, too.
    return isinstance(value, Real) and not isinstance(value, bool)


def _show(value: object) -> str:
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"
