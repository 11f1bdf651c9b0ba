"""The commands that change jobs: retry, cancel, remove."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..engines.store_only import AttachedStore
from ..errors import JobNotFound
from ..figures import format_count
from .command import Command, CommandError
from .exit_codes import ExitCode
from .loading import JobsHolder, with_holder
from .output import json_option, print_document, print_line, status_line
from .values import job_id_argument, parse_job_id, parse_share


@click.command(cls=Command)
@job_id_argument
@click.option("--max-attempts", type=click.IntRange(1), help="Attempts of a chunk, from now on.")
@click.option(
    "--tolerate",
    type=parse_share,
    metavar="SHARE",
    help="Items that may fail, from now on: a count, or a fraction as 0.05.",
)
@click.option("--min-success", type=parse_share, metavar="SHARE", help="Items that must succeed, from now on.")
@click.option("--deadline-s", type=float, help="Seconds from now at which the job fails if it has not ended.")
@json_option
@with_holder
def retry(holder: JobsHolder, /, job_id: str, as_json: bool, **options: Any) -> None:
    """Run what failed or is missing in a job that has ended, under the same id.

    The exit status is 6 if the job has not ended, or has nothing to retry.
    """
    if isinstance(holder, AttachedStore):
        message = (
            f"a retry sends messages, so it needs the job's app: `fanout jobs -A package.module:app retry {job_id}`"
        )
        raise CommandError(message, ExitCode.USAGE)
    changes = {name: given for name, given in options.items() if given is not None}
    if not holder.job(job_id).retry(**changes):
        raise CommandError(f"job {job_id} has not ended, so there is nothing to retry", ExitCode.REFUSED)
    _print_change(job_id, "retried", "runs again", as_json=as_json)


@click.command(cls=Command)
@job_id_argument
@json_option
@with_holder
def cancel(holder: JobsHolder, /, job_id: str, as_json: bool) -> None:
    """Cancel a job that has not ended.

    The exit status is 6 if the job had ended otherwise.
    """
    job = holder.job(job_id)
    if not job.cancel():
        raise CommandError(f"job {job_id} had ended before: {job.state}", ExitCode.REFUSED)
    _print_change(job_id, "cancelled", "cancelled", as_json=as_json)


@click.command(cls=Command)
@click.argument("job_ids", nargs=-1, required=True, type=parse_job_id)
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
@with_holder
def remove(holder: JobsHolder, /, job_ids: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete all that the store holds of jobs that have ended.

    One request per 1,000 objects to list them, and as many to delete them. With --json, prints a line per job.
    """
    for job_id in job_ids:
        job = holder.job(job_id)
        if not job.ready:
            message = f"job {job_id} is {job.state}: `fanout jobs cancel {job_id}` first. Nothing was removed"
            raise CommandError(message, ExitCode.REFUSED)
    if not yes:
        if not _has_terminal():
            raise CommandError("there is no terminal to ask: --yes removes without a question", ExitCode.USAGE)
        if not click.confirm(f"Remove {', '.join(job_ids)}?", err=True):
            raise CommandError("nothing was removed", ExitCode.INTERRUPTED)
    for number, job_id in enumerate(job_ids):
        with status_line(f"removing {job_id}, {number + 1:,} of {len(job_ids):,}"):
            objects = holder.job(job_id).remove()
        if not objects:
            raise JobNotFound(job_id, holder.runtime.store.url)
        if as_json:
            print_line({"job_id": job_id, "action": "removed", "objects": objects})
        else:
            click.echo(f"{job_id}  removed, {format_count(objects, 'object')}")


def _has_terminal() -> bool:
    return sys.stdin.isatty()


def _print_change(job_id: str, action: str, text: str, *, as_json: bool) -> None:
    if as_json:
        print_document({"job_id": job_id, "action": action})
    else:
        click.echo(text)
