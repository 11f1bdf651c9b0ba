"""The commands that keep an app healthy: sweep, doctor."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING

import click

from storage import Finding, StorageUnavailable, Verdict

from .. import sweep as sweeping
from ..doctor import check_all, plain, report_lines
from ..errors import BrokerUnavailable
from .command import Command, CommandError
from .exit_codes import ExitCode
from .loading import app_option, load_extension, with_extension
from .output import json_option, print_document, print_line, status_line
from .values import parse_job_id

if TYPE_CHECKING:
    from ..engines.celery import Extension


@click.command(cls=Command)
@click.argument("job_id", required=False, type=parse_job_id)
@click.option("--all", "is_all", is_flag=True, help="Look at every job that the store keeps, at two requests each.")
@click.option("--every", "every_s", type=click.FloatRange(0, min_open=True), help="Repeat after so many seconds.")
@json_option
@with_extension
def sweep(extension: Extension, /, job_id: str | None, is_all: bool, every_s: float | None, as_json: bool) -> None:
    """Resend the messages of stalled jobs, fail overdue jobs, and remove jobs that ended more than retention_s ago.

    With JOB_ID, do so for that job alone, and remove nothing. Prints each job that the sweep changed; with --json, a
    line for each. Looks at open jobs and at old ones, at two requests each, and once a day at every job.
    """
    if job_id is not None and is_all:
        raise CommandError("--all sweeps every job: leave out JOB_ID, or --all", ExitCode.USAGE)
    _sweep(extension, job_id, is_all=is_all, as_json=as_json)
    while every_s is not None:
        # no limit: the command runs until a user ends it
        time.sleep(every_s)
        try:
            _sweep(extension, job_id, is_all=is_all, as_json=as_json)
        except (StorageUnavailable, BrokerUnavailable) as error:
            # Jobs stall during an outage, so the sweep after it matters most.
            click.echo(f"could not sweep: {error}", err=True)


def _sweep(extension: Extension, job_id: str | None, *, is_all: bool, as_json: bool) -> None:
    """Sweep one job or the store's, and print each job that the sweep changed."""
    runtime = extension.runtime
    if job_id is None:
        moves = sweeping.sweep(runtime, everything=is_all)
    else:
        moves = iter([(job_id, sweeping.sweep_job(runtime, job_id))])
    changed: list[tuple[str, sweeping.Move]] = []
    with status_line("sweeping") as status:
        for number, (swept_id, move) in enumerate(moves, start=1):
            status.show(f"sweeping, {number:,} jobs seen, {len(changed):,} changed", plain=False)
            if move is sweeping.Move.NONE:
                continue
            changed.append((swept_id, move))
            if as_json:
                print_line({"job_id": swept_id, "action": str(move)})
            else:
                click.echo(f"{swept_id}  {move}")


@click.command(cls=Command)
@app_option
@click.option("--store", help="The store to check instead of the app's: `s3://bucket/prefix`.")
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="URL",
    help="A server of the store, instead of the environment's. Repeat it to let writers meet by way of several.",
)
@json_option
def doctor(app: str | None, store: str | None, endpoints: tuple[str, ...], as_json: bool) -> None:
    """Check store, settings, broker and workers.

    The exit status is 1 if a check finds something broken.
    """
    if app is None and store is None:
        raise CommandError("nothing to check: give --app or --store", ExitCode.USAGE)
    findings = check_all(load_extension(app) if app is not None else None, store_url=store, endpoints=endpoints)
    reported: list[Finding] = []
    for finding in findings:
        reported.append(finding)
        for line in () if as_json else report_lines([finding], width=shutil.get_terminal_size((120, 24)).columns):
            click.echo(line)
    if as_json:
        print_document(plain(reported))
    broken = any(finding.verdict is Verdict.BROKEN for finding in reported)
    sys.exit(ExitCode.FAILED if broken else ExitCode.DONE)
