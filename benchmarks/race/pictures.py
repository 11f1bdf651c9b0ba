"""Results of races as pictures, PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from .. import chart
from ..chart import Line, Row
from ..spread import Spread
from .engines import THREADS
from .entries import ENTRIES
from .figures import FIGURES
from .lap import Completion, Lap, standings
from .spans import STAGES
from .table import named
from .works import Load

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {
    "wordcount": "Counting the words of {}, two workers",
    "shape": "{} that wait ½ to 1 s each, on 32 threads",
    "tiny": "The sum of {} of 20 bytes, two workers",
    "upload": "Encode and upload {}",
    "download": "Read back and decode {}",
}
ARTICLE_SPEED_UP = 8.7
"""What the article that the shape is from reports for 32 threads."""

_WAITING = ("queue", "notify")


def draw(race: str, laps: Sequence[Lap], out: Path) -> list[Path]:
    """Draw what the results of a race suffice for."""
    found = standings(lap for lap in laps if not lap.recorded)
    paths: list[Path] = []
    if race == "overhead":
        paths += _drawn(out / race, lambda axes: _against_chunks(axes, found))
    elif race == "job":
        recorded = standings(lap for lap in laps if lap.recorded)
        paths += _stages(out / "job", recorded)
    elif race == "store":
        paths += _side_by_side(out / race, race, found)
    else:
        paths += _drawn(out / race, lambda axes: _compared(axes, race, found))
    return paths


def _compared(axes: Axes, race: str, found: Sequence[Completion]) -> None:
    """Rows from the best to the worst, those without a figure last."""
    figure = FIGURES[race]
    rows = [(figure.spread(one), one) for one in found]
    ranked = sorted(rows, key=lambda row: (row[0] is None, _rank(row[0], rising=figure.rising)))
    chart.draw_dots(
        axes,
        [
            Row(
                ENTRIES[one.entry].label,
                ENTRIES[one.entry].colour,
                ENTRIES[one.entry].marker,
                spread,
                shorten(figure.median_text(one), 60),
            )
            for spread, one in ranked
        ],
        log=not figure.rising,
    )
    load = found[0].load
    title = TITLES[load.work if race == "store" else race]
    axes.set_title(title.format(_amount(load)))
    axes.set_xlabel(figure.name)
    if race == "shape":
        chart.upright(axes, THREADS, f"{THREADS} threads")
        chart.upright(axes, ARTICLE_SPEED_UP, f"the article: {ARTICLE_SPEED_UP}")


def _rank(spread: Spread | None, *, rising: bool) -> float:
    return 0.0 if spread is None else -spread.median if rising else spread.median


def _amount(load: Load) -> str:
    return named(load).removeprefix(f"{load.work} ").replace(" × ", " in ")


def _side_by_side(path: Path, race: str, found: Sequence[Completion]) -> list[Path]:
    loads = list(dict.fromkeys(one.load for one in found))
    with chart.figure(columns=2, height=4.2) as figure:
        for load, axes in zip(loads, figure.subplots(1, len(loads), squeeze=False)[0], strict=True):
            _compared(axes, race, [one for one in found if one.load == load])
        return chart.saved(figure, path)


def _against_chunks(axes: Axes, found: Sequence[Completion]) -> None:
    lines = []
    for name in dict.fromkeys(one.entry for one in found):
        entry = ENTRIES[name]
        points = [
            (float(one.load.chunks), spread)
            for one in found
            if one.entry == name and (spread := FIGURES["overhead"].spread(one)) is not None
        ]
        lines.append(Line(entry.label, entry.colour, entry.marker, points))
    chart.draw_lines(axes, lines)
    chart.log_x(axes, {at: f"{at:,.0f}" for at in sorted({at for line in lines for at, _ in line.points})})
    chart.log_y(axes)
    axes.set_title("What an empty chunk costs, two workers")
    axes.set_xlabel("number of chunks")
    axes.set_ylabel("milliseconds a chunk")
    chart.name_lines(axes, lines)


def _stages(path: Path, recorded: Sequence[Completion]) -> list[Path]:
    """A bar for each stage in the order of a job's life, the word counts beside the job of one chunk."""
    shown = [one for one in recorded if one.done and (one.entry == "fanout" or one.load.size_bytes)]
    if not shown:
        return []
    with chart.figure(columns=2, height=6.0) as figure:
        columns = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        present = [stage for stage in STAGES if any(stage in lap.stages for one in shown for lap in one.done)]
        for one, axes in zip(shown, columns, strict=True):
            _bars(axes, one, present)
        return chart.saved(figure, path)


def _bars(axes: Axes, one: Completion, present: Sequence[str]) -> None:
    values = [
        1000 * spread.median
        if (spread := Spread.of(lap.stages[stage].wall_s for lap in one.done if stage in lap.stages))
        else 0.0
        for stage in present
    ]
    colours = ["#C8C8C8" if stage in _WAITING else ENTRIES[one.entry].colour for stage in present]
    axes.barh(range(len(present)), values, color=colours)
    for place, value in enumerate(values):
        text = f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
        axes.annotate(text, (value, place), xytext=(5, 0), textcoords="offset points", va="center", fontsize=11)
    axes.set_yticks(range(len(present)), present)
    axes.set_ylim(len(present) - 0.5, -0.5)
    axes.set_xlim(0, max(values) * 1.18)
    axes.grid(visible=False, axis="y")
    wall = one.wall
    what = "one empty chunk" if not one.load.size_bytes else f"words, {_amount(one.load)}"
    label = f"{ENTRIES[one.entry].label}: {what}"
    axes.set_title(f"{label}\n{1000 * wall.median:,.0f} ms" if wall else label, fontsize=12)
    axes.set_xlabel("milliseconds of the wall time")


def _drawn(path: Path, draw_one: Callable[[Axes], None]) -> list[Path]:
    with chart.figure() as figure:
        draw_one(figure.subplots())
        return chart.saved(figure, path)
