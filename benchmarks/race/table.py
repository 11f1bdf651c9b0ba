"""Results of races for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from textwrap import shorten
from typing import TYPE_CHECKING

from fanout.report import format_size

from ..spread import NOTHING, Spread, shown
from . import figures
from .entries import ENTRIES
from .lap import Completion, Lap, standings
from .spans import STAGES
from .works import Load

if TYPE_CHECKING:
    from rich.table import Table

REMARK = 64
"""Characters of a reason in a table: a package's name and how to get it have room."""

ROLES = ("caller", "workers", "store", "broker", "results")

RIVALS = {"packs": "raw-obstore", "packs-boto3": "raw-boto3"}
"""Entries of the store's race -> the limit that they are measured against."""


def results(race: str, laps: Sequence[Lap]) -> list[Table]:
    """The tables of a race: figures and CPU time, ratios where they are the point, stages where they were recorded."""
    made = [_figures(race, [lap for lap in laps if not lap.recorded])]
    if race == "store":
        made.append(_ratios(laps))
    plain = {(one.entry, one.load): one for one in standings(lap for lap in laps if not lap.recorded)}
    recorded = standings(lap for lap in laps if lap.recorded)
    return made + [_stages(one, plain.get((one.entry, one.load))) for one in recorded]


def _figures(race: str, laps: Sequence[Lap]) -> Table:
    from rich.markup import escape

    figure = figures.FIGURES[race]
    roles = [role for role in ROLES if any(role in lap.cpu_s for lap in laps)]
    loads = list(dict.fromkeys(lap.load for lap in laps))
    columns = ["entry", figure.name, *(["wall"] if figure.is_derived else [])]
    # With one load its name is above the table, with several in front of each row.
    several = len(loads) > 1
    title = race if several else f"{race}: {', '.join(map(named, loads))}"
    columns = [*(["load"] if several else []), *columns, *(f"CPU {role}" for role in roles), "S3 requests", "right"]
    table = _table(title, columns)
    for one in sorted(standings(laps), key=lambda one: (loads.index(one.load), list(ENTRIES).index(one.entry))):
        heading = [*([named(one.load)] if several else []), ENTRIES[one.entry].label]
        if not one.done:
            table.add_row(*heading, f"[yellow]{escape(shorten(one.remark, REMARK))}[/]")
            continue
        table.add_row(
            *heading,
            figure.text(one),
            *([shown(one.wall, lambda value: f"{value:.2f} s")] if figure.is_derived else []),
            *(_cpu(one.cpu(role)) for role in roles),
            f"{one.requests.median:,.0f}" if one.requests else NOTHING,
            "yes" if one.right else "[red]NO[/]",
        )
    return table


def _ratios(laps: Sequence[Lap]) -> Table:
    table = _table("Of the throughput of the client alone, in the same turn", ["load", "entry", "against", "ratio"])
    for load in dict.fromkeys(lap.load for lap in laps):
        for entry, rival in RIVALS.items():
            ratio = figures.ratios(laps, rival, entry, load)
            if ratio is not None:
                names = [ENTRIES[name].label for name in (entry, rival)]
                table.add_row(named(load), *names, shown(ratio, lambda value: f"{100 * value:.0f} %"))
    return table


def _stages(one: Completion, plain: Completion | None) -> Table:
    wall = f"{_ms(one.wall)}{f', {_ms(plain.wall)} unrecorded' if plain else ''}"
    title = f"{ENTRIES[one.entry].label}, {named(one.load)}: where the time goes ({wall})"
    table = _table(title, ["stage", "of the wall time", "in all processes", "calls"])
    for stage in STAGES:
        found = [lap.stages[stage] for lap in one.done if stage in lap.stages]
        if found:
            calls = median(each.calls for each in found)
            wall_s, busy_s = (Spread.of(values) for values in zip(*((e.wall_s, e.busy_s) for e in found), strict=True))
            table.add_row(stage, _ms(wall_s), _ms(busy_s), f"{calls:,.0f}" if calls else NOTHING)
    return table


def named(load: Load) -> str:
    """A load in words."""
    parts = []
    if load.size_bytes:
        parts.append(format_size(load.size_bytes).replace(".0 ", " "))
    if load.items and load.work != "wait":
        parts.append(f"{load.items:,} items")
    if load.chunks:
        parts.append(f"{load.chunks:,} {'steps' if load.work == 'wait' else 'chunks' if load.chunks > 1 else 'chunk'}")
    return f"{load.work} {' × '.join(parts)}"


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        words = column in ("load", "entry", "against", "right", "stage")
        table.add_column(column, justify="left" if words else "right")
    return table


def _cpu(found: Spread | None) -> str:
    return f"{found.median:.3f} s" if found else NOTHING


def _ms(found: Spread | None) -> str:
    return f"{1000 * found.median:,.1f} ms" if found else NOTHING
