"""`fanout bench`: the command line."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..report import readable

if TYPE_CHECKING:
    from rich.console import Console

    from .cases import Case
    from .record import Trial

NEEDED = ("matplotlib", "psutil", "rich", "redis")
REMEDY = "pip install 'fanout[bench]'"
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


@click.group()
def bench() -> None:
    """Measure what a job costs broker, store and processes, on servers started for it."""


_OUT = click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("fanout-bench"),
    show_default=True,
    help="Directory for JSON lines and pictures.",
)
_BROKER = click.option("--broker-url", help="A RabbitMQ of yours; its memory and counters are then not seen.")
_STORE = click.option("--store-url", help="An s3:// URL of yours, with credentials as for boto3.")


@bench.command()
@click.option("--quick", is_flag=True, help="1, 10 and 40 MB only, once; under 3 minutes on two cores.")
@click.option("--sizes", type=Sizes("MB"), default="1,10,40,100,256MB", show_default=True, help="At 32 chunks.")
@click.option("--chunks", type=Numbers(), default="8,32,128,512", show_default=True, help="At 10 MB.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs of each case.")
@click.option("--limit-gb", type=float, default=8.0, show_default=True, help="A broker that grows to this is stopped.")
@click.option("--timeout-s", type=float, default=600.0, show_default=True, help="A case that takes longer is stopped.")
@_BROKER
@_STORE
@_OUT
def memory(
    quick: bool,
    sizes: list[int],
    chunks: list[int],
    repeat: int,
    limit_gb: float,
    timeout_s: float,
    broker_url: str | None,
    store_url: str | None,
    out: Path,
) -> None:
    """The same word count with bare Canvas, with pre-sliced Canvas, with fanout: memory, bytes, time."""
    _check()
    from . import cases, pictures, table

    planned = cases.quick() if quick else cases.sweep(sizes, chunks, repeat=repeat)
    found = _measured(
        planned,
        out / "memory.jsonl",
        broker_url=broker_url,
        store_url=store_url,
        roles=["broker"],
        limit_gb=limit_gb,
        timeout_s=timeout_s,
    )
    _shown(found, [table.costs, table.footprints], pictures.memory, out)


@bench.command()
@click.option("--sizes", type=Sizes("MB"), default="100MB,1GB,10GB", show_default=True, help="Of the input.")
@click.option("--chunks", type=click.IntRange(1), default=256, show_default=True, help="For each GB of input.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs of each case.")
@click.option("--limit-gb", type=float, default=8.0, show_default=True, help="A broker that grows to this is stopped.")
@click.option("--timeout-s", type=float, default=3600.0, show_default=True, help="A case that takes longer is stopped.")
@_BROKER
@_STORE
@_OUT
def scale(
    sizes: list[int],
    chunks: int,
    repeat: int,
    limit_gb: float,
    timeout_s: float,
    broker_url: str | None,
    store_url: str | None,
    out: Path,
) -> None:
    """A word count over text that nobody ever has whole: memory stays flat while the input grows."""
    _check()
    from . import cases, pictures, table

    found = _measured(
        cases.streams(sizes, chunks=chunks, repeat=repeat),
        out / "scale.jsonl",
        broker_url=broker_url,
        store_url=store_url,
        roles=["broker", "caller", "setup", "join"],
        limit_gb=limit_gb,
        timeout_s=timeout_s,
    )
    _shown(found, [table.streams], pictures.scale, out)


@bench.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def draw(directory: Path) -> None:
    """Show the tables and draw the pictures of earlier results again."""
    _check()
    from . import pictures, record, table

    if (directory / "memory.jsonl").exists():
        _shown(record.read(directory / "memory.jsonl"), [table.costs, table.footprints], pictures.memory, directory)
    if (directory / "scale.jsonl").exists():
        _shown(record.read(directory / "scale.jsonl"), [table.streams], pictures.scale, directory)


def _measured(
    planned: Sequence[Case],
    results: Path,
    *,
    broker_url: str | None,
    store_url: str | None,
    roles: Sequence[str],
    limit_gb: float,
    timeout_s: float,
) -> list[Trial]:
    from ..stack import StackError
    from . import machine, sweep
    from .site import Site

    console = _console()
    results.parent.mkdir(parents=True, exist_ok=True)
    # Objects, and what is left of those that were just deleted.
    capacity_bytes = max(16 << 30, 4 * max(case.size_bytes for case in planned))
    console.print(f"{len(planned)} cases, each in fresh processes; results go to {results}")
    count = iter(range(1, len(planned) + 1))

    def show(trial: Trial) -> None:
        case = trial.case
        said = f"{trial.wall_s:.2f} s, {'right' if trial.right else 'WRONG'}" if trial.wall_s else trial.reason
        console.print(f"  {next(count):>3}  {case.variant} {readable(case.size_bytes)} × {case.chunks}: {said}")

    try:
        with (
            tempfile.TemporaryDirectory(prefix="fanout-bench-", ignore_cleanup_errors=True) as directory,
            Site.open(
                Path(directory), broker_url=broker_url, store_url=store_url, capacity_bytes=capacity_bytes
            ) as site,
        ):
            return sweep.run(
                planned,
                site,
                context=machine.context(sys.argv[1:]),
                results=results,
                roles=roles,
                limit_bytes=int(limit_gb * 1e9),
                timeout_s=timeout_s,
                show=show,
            )
    except StackError as error:
        raise click.ClickException(str(error)) from error


def _shown(
    found: Sequence[Trial],
    tables: Sequence[Callable[[Sequence[Trial]], object]],
    draw_all: Callable[[Sequence[Trial], Path], list[Path]],
    out: Path,
) -> None:
    console = _console()
    for made in tables:
        console.print(made(found))
    for path in draw_all(found, out):
        console.print(f"  {path}")
    if any(trial.right is False for trial in found):
        raise click.ClickException("an answer was wrong")


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=True)
    # In a file or a narrow window a table is still a table.
    console.width = max(console.width, 140)
    return console


def _check() -> None:
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
