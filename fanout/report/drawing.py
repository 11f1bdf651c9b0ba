"""The charts of a report, drawn by Bokeh on canvases of the reader's browser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from storage import MissingPackage

from ..figures import format_duration, format_size
from .histograms import BINS, POINTS, Histogram, count_until, make_histogram
from .runs import split_into_lanes
from .timeline import Timeline, make_timeline

if TYPE_CHECKING:
    from .report import Report

COLOURS = {
    "fetched": "#3d9fd9",
    "ran": "#1fa37a",
    "stored": "#e39a1c",
    "straggler": "#c45ab3",
    "failed": "#d62839",
    "combined": "#8a6fd1",
    "setup": "#4c7fd6",
    "join": "#7a8794",
}
"""Kind of a bar -> its colour, which a reader can tell from the others on a light and on a dark page."""

STROKES = {"ran": 0.5, "straggler": 1.0, "failed": 1.0, "combined": 0.5, "setup": 1.0, "join": 1.0}
"""Kind of a bar -> width of its edge, in pixels, which keeps a short bar visible."""

LEAST_COUNT = 0.5
"""Lower end of a logarithmic axis of counts, so that a single chunk has a visible bar."""

ROW_PIXELS, LEAST_PIXELS, MOST_PIXELS = 26, 170, 1_100


@dataclass(frozen=True, slots=True)
class Charts:
    """The charts of a page.

    Attributes:
        library: The script that draws them: Bokeh's own.
        script: The script that holds their data.
        places: Name of each chart -> the element in which it appears.
        timelines: Name of a chart -> the timeline in it.
    """

    library: str
    script: str
    places: dict[str, str]
    timelines: dict[str, Timeline]


def draw_charts(report: Report) -> Charts:
    """Draw the charts of a report.

    Raises:
        MissingPackage: Bokeh is not installed.
    """
    check_package()
    from bokeh.embed import components
    from bokeh.resources import Resources

    timelines = _make_timelines(report)
    figures = {name: _draw_timeline(timeline) for name, timeline in timelines.items()}
    if report.spans:
        sizes = [run.input_bytes / run.chunks for run in report.recorded.runs for _ in range(run.chunks)]
        figures["progress"] = _draw_progress(report)
        figures["durations"] = _draw_histogram(
            make_histogram([span.took_s for span in report.spans], least=1e-6),
            "seconds of a chunk",
            format_duration,
        )
        figures["sizes"] = _draw_histogram(make_histogram(sizes, least=1.0), "size of a chunk's items", format_size)
        peaks = [worker.peak_bytes for worker in report.workers]
        figures["memory"] = _draw_histogram(
            make_histogram(peaks, least=1.0), "peak memory of a process", format_size, "processes"
        )
    script, places = components(figures, wrap_script=False)
    library = "\n".join(Resources(mode="inline", components=["bokeh"]).js_raw)
    return Charts(library, script, dict(places), timelines)


def check_package() -> None:
    """Check that pages can be drawn here.

    Raises:
        MissingPackage: Bokeh is not installed.
    """
    try:
        import bokeh.embed  # noqa: F401
    except ImportError as error:
        raise MissingPackage("the page of a report needs Bokeh", extra="report") from error


def _make_timelines(report: Report) -> dict[str, Timeline]:
    """Return the timeline of the latest generation, and after a retry that of the generations before."""
    recorded, began_at = report.recorded, report.began_at
    stragglers = frozenset(one.chunk for one in report.stragglers)
    is_new = recorded.setup is not None and recorded.setup.ended_at > began_at
    timelines = {
        "timeline": make_timeline(
            report.lanes,
            setup=recorded.setup if is_new else None,
            join=recorded.join,
            zero_at=began_at,
            wall_s=report.wall_s,
            stragglers=stragglers,
        )
    }
    if report.generation:
        current = set(map(id, report.runs))
        runs = [run for run in recorded.runs if id(run) not in current]
        setup = None if is_new else recorded.setup
        ends = [run.ended_at for run in (*runs, setup) if run is not None]
        if ends:
            wall_s = max(ends) - report.launched_at
            timelines["earlier"] = make_timeline(
                split_into_lanes(runs), setup=setup, join=None, zero_at=report.launched_at, wall_s=wall_s
            )
    return timelines


def _figure(**options: Any) -> Any:
    from bokeh.plotting import figure

    plot = figure(
        sizing_mode="stretch_width",
        tools="xpan,xbox_zoom,xzoom_in,xzoom_out,reset",
        active_drag="xbox_zoom",
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.grid.grid_line_alpha = 0.4
    plot.axis.minor_tick_line_color = None
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _draw_timeline(timeline: Timeline) -> Any:
    from bokeh.models import HoverTool

    wall_s, rows = timeline.wall_s, len(timeline.rows)
    height = min(MOST_PIXELS, max(LEAST_PIXELS, 90 + ROW_PIXELS * rows))
    plot = _figure(height=height, x_range=(-0.01 * wall_s, 1.02 * wall_s or 1), y_range=(0, max(1, rows)))
    for kind, colour in COLOURS.items():
        bars = [bar for bar in timeline.bars if bar.kind == kind]
        if not bars:
            continue
        columns = {name: [getattr(bar, name) for bar in bars] for name in ("left", "right", "bottom", "top")}
        labels = [bar.label for bar in bars]
        if any(labels):
            columns["label"] = labels
        drawn = plot.quad(
            "left", "right", "top", "bottom", source=_source(columns), color=colour, line_width=STROKES.get(kind, 0)
        )
        if any(labels):
            plot.add_tools(HoverTool(renderers=[drawn], tooltips="@label", visible=False))
    plot.xaxis.axis_label = "seconds"
    plot.yaxis.ticker = [row + 0.5 for row in range(rows)]
    plot.yaxis.major_label_overrides = {row + 0.5: name for row, name in enumerate(timeline.rows)}
    plot.yaxis.major_tick_line_color = None
    plot.ygrid.grid_line_color = None
    return plot


def _draw_progress(report: Report) -> Any:
    from bokeh.models import NumeralTickFormatter

    runs = report.runs
    until = [report.wall_s * point / POINTS for point in range(POINTS + 1)]
    curves = [
        ("fetched", "done", [(run.ended_at - report.began_at, run.chunks) for run in runs]),
        ("setup", "begun", [(run.started_at - report.began_at, run.chunks) for run in runs]),
    ]
    if all(run.ready_at is not None for run in runs):
        ready = [(min(run.ready_at or 0, run.started_at) - report.began_at, run.chunks) for run in runs]
        curves.append(("join", "in the store", ready))
    plot = _figure(height=230, x_range=(-0.01 * report.wall_s, 1.02 * report.wall_s or 1))
    for colour, name, moments in curves:
        width = 3 if name == "done" else 1.5
        plot.line(until, count_until(moments, until), color=COLOURS[colour], line_width=width, legend_label=name)
    plot.legend.location = "top_left"
    plot.legend.background_fill_alpha = 0
    plot.legend.border_line_alpha = 0
    plot.xaxis.axis_label = "seconds"
    plot.yaxis.axis_label = "chunks"
    plot.yaxis.ticker.min_interval = 1
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.y_range.start = 0
    return plot


def _draw_histogram(histogram: Histogram, label: str, describe: Callable[[float], str], axis: str = "chunks") -> Any:
    from bokeh.models import HoverTool, NumeralTickFormatter

    plot = _figure(height=200, x_axis_type="log", y_axis_type="log", x_range=(histogram.edges[0], histogram.edges[-1]))
    texts = [
        f"{count:,} of {describe(low)} to {describe(high)}"
        for count, low, high in zip(histogram.counts, histogram.edges[:-1], histogram.edges[1:], strict=True)
    ]
    columns = {
        "left": histogram.edges[:-1],
        "right": histogram.edges[1:],
        "top": histogram.counts,
        "label": texts,
    }
    bars = _source(columns)
    drawn = plot.quad("left", "right", "top", LEAST_COUNT, source=bars, color=COLOURS["setup"], line_color=None)
    plot.add_tools(HoverTool(renderers=[drawn], tooltips="@label", visible=False))
    plot.xaxis.axis_label = label
    ticks = histogram.edges[BINS // 10 :: BINS // 4]
    plot.xaxis.ticker = ticks
    plot.xaxis.major_label_overrides = {tick: describe(tick) for tick in ticks}
    plot.yaxis.axis_label = axis
    plot.yaxis.ticker = [10**power for power in range(8)]
    plot.yaxis.formatter = NumeralTickFormatter(format="0,0")
    plot.y_range.start = LEAST_COUNT
    return plot


def _source(columns: Mapping[str, Sequence[Any]]) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: list(values) for name, values in columns.items()})
