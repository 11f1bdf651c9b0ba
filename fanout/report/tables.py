"""The tables of the page: the critical path, stragglers, workers, costs, and attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from ..figures import format_dollars, format_duration, format_share, format_size
from .attempts import LISTED, RecordedAttempt

if TYPE_CHECKING:
    from .report import Report

SHOWN_STRAGGLERS = 20
"""Most stragglers that the page lists."""

SHOWN_WORKERS = 100
"""Most workers that the page lists."""

SHOWN_FAILURES = 50
"""Most attempts, and most failed items, that the page lists."""


def show_critical_path(report: Report) -> str:
    """Return the critical path as a table with bars; nothing before setup has ended."""
    path, wall_s = report.critical_path, report.wall_s
    if not path or not wall_s:
        return ""
    shares = [segment.took_s / wall_s for segment in path]
    rows = [
        (segment.name, segment.worker, format_duration(segment.took_s), format_share(share))
        for segment, share in zip(path, shares, strict=True)
    ]
    text = f"The waits and runs that the job's time consists of, {report.stretch}."
    return _section("Critical path", text, _table(["part", "worker", "#time", "#share"], rows, bars=shares))


def show_stragglers(report: Report) -> str:
    """Return the chunks that took far longer than others; nothing if there are none."""
    found = report.stragglers
    if not found:
        return ""
    rows = [
        (
            f"{one.chunk:,}",
            one.worker,
            format_duration(one.took_s),
            f"{one.times:,.0f}",
            format_share(one.took_s / report.work_s),
        )
        for one in found[:SHOWN_STRAGGLERS]
    ]
    more = f" The longest {SHOWN_STRAGGLERS} are listed." if len(found) > SHOWN_STRAGGLERS else ""
    text = (
        f"{len(found):,} of {len(report.spans):,} chunks took more than five times the median of "
        f"{format_duration(report.median_s)}.{more}"
    )
    heads = ["#chunk", "worker", "#time", "#times the median", "#of all work"]
    return _section("Stragglers", text, _table(heads, rows))


def show_workers(report: Report) -> str:
    """Return the processes, with their time and memory; nothing before setup has ended."""
    rows = [
        (
            worker.name,
            ", ".join(worker.steps),
            f"{worker.chunks:,}",
            format_duration(worker.ran_s),
            format_duration(worker.fetched_s),
            format_duration(worker.stored_s),
            format_size(worker.peak_bytes),
        )
        for worker in report.workers[:SHOWN_WORKERS]
    ]
    more = len(report.workers) - SHOWN_WORKERS
    text = f"The first {SHOWN_WORKERS} of {len(report.workers):,}." if more > 0 else ""
    heads = ["process", "steps", "#chunks", "#ran", "#fetched", "#stored", "#peak memory"]
    return _section("Workers", text, _table(heads, rows)) if rows else ""


def show_costs(report: Report) -> str:
    """Return requests, bytes and messages with their prices."""
    return _section(
        "Requests, bytes, price",
        f"Prices: {report.prices.source}.",
        _table(["", "#figure", "#price"], [*_request_rows(report), *_other_rows(report)]),
    )


def _request_rows(report: Report) -> Iterator[tuple[str, str, str]]:
    usage, prices = report.usage, report.prices
    if usage is None:
        return
    for name, count, price in (
        ("PUT", usage.put, prices.per_put),
        ("LIST", usage.list, prices.per_put),
        ("GET", usage.get, prices.per_get),
        ("HEAD", usage.head, prices.per_get),
        ("DELETE", usage.delete, 0.0),
    ):
        yield f"{name} requests", f"{count:,}", format_dollars(count * price)
    for name, size, price in (
        ("sent to the store", usage.uploaded_bytes, prices.per_gb_up),
        ("read from the store", usage.downloaded_bytes, prices.per_gb_down),
    ):
        yield name, format_size(size), format_dollars(size / 1e9 * price)


def _other_rows(report: Report) -> Iterator[tuple[str, str, str]]:
    recorded = report.recorded
    kept = f"{recorded.objects:,} objects kept for 30 days"
    yield kept, format_size(recorded.stored_bytes), format_dollars(report.storage_dollars_month)
    if report.prices.per_worker_hour:
        hours = sum(worker.span_s for worker in report.workers) / 3600
        yield "hours of workers", f"{hours:,.2f}", format_dollars(report.workers_dollars)
    yield f"{report.messages:,} messages through the broker", f"about {format_size(report.broker_bytes)}", ""


def show_attempts(report: Report) -> str:
    """Return failures, attempts without a result, and failed items; nothing if there are none."""
    parts = [*_failure_parts(report), *_attempt_parts(report), *_failed_item_parts(report)]
    return _section("Attempts and failures", "", "".join(parts)) if parts else ""


def _failure_parts(report: Report) -> Iterator[str]:
    failure = report.failure
    if failure is not None:
        title = f"The job ended: {failure.step}: {failure.error}: {failure.reason}"
        yield _show_traceback(title, failure.traceback_text)


def _attempt_parts(report: Report) -> Iterator[str]:
    attempts = report.recorded.attempts
    if not attempts.count:
        return
    states = ", ".join(f"{count:,} {state}" for state, count in attempts.by_state().items())
    more = f"; the first {LISTED} are read" if attempts.count > LISTED else ""
    yield f"<p>{attempts.count:,} attempts gave no result: {states}{more}.</p>"
    for one in attempts.listed[:SHOWN_FAILURES]:
        yield _show_traceback(_describe_attempt(one), one.traceback_text)


def _describe_attempt(attempt: RecordedAttempt) -> str:
    what = f"chunk {attempt.chunk:,}" if attempt.chunk is not None else attempt.step
    again = f", generation {attempt.generation}" if attempt.generation else ""
    error = f": {attempt.error}: {attempt.reason}" if attempt.error else ""
    return f"{what}, attempt {attempt.number}{again}: {attempt.state}{error}"


def _failed_item_parts(report: Report) -> Iterator[str]:
    failed = report.failed_items
    if not failed:
        return
    rows = [
        (f"{item.item:,}", f"{item.chunk:,}", str(item.attempts), f"{item.error}: {item.reason}")
        for item in failed[:SHOWN_FAILURES]
    ]
    yield f"<p>{report.progress.items_failed:,} items failed.</p>"
    yield _table(["#item", "#chunk", "#attempts", "error"], rows)


def _show_traceback(title: str, text: str) -> str:
    if not text:
        return f"<p>{escape(title)}</p>"
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"


def _section(title: str, text: str, body: str) -> str:
    return f"<h2>{title}</h2>" + (f'<p class="soft">{escape(text)}</p>' if text else "") + body


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, bars: Sequence[float] = ()) -> str:
    """Return a table.

    Args:
        heads: The heads; one that begins with `#` is that of a column of numbers.
        rows: The cells, as plain text.
        bars: For each row a bar behind it, as a share of the column.
    """
    kinds = [' class="number"' if head.startswith("#") else "" for head in heads]
    cells = [f"<th{kind}>{escape(head.lstrip('#'))}</th>" for kind, head in zip(kinds, heads, strict=True)]
    lines = ["".join(cells) + ("<th></th>" if bars else "")]
    for position, row in enumerate(rows):
        cells = [f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row, strict=True)]
        if bars:
            cells.append(f'<td class="bar"><i style="width: {100 * bars[position]:.2f}%"></i></td>')
        lines.append("".join(cells))
    return '<div class="wide"><table>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"
