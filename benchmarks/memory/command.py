"""`python -m benchmarks memory` and `python -m benchmarks scale`: the command line."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanout.report import format_size

from ..options import BROKER, OUT, STORE, Numbers, Sizes, check, console, opened_site, show

if TYPE_CHECKING:
    from .cases import Case
    from .record import Trial

_DISK_BYTES_A_BYTE = 1.6
"""Of disk for the largest input of `scale`, in a gateway that has deleted the one before."""


@click.command()
@click.option("--quick", is_flag=True, help="1, 10 and 40 MB only, once; under 3 minutes on two cores.")
@click.option("--sizes", type=Sizes("MB"), default="1,10,40,100,256MB", show_default=True, help="At 32 chunks.")
@click.option("--chunks", type=Numbers(), default="8,32,128,512", show_default=True, help="At 10 MB.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="Runs of each case.")
@click.option("--limit-gb", type=float, default=8.0, show_default=True, help="A broker that grows to this is stopped.")
@click.option("--timeout-s", type=float, default=600.0, show_default=True, help="A case that takes longer is stopped.")
@BROKER
@STORE
@OUT
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
    check()
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
        on_disk=False,
    )
    _shown(found, [table.costs, table.footprints], pictures.memory, out)


@click.command()
@click.option("--sizes", type=Sizes("MB"), default="100MB,1GB,10GB", show_default=True, help="Of the input.")
@click.option("--chunks", type=click.IntRange(1), default=256, show_default=True, help="For each GB of input.")
@click.option("--repeat", type=click.IntRange(1), default=1, show_default=True, help="Runs of each case.")
@click.option("--limit-gb", type=float, default=8.0, show_default=True, help="A broker that grows to this is stopped.")
@click.option("--timeout-s", type=float, default=3600.0, show_default=True, help="A case that takes longer is stopped.")
@BROKER
@STORE
@OUT
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
    check()
    from . import cases, pictures, table

    found = _measured(
        cases.streams(sizes, chunks=chunks, repeat=repeat),
        out / "scale.jsonl",
        broker_url=broker_url,
        store_url=store_url,
        roles=["broker", "caller", "setup", "join"],
        limit_gb=limit_gb,
        timeout_s=timeout_s,
        on_disk=True,
    )
    _shown(found, [table.streams], pictures.scale, out)


def draw(directory: Path) -> None:
    """Show the tables and draw the pictures of earlier results again, those that are there."""
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
    on_disk: bool,
) -> list[Trial]:
    from . import sweep

    screen = console()
    results.parent.mkdir(parents=True, exist_ok=True)
    # Objects, and what is left of those that were just deleted.
    largest = max(case.size_bytes for case in planned)
    capacity_bytes = max(16 << 30, 2 * largest)
    if on_disk and store_url is None:
        _check_disk(tempfile.gettempdir(), int(_DISK_BYTES_A_BYTE * largest))
    screen.print(f"{len(planned)} cases, each in fresh processes; results go to {results}")
    count = iter(range(1, len(planned) + 1))

    def tell(trial: Trial) -> None:
        case = trial.case
        said = f"{trial.wall_s:.2f} s, {'right' if trial.right else 'WRONG'}" if trial.wall_s else trial.reason
        screen.print(f"  {next(count):>3}  {case.variant} {format_size(case.size_bytes)} × {case.chunks}: {said}")

    with opened_site(broker_url=broker_url, store_url=store_url, capacity_bytes=capacity_bytes, on_disk=on_disk) as (
        site,
        context,
    ):
        return sweep.run(
            planned,
            site,
            context=context,
            results=results,
            roles=roles,
            limit_bytes=int(limit_gb * 1e9),
            timeout_s=timeout_s,
            show=tell,
        )


def _check_disk(directory: str, needed: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise click.ClickException(
            f"the store needs {format_size(needed)} of disk, and {directory} has {format_size(free)}: set TMPDIR to a "
            "directory with more, choose smaller --sizes, or give a --store-url"
        )


def _shown(
    found: Sequence[Trial],
    tables: Sequence[Callable[[Sequence[Trial]], object]],
    draw_all: Callable[[Sequence[Trial], Path], list[Path]],
    out: Path,
) -> None:
    show((made(found) for made in tables), draw_all(found, out))
    if any(trial.right is False for trial in found):
        raise click.ClickException("an answer was wrong")
