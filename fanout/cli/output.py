"""The output of commands: tables for people, JSON for programs, a status line while a command works."""

from __future__ import annotations

import base64
import json
import math
import pprint
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

WIDEST_FIXED = 40
"""Characters of a cell, such as an id, for which its column keeps its width in a narrow table."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


def print_document(document: Any) -> None:
    """Print one JSON document over several lines."""
    click.echo(json.dumps(to_json(document), indent=2, ensure_ascii=False))


def print_line(document: Any) -> None:
    """Print one JSON document in a line of its own."""
    click.echo(json.dumps(to_json(document), ensure_ascii=False))


def print_value(value: Any, *, as_json: bool) -> None:
    """Print the value of a job: text as it is, anything else as Python writes it, or all as JSON."""
    if as_json:
        print_document(value)
    else:
        click.echo(value if isinstance(value, str) else pprint.pformat(value, sort_dicts=False))


def to_json(value: Any) -> Any:
    """Return a value in JSON's types: keys as text, tuples and sets as arrays, bytes as base64, NaN as null.

    Dataclasses become objects, arrays of NumPy become arrays, and other values text.
    """
    if value is None or isinstance(value, bool | int | str):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Sequence | Set):
        return [to_json(each) for each in value]
    if is_dataclass(value) and not isinstance(value, type):
        return to_json(asdict(value))
    if hasattr(value, "tolist"):
        return to_json(value.tolist())
    return to_json(value.value) if isinstance(value, Enum) else str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table that fits the terminal, or 80 columns where there is none.

    The last column takes the rest of the width, and its cells go over several lines if they must.

    Args:
        columns: The heads.
        rows: The cells.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, head in enumerate(columns):
        widest = max([len(head), *(len(row[index]) for row in rows)])
        is_last = index == len(columns) - 1
        table.add_column(head, overflow="fold", min_width=None if is_last else min(widest, WIDEST_FIXED))
    for row in rows:
        table.add_row(*map(Text, row))
    _console().print(table)


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and facts, a line or more for each."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        table.add_row(Text(name), Text(text))
    _console().print(table)


def note(text: str) -> None:
    """Print a remark for people to standard error, so that standard output holds only the answer."""
    click.echo(text, err=True)


class StatusLine:
    """A line on standard error that says how far a command is; on a terminal it is one line that changes.

    Args:
        status: The line on a terminal; None for plain lines.
    """

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._last = ""

    @property
    def is_live(self) -> bool:
        """Whether there is a terminal."""
        return self._status is not None

    def show(self, text: str, *, plain: bool = True) -> None:
        """Show a text. Without a terminal it is printed if it is new and `plain`."""
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(text))
        elif plain and text != self._last:
            note(text)
        self._last = text


@contextmanager
def status_line(text: str = "") -> Iterator[StatusLine]:
    """Yield the status line of a command. On a terminal it shows a text at once, and is gone afterwards."""
    if not sys.stderr.isatty():
        yield StatusLine(None)
        return
    from rich.console import Console
    from rich.text import Text

    with Console(stderr=True).status(Text(text)) as status:
        yield StatusLine(status)


def format_age(at: float, *, now: float | None = None) -> str:
    """Return how long ago a time was, in one unit: `5s`, `3m`, `2h`, `4d`."""
    seconds = max(0.0, (time.time() if now is None else now) - at)
    for unit, length_s in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length_s:
            return f"{seconds // length_s:.0f}{unit}"
    return f"{seconds:.0f}s"


def format_time(at: float) -> str:
    """Return a time in UTC as text, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=False)
