"""The commands that print data of a job: its value, its results, its failures."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import click

from ..engines.store_only import AttachedStore
from ..errors import JobTimeout
from ..job import Job
from ..records.failure import FailedItem
from ..records.models import LISTED_FAILURES
from ..stages.result_reader import entry_values
from .command import Command
from .loading import JobsHolder, with_holder
from .output import json_option, note, print_document, print_line, print_table, print_value
from .values import job_id_argument


@click.command(cls=Command)
@job_id_argument
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), default=0.0, help="Seconds to wait for it at most.")
@json_option
@with_holder
def value(holder: JobsHolder, /, job_id: str, timeout_s: float, as_json: bool) -> None:
    """Print the value of a job that has ended."""
    _import_task_modules(holder)
    job = holder.job(job_id)
    if not timeout_s and not job.ready:
        raise JobTimeout(f"job {job_id} is {job.state}, and has no value yet: --timeout waits for it")
    print_value(job.get(timeout=timeout_s or None), as_json=as_json)


@click.command(cls=Command)
@job_id_argument
@click.option("--limit", type=click.IntRange(1), help="Most results that are printed.")
@click.option("--follow", is_flag=True, help="Wait for results that are not there yet.")
@json_option
@with_holder
def results(holder: JobsHolder, /, job_id: str, limit: int | None, follow: bool, as_json: bool) -> None:
    """Print the results of process, in item order, up to the first that is not there yet.

    One request per result object, and one per 1,000 to list them. A job with `combine` has combined values instead.
    With --json, prints a line per result.
    """
    _import_task_modules(holder)
    job = holder.job(job_id)
    printed = 0
    for index, result in enumerate(islice(job if follow else _present_results(job), limit)):
        if as_json:
            failed = result.to_dict() if isinstance(result, FailedItem) else None
            print_line({"index": index, "value": None if failed else result, "failed": failed})
        else:
            click.echo(str(result) if isinstance(result, FailedItem) else repr(result))
        printed = index + 1
    if follow or printed == limit:
        return
    progress = job.progress()
    if progress.fraction != 1.0:
        missing = f"the results from {printed} on are not" if printed else "no result is"
        note(f"The job is {progress.state}, and {missing} there.")


def _present_results(job: Job[Any]) -> Iterator[Any]:
    """Yield the results that are in the store, up to the first chunk that is missing."""
    ledger, manifest = job.ledger, job.ledger.manifest()
    if manifest is None:
        return
    chunk = 0
    for entry in ledger.result_entries(manifest.setup_id):
        if entry.index != chunk:
            return
        yield from entry_values(ledger, manifest.setup_id, entry, tolerant=True)
        chunk += entry.count


@click.command(cls=Command)
@job_id_argument
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Most items that are printed.")
@click.option("--traceback", "with_traceback", is_flag=True, help="Print the traceback of the step that ended the job.")
@json_option
@with_holder
def failures(holder: JobsHolder, /, job_id: str, limit: int, with_traceback: bool, as_json: bool) -> None:
    """Print the failed items of a job, and the error that ended it.

    One request per 1,000 results, and one per chunk with failed items up to --limit items.
    """
    job = holder.job(job_id)
    count = job.progress().items_failed
    items = job.failures or list(islice(_present_failures(job), limit))
    outcome = job.ledger.outcome()
    error = outcome.error(job_id) if outcome is not None and outcome.failure is not None else None
    if as_json:
        fields = ("step", "reason", "chunk", "item", "attempts", "traceback_text")
        print_document(
            {
                "job_id": job_id,
                "items_failed": count,
                "failures": [item.to_dict() for item in items[:limit]],
                "error": None if error is None else {name: getattr(error, name) for name in fields},
            }
        )
        return
    if items:
        rows = [
            [str(item.item), str(item.chunk), str(item.attempts), f"{item.error}: {item.reason}"]
            for item in items[:limit]
        ]
        print_table(["ITEM", "CHUNK", "ATTEMPTS", "ERROR"], rows)
    if count > limit:
        note(f"{count:,} items failed; --limit shows more, {LISTED_FAILURES:,} at most of a job that has ended.")
    if error is not None:
        click.echo(str(error) if with_traceback else str(error).partition("\n\n")[0])
    elif not items:
        note("no item has failed")


def _present_failures(job: Job[Any]) -> Iterator[FailedItem]:
    """Yield the failed items of a job that has not ended, in item order."""
    ledger, manifest = job.ledger, job.ledger.manifest()
    if manifest is None:
        return
    for entry in ledger.result_entries(manifest.setup_id):
        if entry.failed:
            result = ledger.result(manifest.setup_id, entry.index, entry.failed)
            yield from result.failed_items if result is not None else ()


def _import_task_modules(holder: JobsHolder) -> None:
    """Import the modules of an app's tasks, as a worker does: they register the classes of values."""
    if not isinstance(holder, AttachedStore):
        holder.app.loader.import_default_modules()
