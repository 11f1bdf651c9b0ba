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
    drawn: list[Path] = []
    if comparison == "memory":
        drawn += _draw_memory(cases, out)
    elif comparison == "scale":
        drawn += _draw_columns(cases, out / "scale.png", by=lambda case: case.contender, draw=_draw_roles)
    elif comparison == "job":
        recorded = [case for case in group_runs(runs, recorded=True) if case.done]
        shown = [case for case in recorded if case.contender == "fanout" or case.workload.size_bytes]
        by: Callable[[Case], object] = lambda case: (case.contender, case.workload)  # noqa: E731
        drawn += _draw_columns(shown, out / "job.png", by=by, draw=_draw_stages, height=6.0)
    elif comparison == "overhead" and cases:
        with _axes(out / "overhead.png") as axes:
            _draw_lines(axes, cases, lambda case: case.workload.chunks, figures.CHUNK_MS, "{:,.0f}")
            _label(axes, "What an empty chunk costs, two workers", "number of chunks", "milliseconds a chunk")
        drawn.append(out / "overhead.png")
    elif comparison == "wordcount" and cases:
        with _axes(out / "wordcount.png") as axes:
            _draw_rows(axes, sorted(cases, key=lambda case: case.wall.median if case.wall else 0.0))
        drawn.append(out / "wordcount.png")
    return drawn


def _draw_memory(cases: Sequence[Case], out: Path) -> list[Path]:
    drawn = []
    of_sizes = [case for case in cases if case.workload.chunks == SIZES_CHUNKS]
    of_chunks = [case for case in cases if case.workload.size_bytes == CHUNKS_SIZE]
    pair = [case for case in of_sizes if case.workload == WORDS and case.contender in ("canvas", "fanout")]
    if len(pair) == 2:
        with _axes(out / "memory-time.png") as axes:
            _draw_over_time(axes, pair)
        drawn.append(out / "memory-time.png")
    if len({case.workload for case in of_sizes}) > 1:
        with _axes(out / "memory-size.png") as axes:
            _draw_lines(axes, of_sizes, lambda case: case.workload.size_bytes / MB, figures.BROKER_PEAK, "{:,.0f}", MB)
            _label(axes, f"Peak memory of the broker, {SIZES_CHUNKS} chunks", "size of the input, MB", "resident, MB")
        drawn.append(out / "memory-size.png")
    if len({case.workload for case in of_chunks}) > 1:
        with _axes(out / "memory-chunks.png") as axes:
            _draw_lines(axes, of_chunks, lambda case: case.workload.chunks, figures.PUBLISHED, "{:,.0f}", MB)
            title = f"Bytes published to RabbitMQ, {figures.show_size(CHUNKS_SIZE).replace('.0 ', ' ')} of input"
            _label(axes, title, "number of chunks", "published, MB")
        drawn.append(out / "memory-chunks.png")
    return drawn


def _draw_over_time(axes: Axes, pair: Sequence[Case]) -> None:
    """Draw the broker's memory in the run of middle length of each."""
    for case in pair:
        run = sorted(case.done, key=lambda one: one.walls_s[0])[len(case.done) // 2]
        growth, look = figures.BROKER_GROWTH.text(case), CONTENDERS[case.contender]
        times, sizes = zip(*((at_s, size / MB) for at_s, size in run.memory["broker"].series), strict=True)
        label = f"{look.label}: + {growth}, answer after {figures.SECONDS.text(case).split(' ')[0]} s"
        axes.plot(times, sizes, color=look.colour, linewidth=2.2, label=label)
        axes.fill_between(times, sizes, color=look.colour, alpha=0.10, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 1.0))
    axes.margins(y=0.25)
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


def _draw_rows(axes: Axes, cases: Sequence[Case]) -> None:
    """Draw a row for each case: a dot at the median, a line from the lowest to the highest."""
    for place, case in enumerate(cases):
        look, spread = CONTENDERS[case.contender], figures.SECONDS.spread(case)
        assert spread is not None
        axes.hlines(place, spread.low, spread.high, color=look.colour, linewidth=5, alpha=0.35)
        axes.plot([spread.median], [place], look.marker, color=look.colour, markersize=9)
        axes.annotate(
            f"{spread.median:,.2f} s",
            (spread.high, place),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
            color=look.colour,
            weight="bold",
        )
    axes.set_yticks(range(len(cases)), [CONTENDERS[case.contender].label for case in cases])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    _plain_numbers(axes.xaxis)
    words = name_workload(cases[0].workload).replace(" × ", " in ")
    _label(axes, f"Counting the words of {words}, two workers", "seconds", "")


def _draw_lines(
    axes: Axes, cases: Sequence[Case], x: Callable[[Case], float], figure: Figure, tick: str, unit: float = 1.0
) -> None:
    """Draw a line for each contender: medians, with a bar from the lowest to the highest."""
    for name in dict.fromkeys(case.contender for case in cases):
        same = sorted((case for case in cases if case.contender == name), key=x)
        found = [(x(case), spread) for case in same if (spread := figure.spread(case))]
        if found:
            look = CONTENDERS[name]
            xs, spreads = zip(*found, strict=True)
            medians = [spread.median / unit for spread in spreads]
            errors = [[(s.median - s.low) / unit for s in spreads], [(s.high - s.median) / unit for s in spreads]]
            style: Any = {"color": look.colour, "marker": look.marker, "linewidth": 2.2, "markersize": 7, "capsize": 3}
            axes.errorbar(xs, medians, yerr=errors, label=look.label, **style)
    axes.set_xscale("log")
    axes.set_yscale("log")
    places = sorted({x(case) for case in cases})
    axes.set_xticks(places, [tick.format(place) for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    _plain_numbers(axes.yaxis)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _plain_numbers(axis: Any) -> None:
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _label(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _draw_columns(
    cases: Sequence[Case],
    path: Path,
    *,
    by: Callable[[Case], object],
    draw: Callable[[Axes, Sequence[Case]], None],
    height: float = 5.2,
) -> list[Path]:
    """Draw groups of cases side by side."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        groups.setdefault(by(case), []).append(case)
    if not groups:
        return []
    with _canvas(path, width=13, height=height) as canvas:
        columns = canvas.subplots(1, len(groups), sharey=True, squeeze=False)[0]
        for axes, group in zip(columns, groups.values(), strict=True):
            draw(axes, group)
    return [path]


@contextmanager
def _axes(path: Path) -> Iterator[Axes]:
    with _canvas(path) as canvas:
        yield canvas.subplots()


@contextmanager
def _canvas(path: Path, *, width: float = 9.5, height: float = 5.2) -> Iterator[Canvas]:
    """Yield an empty picture without a window, and save it."""
    with matplotlib.rc_context(_STYLE):
        canvas = Canvas(figsize=(width, height), layout="constrained")
        yield canvas
        canvas.savefig(path)
