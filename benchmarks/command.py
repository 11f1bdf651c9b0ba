"""The command line: a command for each comparison, `draw`, `growth` and `plan`."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from devstack import StackError

from .comparisons import COMPARISONS, Comparison
from .contenders import CONTENDERS
from .figures import Case, name_workload, show_size
from .growth.command import growth
from .lists import parse_list, parse_positive, parse_size
from .machine import describe_context
from .pictures import draw_pictures
from .planned import plan
from .run import Run, keep_other_runs, read_runs
from .servers import Site
from .session import run_comparison
from .tables import make_tables

_DISK_BYTES_A_BYTE = 1.6
"""Of disk for the largest input of `scale`, in a store that has deleted the one before."""


_SIZES = click.option(
    "--sizes", callback=parse_list(parse_size, "sizes such as 1MB,40MB or 1GB"), help="Of the input, such as 1MB,1GB."
)
_CHUNKS = parse_list(parse_positive, "numbers such as 8,32,128")
_CHOICE = parse_list(lambda name: CONTENDERS[name].name, f"names of contenders, of {', '.join(CONTENDERS)}")
_OUT = click.Path(file_okay=False, path_type=Path)
_OPTIONS: dict[str, list[Callable[..., Any]]] = {
    "memory": [_SIZES, click.option("--chunks", callback=_CHUNKS, help="Numbers of chunks at 10 MB, such as 8,32.")],
    "scale": [_SIZES, click.option("--chunks", type=click.IntRange(1), help="For each GB; 256 if not given.")],
    "sources": [_SIZES],
    "job": [click.option("--profile", is_flag=True, help="Record where the time goes as well.")],
}
"""Options that one command has alone."""
_COMMON = [
    click.option("--quick", is_flag=True, help="Less, once; about 3 minutes on two idle cores."),
    click.option("--repeat", type=click.IntRange(1), help="Repetitions, each in fresh processes."),
    click.option("--contenders", callback=_CHOICE, help="Only these, such as fanout,ray."),
    click.option("--timeout-s", type=float, help="A longer run is stopped."),
    click.option("--limit-gb", type=float, default=8.0, show_default=True, help="A larger broker is stopped."),
    click.option("--broker-url", help="A RabbitMQ of yours; its memory and counters are then not seen."),
    click.option("--store-url", help="An s3:// URL of yours, with credentials as for boto3."),
    click.option("--out", type=_OUT, default=Path("fanout-bench"), show_default=True, help="For lines and pictures."),
]


@click.group()
def bench() -> None:
    """Measure what a job costs broker, store and processes, and how fast it is, on servers started for it."""


@bench.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def draw(directory: Path) -> None:
    """Show the tables and draw the pictures of earlier results again."""
    for name, make in COMPARISONS.items():
        path = directory / f"{name}.jsonl"
        if path.exists():
            _show(make(quick=False), read_runs(path), directory)


def _add_command(name: str, make: Callable[..., Comparison]) -> None:
    def command(
        quick: bool,
        repeat: int | None,
        contenders: tuple[str, ...] | None,
        timeout_s: float | None,
        limit_gb: float,
        broker_url: str | None,
        store_url: str | None,
        out: Path,
        profile: bool = False,
        **sizes: Any,
    ) -> None:
        given = {option: value for option, value in sizes.items() if value is not None}
        comparison = make(quick=quick, **given).select(contenders or ())
        comparison = replace(
            comparison,
            repeat=repeat or comparison.repeat,
            timeout_s=timeout_s or comparison.timeout_s,
            limit_bytes=int(limit_gb * 1e9),
        )
        screen = Console(highlight=False, soft_wrap=True)
        out.mkdir(parents=True, exist_ok=True)
        results = out / f"{comparison.name}.jsonl"
        try:
            runs = keep_other_runs(results, comparison.cases)
        except ValueError as error:
            raise click.ClickException(f"{results}: {error}; give another --out") from error
        with _open_site(comparison, broker_url, store_url) as site, results.open("w") as lines:
            screen.print(f"{len(comparison.sessions)} sessions, {comparison.repeat} times; results go to {results}")
            lines.writelines(run.to_line() + "\n" for run in runs)
            context = describe_context(sys.argv[1:])
            for run in run_comparison(comparison, site, profile=profile):
                runs.append(replace(run, context=context))
                lines.write(runs[-1].to_line() + "\n")
                lines.flush()
                screen.print(_tell(comparison, run))
        _show(comparison, runs, out)

    for option in reversed(_OPTIONS.get(name, []) + _COMMON):
        command = option(command)
    bench.command(name, help=make.__doc__)(command)


for _name, _make in COMPARISONS.items():
    _add_command(_name, _make)
bench.add_command(growth)
bench.add_command(plan)


@contextmanager
def _open_site(comparison: Comparison, broker_url: str | None, store_url: str | None) -> Iterator[Site]:
    """Start the servers; a server or a disk that is missing is an error of the command line."""
    largest = max((workload.size_bytes for _, workload in comparison.cases), default=0)
    needed, free = int(_DISK_BYTES_A_BYTE * largest), shutil.disk_usage(tempfile.gettempdir()).free
    if comparison.on_disk and store_url is None and free < needed:
        raise click.ClickException(
            f"the store needs {show_size(needed)} of disk, and {tempfile.gettempdir()} has {show_size(free)}: set "
            "TMPDIR to a directory with more, choose smaller --sizes, or give a --store-url"
        )
    store = {"capacity_bytes": max(16 << 30, 2 * largest), "on_disk": comparison.on_disk}
    try:
        with (
            tempfile.TemporaryDirectory(prefix="fanout-bench-", ignore_cleanup_errors=True) as directory,
            Site.open(Path(directory), broker_url=broker_url, store_url=store_url, **store) as site,
        ):
            yield site
    except StackError as error:
        raise click.ClickException(str(error)) from error


def _tell(comparison: Comparison, run: Run) -> Text:
    figure = comparison.figure.text(Case(run.contender, run.workload, (run,)))
    said = run.reason or f"{comparison.figure.heading} {figure}{'' if run.right else ', WRONG'}"
    label = f"{CONTENDERS[run.contender].label}, {name_workload(run.workload)}{' (recorded)' * run.recorded}"
    return Text(f"  {run.repetition}  {label}: {said}")


def _show(comparison: Comparison, runs: Sequence[Run], out: Path) -> None:
    screen = Console(highlight=False)
    for table in make_tables(comparison, runs):
        screen.print(table, "")
    for path in draw_pictures(comparison.name, runs, out):
        screen.print(f"  {path}", soft_wrap=True)
    if any(run.right is False for run in runs):
        raise click.ClickException("an answer was wrong")
