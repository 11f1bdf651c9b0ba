"""The figures of a report: as lines for people, as fields for programs, as HTML for a notebook."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Any

from ..figures import format_count, format_dollars, format_duration, format_share, format_size

if TYPE_CHECKING:
    from .report import Report


def describe_facts(report: Report) -> list[tuple[str, str]]:
    """Return the names and texts of the main figures."""
    progress, recorded, usage = report.progress, report.recorded, report.usage
    again = f" in generation {report.generation}" if report.generation else ""
    failed = f", {progress.items_failed:,} failed" if progress.items_failed else ""
    items = format_count(progress.items or 0, "item")
    facts = [
        ("state", f"{report.state}{again}, after {format_duration(report.wall_s)}"),
        (
            "chunks",
            f"{progress.chunks_done:,} of {progress.chunks or 0:,}; {items}{failed}",
        ),
    ]
    if report.efficiency is not None:
        lanes = format_count(len(report.lanes), "lane")
        facts += [
            ("work", f"{format_duration(report.work_s)} of user code in {lanes} of workers"),
            (
                "efficiency",
                f"{format_share(report.efficiency)}: without any wait the chunks would have taken "
                f"{format_duration(report.ideal_s)}",
            ),
            (
                "a chunk",
                f"median {format_duration(report.median_s)}, longest "
                f"{format_duration(max(span.took_s for span in report.spans))}",
            ),
        ]
    if report.waited_s is not None:
        facts.append(("waiting", f"median {format_duration(report.waited_s)} from the store to a worker"))
    peak = max((worker.peak_bytes for worker in report.workers), default=0)
    facts.append(("memory", f"at most {format_size(peak)} in a process"))
    facts.append(("store", f"{format_size(recorded.stored_bytes)} in {format_count(recorded.objects, 'object')}"))
    if usage is not None and report.requests_dollars is not None:
        count = usage.put + usage.get + usage.head + usage.list + usage.delete
        traffic = f"{format_size(usage.uploaded_bytes)} up, {format_size(usage.downloaded_bytes)} down"
        facts.append(("requests", f"{count:,}: {traffic}, {format_dollars(report.requests_dollars)}"))
    facts.append(("messages", f"{report.messages:,}, about {format_size(report.broker_bytes)} through the broker"))
    attempts = recorded.attempts
    if attempts.count:
        facts.append(
            ("attempts", f"{attempts.count:,} without a result, of {attempts.retried_chunks:,} chunks or steps")
        )
    return facts


def describe_fields(report: Report) -> dict[str, Any]:
    """Return the figures in types of JSON; see `Report.to_dict`."""
    progress, recorded = report.progress, report.recorded
    return {
        "job_id": report.job_id,
        "task": report.task,
        "state": str(report.state),
        "generation": report.generation,
        "launched_at": report.launched_at,
        "began_at": report.began_at,
        "ended_at": report.ended_at,
        "wall_s": report.wall_s,
        "chunks_done": progress.chunks_done,
        "chunks": progress.chunks,
        "items": progress.items,
        "items_failed": progress.items_failed,
        "work_s": report.work_s,
        "fetched_s": report.fetched_s,
        "stored_s": report.stored_s,
        "process_s": report.process_s,
        "ideal_s": report.ideal_s,
        "efficiency": report.efficiency,
        "tail_s": report.tail_s,
        "median_s": report.median_s,
        "waited_s": report.waited_s,
        "lanes": len(report.lanes),
        "objects": recorded.objects,
        "stored_bytes": recorded.stored_bytes,
        "result_bytes": recorded.result_bytes,
        "input_bytes": recorded.manifest.input_bytes if recorded.manifest is not None else None,
        "unread_objects": recorded.unread,
        "messages": report.messages,
        "broker_bytes": report.broker_bytes,
        "requests": asdict(report.usage) if report.usage is not None else None,
        "dollars": {
            "requests": report.requests_dollars,
            "workers": report.workers_dollars,
            "storage_month": report.storage_dollars_month,
            "prices": asdict(report.prices),
        },
        "workers": [asdict(worker) for worker in report.workers],
        "critical_path": [asdict(segment) for segment in report.critical_path],
        "stragglers": [asdict(one) for one in report.stragglers[:100]],
        "attempts": {
            "count": recorded.attempts.count,
            "interrupted": recorded.attempts.interrupted,
            "retried_chunks": recorded.attempts.retried_chunks,
            "listed": [asdict(attempt) for attempt in recorded.attempts.listed],
        },
        "resends": recorded.resends,
        "advice": [asdict(advice) for advice in report.advice],
    }


def summarize_as_html(report: Report) -> str:
    """Return a table of the main figures, and the advice as a list."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in report.facts())
    advice = "".join(f"<li>{escape(str(one))}</li>" for one in report.advice)
    return f"<table>{rows}</table>" + (f"<ul>{advice}</ul>" if advice else "")
