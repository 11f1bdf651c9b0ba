"""What the commands of `python -m benchmarks` share: their options, and the check for their packages."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.console import Console

    from .machine import Context
    from .site import Site

NEEDED = ("matplotlib", "psutil", "rich", "redis")
REMEDY = "pip install --group bench"
_UNITS = {"": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9}


class Sizes(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Sizes such as `1MB,1GB`; a plain number counts in `unit`."""

    name = "sizes"

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        try:
            return sorted({_bytes(part, self._unit) for part in str(value).split(",")})
        except ValueError:
            self.fail(f"{value!r}: give sizes such as 1MB,40MB or 1GB", param, ctx)


class Numbers(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Positive numbers such as `8,32`."""

    name = "numbers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> list[int]:
        if isinstance(value, list):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r}: give numbers such as 8,32,128", param, ctx)
        return sorted({int(part) for part in parts})


OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fanout-bench"),
    show_default=True,
    help="Directory for JSON lines and pictures.",
)
BROKER = click.option("--broker-url", help="A RabbitMQ of yours; its memory and counters are then not seen.")
STORE = click.option("--store-url", help="An s3:// URL of yours, with credentials as for boto3.")


@contextmanager
def opened_site(
    *, broker_url: str | None, store_url: str | None, capacity_bytes: int = 16 << 30, on_disk: bool = False
) -> Iterator[tuple[Site, Context]]:
    """The servers, and what they and the machine are; a server that is missing is an error of the command line."""
    from devstack import StackError

    from . import machine
    from .site import Site

    try:
        with (
            tempfile.TemporaryDirectory(prefix="fanout-bench-", ignore_cleanup_errors=True) as directory,
            Site.open(
                Path(directory),
                broker_url=broker_url,
                store_url=store_url,
                capacity_bytes=capacity_bytes,
                on_disk=on_disk,
            ) as site,
        ):
            yield site, machine.context(sys.argv[1:])
    except StackError as error:
        raise click.ClickException(str(error)) from error


def show(made: Iterable[object], drawn: Iterable[Path]) -> None:
    """Print tables, and the paths of pictures."""
    screen = console()
    for table in made:
        screen.print(table)
    for path in drawn:
        screen.print(f"  {path}")


def console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    # In a file or a narrow window a table is still a table.
    console.width = max(console.width, 140)
    return console


def check() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise click.ClickException(f"{', '.join(missing)} not installed: {REMEDY}")


def _bytes(text: str, unit: str) -> int:
    number = text.strip().rstrip("BGMkb")
    suffix = text.strip()[len(number) :].strip() or unit
    size = int(float(number) * _UNITS[suffix]) if suffix in _UNITS else 0
    if size <= 0:
        raise ValueError(text)
    return size
