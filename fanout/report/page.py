"""The page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from html import escape
from typing import TYPE_CHECKING

from ..figures import format_dollars, format_duration, format_share, format_size
from .drawing import COLOURS, Charts, draw_charts
from .style import CSS, SCRIPT
from .tables import show_attempts, show_costs, show_critical_path, show_stragglers, show_workers

if TYPE_CHECKING:
    from .report import Report
    from .timeline import Timeline


def make_page(report: Report) -> str:
    """Return the page.

    Raises:
        MissingPackage: Bokeh is not installed.
    """
    charts = draw_charts(report)
    title = f"{report.task.rpartition('.')[2]} {report.job_id}"
    sections = [
        _show_head(report),
        _show_advice(report),
        _show_timelines(report, charts),
        show_critical_path(report),
        _show_chart("Progress", charts, "progress", "Chunks whose items were in the store, that had begun, and done."),
        show_stragglers(report),
        _show_distributions(charts),
        show_workers(report),
        show_costs(report),
        show_attempts(report),
        _show_notes(report),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{CSS}</style>\n<script>{charts.library}</script>\n<script>{charts.script}</script>\n"
        f"<script>{SCRIPT}</script></head>\n<body>\n" + "\n".join(filter(None, sections)) + "\n</body></html>\n"
    )


def _show_head(report: Report) -> str:
    launched = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(report.launched_at))
    tone = {"succeeded": "good", "failed": "bad", "cancelled": "bad"}.get(str(report.state), "soft")
    again = f" in generation {report.generation}" if report.generation else ""
    progress = report.progress
    tiles = [(format_duration(report.wall_s), report.stretch)]
    failed = f", {progress.items_failed:,} failed" if progress.items_failed else ""
    tiles.append(
        (f"{progress.chunks_done:,}", f"of {progress.chunks or 0:,} chunks; {progress.items or 0:,} items{failed}")
    )
    if report.efficiency is not None:
        tiles.append((format_share(report.efficiency), f"efficient: ideal is {format_duration(report.ideal_s)}"))
        tiles.append((f"{len(report.workers):,}", f"processes, {len(report.lanes):,} lanes at work"))
    peak = max((worker.peak_bytes for worker in report.workers), default=0)
    tiles.append((format_size(peak), "peak memory of a process"))
    if report.usage is not None and report.requests_dollars is not None:
        tiles.append((format_dollars(report.requests_dollars), "for requests to the store"))
    shown = "".join(
        f'<div class="tile"><b>{escape(figure)}</b><span>{escape(meaning)}</span></div>' for figure, meaning in tiles
    )
    return (
        f'<h1>{escape(report.task)}</h1><p class="soft">job {escape(report.job_id)}, launched {launched}</p>'
        f'<p><b class="{tone}">{escape(str(report.state) + again)}</b></p><div class="tiles">{shown}</div>'
    )


def _show_advice(report: Report) -> str:
    if not report.advice:
        return "<h2>Advice</h2><p>The figures give no reason for a change.</p>"
    entries = "".join(f"<li><b>{escape(one.figure)}.</b> {_mark_code(one.remedy)}</li>" for one in report.advice)
    return f'<h2>Advice</h2><ol class="advice">{entries}</ol>'


def _mark_code(text: str) -> str:
    """Return a text as HTML, with what is between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _show_timelines(report: Report, charts: Charts) -> str:
    kinds = {bar.kind for timeline in charts.timelines.values() for bar in timeline.bars}
    legend = "".join(
        f'<span><i style="background: {colour}"></i>{kind}</span>' for kind, colour in COLOURS.items() if kind in kinds
    )
    shown = [f'<h2>Timeline</h2><p class="legend">{legend}</p>']
    for name, timeline in charts.timelines.items():
        since = "the launch"
        if report.generation and name == "timeline":
            since = f"the begin of generation {report.generation}"
        shown.append(f'<p class="soft">Seconds since {since}. {_explain(timeline)}</p>{charts.places[name]}')
    return "".join(shown)


def _explain(timeline: Timeline) -> str:
    if timeline.is_exact:
        return "Each chunk has a bar; an empty place is a worker that waited. Drag to zoom."
    return (
        f"A cell is {format_duration(timeline.cell_s)}; its height is the share of the time in which the row's "
        "workers were busy. Drag to zoom."
    )


def _show_chart(title: str, charts: Charts, name: str, text: str) -> str:
    if name not in charts.places:
        return ""
    return f'<h2>{title}</h2><p class="soft">{text}</p>{charts.places[name]}'


def _show_distributions(charts: Charts) -> str:
    shown = "".join(
        f"<div>{charts.places[name]}</div>" for name in ("durations", "sizes", "memory") if name in charts.places
    )
    return f'<h2>Durations, sizes, memory</h2><div class="columns">{shown}</div>' if shown else ""


def _show_notes(report: Report) -> str:
    return (
        "<h2>How it was measured</h2><ul class='soft'>"
        + "".join(f"<li>{escape(note)}</li>" for note in _notes(report))
        + "</ul>"
    )


def _notes(report: Report) -> Iterator[str]:
    recorded = report.recorded
    yield "Each run records its begin and end by the clock of its own machine, its memory, and its fetches."
    yield "The time of a write is known from the process's next run, so that of its last write is missing."
    if recorded.attempts.count:
        yield "An attempt without a result has left no times, so its place in the timeline is empty."
    if report.usage is not None:
        yield (
            "Each process counts its requests for the job, and records them with each result. Requests after its last "
            "record, those of waiting callers and sweeps, and those for external objects are not among them."
        )
    else:
        yield "The processes ran a version of fanout that did not count requests."
    yield "Messages are computed from the records; their bytes are an estimate."
    if recorded.unread:
        yield (
            f"{recorded.unread:,} result objects were not read, because the results are larger than the limit; times "
            "and sums are those of the others."
        )
    earlier = len(recorded.earlier)
    if earlier:
        yield f"{earlier:,} generations came before this one. Time, efficiency and critical path are those of this one."
