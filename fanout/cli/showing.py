"""The commands that show one job: show, watch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from ..progress import Progress
from ..records.models import Intent
from ..report import Report, describe_costs
from ..waiting.view import JobView
from ..waiting.watch import glance
from .command import Command
from .following import follow, progress_fields
from .loading import JobsHolder, with_holder
from .output import (
    format_age,
    format_time,
    json_option,
    print_document,
    print_facts,
    print_line,
    status_line,
)
from .values import job_id_argument

SHOWN_FAILURES = 20
"""Most failed items that `show` prints."""


@click.command(cls=Command)
@job_id_argument
@click.option("--cost", is_flag=True, help="Show time and memory of each step, at one request per result.")
@json_option
@with_holder
def show(holder: JobsHolder, /, job_id: str, cost: bool, as_json: bool) -> None:
    """Show a job's state, tags and failures, at a handful of requests."""
    with status_line("reading the job"):
        view = JobView(job_id, holder.runtime)
        intent, progress = view.open().intent, glance(view)
        job = holder.job(job_id, launch_id=view.launch_id)
        report = job.report() if cost else None
    outcome = view.seen_outcome
    failures = outcome.failed_items if outcome is not None else []
    failure = outcome.error(job_id) if outcome is not None and outcome.failure is not None else None
    if as_json:
        print_document(
            {
                **progress_fields(job, progress),
                "generation": view.generation,
                "task": intent.task,
                "tags": intent.tags,
                "launched_at": intent.created_at,
                "cost": _cost_fields(report) if report is not None else None,
                "failures": [item.to_dict() for item in failures],
                "error": None if failure is None else {"step": failure.step, "reason": failure.reason},
            }
        )
        return
    print_facts(_facts(view, intent, progress, report))
    for item in failures[:SHOWN_FAILURES]:
        click.echo(f"  {item}")
    if outcome is not None and outcome.failed > SHOWN_FAILURES:
        click.echo(f"  and {outcome.failed - SHOWN_FAILURES:,} more")
    if failure is not None:
        click.echo(str(failure))


def _facts(view: JobView, intent: Intent, progress: Progress, report: Report | None) -> Iterator[tuple[str, str]]:
    yield "job", view.job_id
    yield "task", intent.task
    if intent.tags:
        yield "tags", ", ".join(f"{name}={value}" for name, value in sorted(intent.tags.items()))
    yield "launched", f"{format_time(intent.created_at)}, {format_age(intent.created_at)} ago"
    if report is not None:
        yield from describe_costs(report)
        return
    again = f" in generation {view.generation}" if view.generation else ""
    yield "state", f"{progress}{again}"
    if progress.chunks is not None:
        least = "at least " if progress.is_partial else ""
        yield "chunks", f"{least}{progress.chunks_done:,} of {progress.chunks:,} are done"


def _cost_fields(report: Report) -> dict[str, Any]:
    recorded = report.recorded
    return {
        "input_bytes": recorded.manifest.input_bytes if recorded.manifest is not None else 0,
        "stored_bytes": recorded.stored_bytes,
        "objects": recorded.objects,
        "stages": {name: asdict(stage) for name, stage in report.stages.items() if stage.runs},
    }


@click.command(cls=Command)
@job_id_argument
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to watch at most.")
@json_option
@with_holder
def watch(holder: JobsHolder, /, job_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Show the progress of a job until it has ended. Asks the store once a second.

    The exit status is 1 if the job failed or was cancelled. With --json, prints a line per change.
    """
    job = holder.job(job_id)
    shown = ""
    with status_line("asking the store") as status:
        for progress in follow(holder.runtime, job, timeout_s=timeout_s):
            if as_json:
                print_line(progress_fields(job, progress))
                continue
            status.show(str(progress), plain=False)
            # Without a terminal each new line is the output.
            if not status.is_live and str(progress) != shown:
                shown = str(progress)
                click.echo(shown)
    if not as_json and status.is_live:
        click.echo(str(progress))
    outcome = job.ledger.outcome()
    if outcome is not None and outcome.failure is not None:
        raise outcome.error(job_id)
