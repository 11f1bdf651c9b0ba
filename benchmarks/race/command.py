"""`python -m benchmarks job`, `overhead`, `wordcount`, `store`, `shape`, `tiny`: the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..options import BROKER, OUT, STORE, check, console, opened_site, show

if TYPE_CHECKING:
    from .lap import Lap
    from .races import Race

NAMES = ("job", "overhead", "wordcount", "store", "shape", "tiny")


class Entries(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """Names of entries such as `fanout,ray`."""

    name = "entries"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        from .entries import ENTRIES

        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        unknown = [name for name in names if name not in ENTRIES]
        if unknown:
            self.fail(f"no such entry: {', '.join(unknown)}; there are {', '.join(ENTRIES)}", param, ctx)
        return names


def _raced(command: Callable[..., None]) -> Callable[..., None]:
    """The options that all races have."""
    for option in (
        OUT,
        STORE,
        BROKER,
        click.option("--timeout-s", type=float, default=120.0, show_default=True, help="A longer run is stopped."),
        click.option("--entries", type=Entries(), default=(), help="Only these, such as fanout,ray; all if not given."),
        click.option("--turns", type=click.IntRange(1), help="Starts of each entry; 3, or 1 if quick."),
        click.option("--quick", is_flag=True, help="Less, once; under 3 minutes on two idle cores."),
    ):
        command = option(command)
    return command


@click.command()
@click.option("--profile", is_flag=True, help="Record where the time goes as well: a bar for each stage.")
@_raced
def job(profile: bool, **options: Any) -> None:
    """A job of one empty chunk on warm workers, and a word count of 40 MB: wall time, and CPU time by process."""
    _run("job", profile=profile, **options)


@click.command()
@_raced
def overhead(**options: Any) -> None:
    """What an empty chunk costs: ours, a Celery group, a Celery chord on Redis, Dask, Ray, Lithops."""
    _run("overhead", **options)


@click.command()
@_raced
def wordcount(**options: Any) -> None:
    """40 MB of text in 32 parts: plain Python, a pool, Ray, Dask, Lithops, Canvas, ours."""
    _run("wordcount", **options)


@click.command()
@_raced
def store(**options: Any) -> None:
    """Our encoding, packing and checking of bytes against the same client alone, up and down."""
    _run("store", **options)


@click.command()
@_raced
def shape(**options: Any) -> None:
    """600 steps that wait, on 32 threads: the speed-up over a serial run."""
    _run("shape", **options)


@click.command()
@_raced
def tiny(**options: Any) -> None:
    """A million items of 20 bytes, cut as each entry sees fit."""
    _run("tiny", **options)


COMMANDS = (job, overhead, wordcount, store, shape, tiny)


def draw(directory: Path) -> None:
    """Show the tables and draw the pictures of earlier results again, those that are there."""
    from . import lap

    for name in NAMES:
        path = directory / f"{name}.jsonl"
        if path.exists():
            _shown(name, lap.read(path), directory)


def _run(
    name: str,
    *,
    quick: bool,
    turns: int | None,
    entries: tuple[str, ...],
    timeout_s: float,
    broker_url: str | None,
    store_url: str | None,
    out: Path,
    profile: bool = False,
) -> None:
    check()
    from .races import RACES

    race = RACES[name](quick=quick).only(entries)
    turns = turns or (1 if quick else 3)
    found = _laps(race, turns, out, timeout_s, profile=profile, broker_url=broker_url, store_url=store_url)
    _shown(name, found, out)


def _laps(
    race: Race, turns: int, out: Path, timeout_s: float, *, profile: bool, broker_url: str | None, store_url: str | None
) -> list[Lap]:
    from . import heat

    screen = console()
    out.mkdir(parents=True, exist_ok=True)
    results = out / f"{race.name}.jsonl"
    screen.print(f"{len(race.entries)} entries, {turns} × in fresh processes; results go to {results}")
    found: list[Lap] = []
    with (
        opened_site(broker_url=broker_url, store_url=store_url) as (site, context),
        results.open("w") as lines,
    ):
        for turn in range(1, turns + 1):
            for entry in race.entries:
                for recorded in (False, True) if profile else (False,):
                    for lap in heat.run(race, entry, turn, site, timeout_s=timeout_s, profile=recorded):
                        kept = replace(lap, context=context)
                        lines.write(kept.to_line() + "\n")
                        lines.flush()
                        found.append(kept)
                        screen.print(f"  {_told(race.name, kept)}{' (recorded)' if recorded else ''}")
    return found


def _told(race: str, lap: Lap) -> str:
    from rich.markup import escape

    from .figures import FIGURES
    from .lap import Completion
    from .table import named

    one = Completion(lap.entry, lap.load, (lap,))
    right = "" if lap.right is None else ", right" if lap.right else ", [red]WRONG[/]"
    return f"{lap.turn}  {lap.entry} {named(lap.load)}: {escape(FIGURES[race].median_text(one))}{right}"


def _shown(name: str, found: Sequence[Lap], out: Path) -> None:
    from . import pictures, table

    show(table.results(name, found), pictures.draw(name, found, out))
    if any(lap.right is False for lap in found):
        raise click.ClickException("an answer was wrong")
