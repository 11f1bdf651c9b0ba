"""Figures in one style, lines on log axes, and names at the ends of lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .spread import Spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT = "#222222", "#888888"

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "axes.titlesize": 15,
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "savefig.dpi": 150,
    # Pictures of the same results are the same bytes.
    "svg.hashsalt": "fanout",
}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a picture.

    Attributes:
        label: Its name.
        colour, marker: How it looks.
        points: Place on the horizontal axis, and the figure there; ascending.
    """

    label: str
    colour: str
    marker: str
    points: Sequence[tuple[float, Spread]]


def draw_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw lines: medians, with a bar from the lowest to the highest. Those without points are left out."""
    for line in lines:
        xs, ys = [at for at, _ in line.points], [spread.median for _, spread in line.points]
        below = [spread.median - spread.low for _, spread in line.points]
        above = [spread.high - spread.median for _, spread in line.points]
        look = {"color": line.colour, "marker": line.marker, "linewidth": 2.2, "markersize": 7, "capsize": 3}
        if line.points:
            axes.errorbar(xs, ys, yerr=[below, above], **look)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a picture whose rows are compared.

    Attributes:
        label: Its name.
        colour, marker: How it looks.
        spread: Its figure; None draws the remark instead.
        text: The figure as it is written, or the remark.
    """

    label: str
    colour: str
    marker: str
    spread: Spread | None
    text: str


def draw_dots(axes: Axes, rows: Sequence[Row], *, log: bool = True) -> None:
    """Draw a row each, the first at the top: a dot at the median, a line from the lowest to the highest, the figure."""
    drawn = [row.spread for row in rows if row.spread is not None]
    low = min((spread.low for spread in drawn), default=1.0)
    high = max((spread.high for spread in drawn), default=1.0)
    for place, row in enumerate(rows):
        spread = row.spread
        if spread is None:
            axes.annotate(row.text, (low, place), va="center", color=FAINT, fontsize=11)
            continue
        axes.hlines(place, low / 1.25 if log else 0, spread.median, color=row.colour, linewidth=2.2, alpha=0.35)
        axes.hlines(place, spread.low, spread.high, color=row.colour, linewidth=5, alpha=0.35)
        axes.plot([spread.median], [place], row.marker, color=row.colour, markersize=9)
        axes.annotate(
            row.text,
            (spread.high, place),
            xytext=(12, 0),
            textcoords="offset points",
            va="center",
            color=row.colour,
            weight="bold",
            annotation_clip=False,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    if log:
        from matplotlib.ticker import LogLocator, NullLocator

        axes.set_xscale("log")
        axes.set_xlim(low / 1.25, high * (high / low) ** 0.22 * 1.2)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    else:
        axes.set_xlim(0, high * 1.2)


def log_x(axes: Axes, places: dict[float, str]) -> None:
    """A logarithmic horizontal axis with a tick at each place."""
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    axes.set_xticks(list(places), list(places.values()))
    axes.xaxis.set_minor_locator(NullLocator())


def log_y(axes: Axes) -> None:
    """A logarithmic vertical axis with plain numbers."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # Under three decades the powers of ten alone would be too few.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def name_lines(axes: Axes, lines: Sequence[Line]) -> None:
    """Write each line's name behind its end, moved apart where they would touch. Call it last: it measures the axes."""
    figure = axes.figure
    figure.canvas.draw()
    height = 21.0 * figure.dpi / 72
    taken = float("-inf")
    ends = [(line.points[-1][1].median, line.points[-1][0], line) for line in lines if line.points]
    for value, at, line in sorted(ends, key=lambda end: end[0]):
        y = float(axes.transData.transform((at, value))[1])
        placed = max(y, taken + height)
        taken = placed
        axes.annotate(
            line.label,
            (at, value),
            xytext=(11, (placed - y) * 72 / figure.dpi),
            textcoords="offset points",
            va="center",
            color=line.colour,
            weight="bold",
            annotation_clip=False,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )


def reference(axes: Axes, value: float, label: str) -> None:
    """A dashed level with its name below it."""
    axes.axhline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        label,
        (0.01, value),
        xycoords=("axes fraction", "data"),
        xytext=(0, -15),
        textcoords="offset points",
        color=FAINT,
        fontsize=11,
    )


def upright(axes: Axes, value: float, label: str) -> None:
    """A dashed upright line with its name above it."""
    axes.axvline(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        label,
        (value, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        color=FAINT,
        fontsize=11,
    )


@contextmanager
def figure(*, columns: int = 1, height: float = 5.2) -> Iterator[Figure]:
    """A figure in our style, without a window, that is closed at the end. Height in inches."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context(_STYLE):
        made = pyplot.figure(figsize=(9.5 if columns == 1 else 13, height), layout="constrained")
        try:
            yield made
        finally:
            pyplot.close(made)


def saved(made: Figure, path: Path) -> list[Path]:
    """Save a figure as PNG and SVG; returns the paths."""
    paths = [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    for one in paths:
        made.savefig(one, metadata={"Date": None} if one.suffix == ".svg" else None)
    return paths
