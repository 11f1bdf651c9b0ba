"""Results as pictures: PNG, for a page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullLocator

from . import figures
from .comparisons import CHUNKS_SIZE, SIZES_CHUNKS, WORDS
from .contenders import CONTENDERS
from .figures import Case, Figure, Spread, group_runs, name_workload
from .run import Run
from .stages import STAGES

INK, FAINT = "#222222", "#888888"
MB = 1e6
_STYLE: Any = {
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "legend.frameon": False,
    "legend.fontsize": 11,
    "text.color": INK,
    "savefig.dpi": 150,
}
_ROLES = {"caller": ("#D55E00", "o"), "setup": ("#009E73", "^"), "process": ("#B07AA1", "s"), "join": ("#0072B2", "D")}


def draw_pictures(comparison: str, runs: Sequence[Run], out: Path) -> list[Path]:
    """Draw what the runs of a comparison suffice for; return the paths."""
    cases = [case for case in group_runs(runs) if case.done]
    recorded = [case for case in group_runs(runs, recorded=True) if case.done]
    stages = [case for case in recorded if case.contender == "fanout" or case.workload.size_bytes]
    sizes = _vary([case for case in cases if case.workload.chunks == SIZES_CHUNKS])
    numbers = _vary([case for case in cases if case.workload.size_bytes == CHUNKS_SIZE])
    pair = [case for case in cases if case.workload == WORDS and case.contender in ("canvas", "fanout")]
    pictures: dict[str, dict[str, tuple[list[Case], Callable[[Path, list[Case]], None]]]] = {
        "memory": {
            "memory-time": (pair if len(pair) == 2 else [], _draw_over_time),
            "memory-size": (sizes, _draw_sizes),
            "memory-chunks": (numbers, _draw_chunks),
        },
        "scale": {"scale": (cases, lambda path, cases: _draw_columns(path, cases, _draw_roles))},
        "job": {"job": (stages, lambda path, cases: _draw_columns(path, cases, _draw_stages))},
        "overhead": {"overhead": (cases, _draw_overhead)},
        "wordcount": {"wordcount": (cases, _draw_rows)},
    }
    drawn = []
    for name, (found, draw) in pictures.get(comparison, {}).items():
        if found:
            drawn.append(out / f"{name}.png")
            draw(drawn[-1], found)
    return drawn


def _vary(cases: list[Case]) -> list[Case]:
    return cases if len({case.workload for case in cases}) > 1 else []


def _draw_over_time(path: Path, pair: list[Case]) -> None:
    """Draw the broker's memory in the run of middle length of each."""
    with _open_axes(path) as axes:
        for case in pair:
            run = sorted(case.done, key=lambda one: one.walls_s[0])[len(case.done) // 2]
            growth, look = figures.BROKER_GROWTH.text(case), CONTENDERS[case.contender]
            times, sizes = zip(*((at_s, size / MB) for at_s, size in run.memory["broker"].series), strict=True)
            label = f"{look.label}: + {growth}, answer after {figures.WALL.text(case)} s"
            axes.plot(times, sizes, color=look.colour, linewidth=2.2, label=label)
            axes.fill_between(times, sizes, color=look.colour, alpha=0.10, linewidth=0)
        axes.set_ylim(0, axes.dataLim.ymax * 1.2)
        axes.set_xlim(left=0)
        axes.legend(loc="upper left")
        words = name_workload(pair[0].workload).replace(" × ", " in ")
        _label(axes, f"RabbitMQ, counting the words of {words}", "seconds since the call", "resident memory, MB")


def _draw_roles(axes: Axes, cases: Sequence[Case]) -> None:
    places = {case.workload.size_bytes: name_workload(case.workload).split(" × ")[0] for case in cases}
    for role, (colour, marker) in _ROLES.items():
        spreads = [figures.PEAKS[role].spread(case) for case in cases]
        sizes = [spread.median / MB if spread else None for spread in spreads]
        axes.plot(list(places), sizes, color=colour, marker=marker, linewidth=2.2, label=role)  # type: ignore[arg-type]
    axes.set_xscale("log")
    axes.set_xticks(list(places), list(places.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    # The columns share this axis: the highest of all is to fit.
    axes.set_ylim(0, max(axes.get_ylim()[1], axes.dataLim.ymax * 1.05))
    axes.legend(ncols=2, loc="lower left")
    _label(axes, CONTENDERS[cases[0].contender].label, "size of the input", "peak resident memory, MB")


def _draw_stages(axes: Axes, cases: Sequence[Case]) -> None:
    """Draw a bar for each stage, in the order of a job's life."""
    (case,) = cases
    found = {stage: [run.stages[stage].wall_s for run in case.done if stage in run.stages] for stage in STAGES}
    values = [1000 * spread.median if (spread := Spread.of(walls_s)) else 0.0 for walls_s in found.values()]
    colour = CONTENDERS[case.contender].colour
    bars = axes.barh(list(found), values, color=["#C8C8C8" if one in ("queue", "notify") else colour for one in found])
    axes.bar_label(bars, [f"{value:,.1f}" if value < 10 else f"{value:,.0f}" for value in values], padding=4)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.18)
    axes.grid(visible=False, axis="y")
    wall = f": {1000 * case.wall.median:,.0f} ms" if case.wall else ""
    _label(axes, f"{CONTENDERS[case.contender].label}\n{name_workload(case.workload)}{wall}", "ms of the wall time", "")
    axes.title.set_fontsize(12)


def _draw_rows(path: Path, cases: list[Case]) -> None:
    """Draw a row for each case: a dot at the median, a line from the lowest to the highest."""
    found = sorted(((spread.median, spread, case) for case in cases if (spread := case.wall)), key=lambda one: one[0])
    with _open_axes(path) as axes:
        for place, (wall_s, spread, case) in enumerate(found):
            look = CONTENDERS[case.contender]
            text: Any = {"textcoords": "offset points", "va": "center", "color": look.colour, "weight": "bold"}
            axes.hlines(place, spread.low, spread.high, color=look.colour, linewidth=5, alpha=0.35)
            axes.plot([wall_s], [place], look.marker, color=look.colour, markersize=9)
            axes.annotate(f"{wall_s:,.2f} s", (spread.high, place), xytext=(12, 0), **text)
        axes.set_yticks(range(len(found)), [CONTENDERS[case.contender].label for _, _, case in found])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.margins(x=0.15)
        _plain_numbers(axes.xaxis)
        words = name_workload(cases[0].workload).replace(" × ", " in ")
        _label(axes, f"Counting the words of {words}, two workers", "seconds", "")


def _draw_lines(path: Path, cases: list[Case], x: Callable[[Case], float], figure: Figure, labels: str) -> None:
    """Draw a line for each contender: medians, with a bar from the lowest to the highest. Bytes are in MB."""
    unit = MB if figure in (figures.BROKER_PEAK, figures.PUBLISHED) else 1.0
    places = sorted({x(case) for case in cases})
    with _open_axes(path) as axes:
        for name in dict.fromkeys(case.contender for case in cases):
            same = sorted((case for case in cases if case.contender == name), key=x)
            found = [(x(case), spread) for case in same if (spread := figure.spread(case))]
            if found:
                look = CONTENDERS[name]
                xs, spreads = zip(*found, strict=True)
                below, above = zip(*((one.median - one.low, one.high - one.median) for one in spreads), strict=True)
                errors = [[size / unit for size in side] for side in (below, above)]
                style: Any = {"color": look.colour, "marker": look.marker, "linewidth": 2.2, "capsize": 3}
                axes.errorbar(xs, [one.median / unit for one in spreads], yerr=errors, label=look.label, **style)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(places, [f"{place:,.0f}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        _plain_numbers(axes.yaxis)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        _label(axes, *labels.split(" | "))


def _draw_sizes(path: Path, cases: list[Case]) -> None:
    labels = f"Peak memory of the broker, {SIZES_CHUNKS} chunks | size of the input, MB | resident, MB"
    _draw_lines(path, cases, lambda case: case.workload.size_bytes / MB, figures.BROKER_PEAK, labels)


def _draw_chunks(path: Path, cases: list[Case]) -> None:
    labels = f"Bytes published to RabbitMQ, {CHUNKS_SIZE / MB:.0f} MB of input | number of chunks | published, MB"
    _draw_lines(path, cases, lambda case: case.workload.chunks, figures.PUBLISHED, labels)


def _draw_overhead(path: Path, cases: list[Case]) -> None:
    labels = "What an empty chunk costs, two workers | number of chunks | milliseconds a chunk"
    _draw_lines(path, cases, lambda case: case.workload.chunks, figures.CHUNK_MS, labels)


def _plain_numbers(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _draw_columns(path: Path, cases: list[Case], draw: Callable[[Axes, Sequence[Case]], None]) -> None:
    """Draw groups of cases side by side: those of a contender, or each by itself where it has stages."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        groups.setdefault((case.contender, draw is _draw_stages and case.workload), []).append(case)
    with _open_canvas(path, width=13, height=6.0) as canvas:
        columns = canvas.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, group in zip(columns, groups.values(), strict=True):
            draw(axes, group)


@contextmanager
def _open_axes(path: Path) -> Iterator[Axes]:
    with _open_canvas(path) as canvas:
        yield canvas.subplots()


@contextmanager
def _open_canvas(path: Path, *, width: float = 9.5, height: float = 5.2) -> Iterator[Canvas]:
    """Yield an empty picture without a window, and save it."""
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        yield canvas
        canvas.savefig(path)
