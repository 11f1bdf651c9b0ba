"""The commands that show jobs: list, show, watch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from storage import CorruptObject

from ..errors import JobNotFound
from ..job import Job
from ..progress import JobState, Progress
from ..records.ledger import job_ids
from ..records.models import Intent
from ..report import JobReport
from ..runtime import Runtime
from .command import Command
from .following import follow, progress_fields
from .loading import with_extension
from .output import (
    format_age,
    format_time,
    json_option,
    note,
    print_document,
    print_facts,
    print_line,
    print_table,
    status_line,
)
from .values import job_id_argument, parse_job_id

if TYPE_CHECKING:
    from ..engines.celery import Extension

SHOWN_FAILURES = 20
"""Most failed items that `show` prints."""

READERS = 8
"""Jobs that `list` reads at the same time."""

UNREADABLE = "unreadable"
"""State in the list of a job whose records are damaged."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One job of the list. `task` and what follows it are None for a job whose records are damaged."""

    job_id: str
    state: str
    task: str | None = None
    launched_at: float | None = None
    chunks_done: int | None = None
    chunks: int | None = None
    items: int | None = None
    items_failed: int | None = None

    @classmethod
    def read(cls, runtime: Runtime, job_id: str) -> _Row | None:
        """Read a job; None if it was removed meanwhile. About four requests, and one per 1,000 results."""
        try:
            intent = runtime.job(job_id).intent
            progress = Job[Any](job_id, runtime, launch_id=intent.launch_id).progress()
        except JobNotFound:
            return None
        except CorruptObject:
            return cls(job_id, UNREADABLE)
        counts = (progress.chunks_done, progress.chunks, progress.items, progress.items_failed)
        return cls(job_id, str(progress.state), intent.task, intent.created_at, *counts)

    def cells(self) -> list[str]:
        """Return the cells for a table."""
        chunks = "" if self.chunks is None else f"{self.chunks_done}/{self.chunks}"
        return [
            self.job_id,
            self.state,
            chunks,
            str(self.items_failed or ""),
            format_age(self.launched_at) if self.launched_at is not None else "",
            (self.task or "").rpartition(".")[2],
        ]


@click.command(name="list", cls=Command)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([*map(str, JobState), UNREADABLE]),
    help="Show only jobs in this state. May be repeated.",
)
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Most jobs that are read.")
@click.option(
    "--after", type=parse_job_id, metavar="ID", help="Begin after this id, to go on where the last list ended."
)
@json_option
@with_extension
def list_jobs(extension: Extension, /, states: tuple[str, ...], limit: int, after: str | None, as_json: bool) -> None:
    """List the jobs in the store, the latest launch first.

    Reads the first --limit jobs in the order of their ids, at about five requests each and one per 1,000 results.
    --state picks among these.
    """
    runtime = extension.runtime
    with status_line("reading jobs"):
        ids = list(islice(job_ids(runtime.store, after=after), limit + 1))
        # no limit: its reads end with the limits of the store
        with ThreadPoolExecutor(READERS) as pool:
            # no limit: each read ends with the limits of the store
            reads = pool.map(lambda job_id: _Row.read(runtime, job_id), ids[:limit])
            found = list(reads)
    following = ids[limit - 1] if len(ids) > limit else None
    rows = [row for row in found if row is not None and (not states or row.state in states)]
    rows.sort(key=lambda row: row.launched_at or 0.0, reverse=True)
    if as_json:
        print_document({"jobs": [asdict(row) for row in rows], "after": following})
        return
    if rows:
        print_table(["JOB", "STATE", "CHUNKS", "FAILED", "AGE", "TASK"], [row.cells() for row in rows])
    else:
        note("no job in such a state" if states else "no jobs")
    if following is not None:
        note(f"The store has more jobs. Go on with --after {following}, or give a larger --limit.")


@click.command(cls=Command)
@job_id_argument
@click.option(
    "--cost/--no-cost", default=True, help="Time and memory of each step, at one request per result; on by default."
)
@json_option
@with_extension
def show(extension: Extension, /, job_id: str, cost: bool, as_json: bool) -> None:
    """Show a job's state, cost and failures."""
    job = extension.job(job_id)
    with status_line("reading the job"):
        intent = extension.runtime.job(job_id).intent
        report = JobReport.of(job) if cost else None
        progress = job.progress()
    outcome = job.ledger.outcome()
    failure = outcome.error(job_id) if outcome is not None and outcome.failure is not None else None
    if as_json:
        print_document(
            {
                **progress_fields(job, progress),
                "generation": job.generation,
                "task": intent.task,
                "launched_at": intent.created_at,
                "cost": _cost_fields(report) if report is not None else None,
                "failures": [item.to_dict() for item in job.failures],
                "error": None if failure is None else {"step": failure.step, "reason": failure.reason},
            }
        )
        return
    print_facts(_facts(job, intent, progress, report))
    for item in job.failures[:SHOWN_FAILURES]:
        click.echo(f"  {item}")
    if outcome is not None and outcome.failed > SHOWN_FAILURES:
        click.echo(f"  and {outcome.failed - SHOWN_FAILURES:,} more")
    if failure is not None:
        click.echo(str(failure))


def _facts(job: Job[Any], intent: Intent, progress: Progress, report: JobReport | None) -> Iterator[tuple[str, str]]:
    yield "job", job.id
    yield "task", intent.task
    yield "launched", f"{format_time(intent.created_at)}, {format_age(intent.created_at)} ago"
    if report is None:
        again = f" in generation {job.generation}" if job.generation else ""
        yield "state", str(progress) + again
    else:
        yield from report.facts()


def _cost_fields(report: JobReport) -> dict[str, Any]:
    counted = ("input_bytes", "stored_bytes", "objects")
    stages = {name: asdict(stage) for name, stage in report.stages.items() if stage.runs}
    return {**{name: getattr(report, name) for name in counted}, "stages": stages}


@click.command(cls=Command)
@job_id_argument
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to watch at most.")
@json_option
@with_extension
def watch(extension: Extension, /, job_id: str, timeout_s: float | None, as_json: bool) -> None:
    """Show the progress of a job until it has ended. Asks the store once a second.

    The exit status is 1 if the job failed or was cancelled. With --json, prints a line per change.
    """
    job = extension.job(job_id)
    shown = ""
    with status_line("asking the store") as status:
        for progress in follow(extension.runtime, job, timeout_s=timeout_s):
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
