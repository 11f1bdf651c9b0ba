"""Options of the command line whose text is a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_UNITS = {"": 1_000_000, "kB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_list(parse: Callable[[str], Any], remedy: str) -> Callable[..., Any]:
    """Return the callback of an option whose text is a list such as `1MB,1GB`."""

    def convert(ctx: click.Context, param: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else tuple(parse(part.strip()) for part in text.split(","))
        except (ValueError, KeyError) as error:
            raise click.BadParameter(f"{text!r}: give {remedy}") from error

    return convert


def parse_size(text: str) -> int:
    number = text.rstrip("BGMk")
    return parse_positive(str(int(float(number) * _UNITS[text[len(number) :]])))


def parse_positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise ValueError(text)
    return int(text)
