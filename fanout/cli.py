"""The command `fanout`."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from storage import StorageUnavailable

from . import __version__, sweep
from .doctor import check_all, plain, report_lines
from .errors import BrokerUnavailable, FanoutError
from .finding import Finding, Verdict
from .job import Job
from .report import JobReport

if TYPE_CHECKING:
    from .engines.celery import Extension

SHOWN_FAILURES = 20
"""Most failed items that `show` prints."""


class _Command(click.Group):
    """A group of commands that shows an error of fanout as one line."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except FanoutError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Command)
@click.version_option(__version__)
def main() -> None:
    """Fork-join tasks for Celery whose data stays off the broker."""


@main.command()
@click.option("-A", "--app", "app", help="The connected Celery app, as for `celery -A`: `package.module:app`.")
@click.option("--store", help="The store to check instead of the app's: `s3://bucket/prefix`.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(app: str | None, store: str | None, as_json: bool) -> None:
    """Check store, settings, broker and workers.

    The exit status is 1 if a check finds something broken.
    """
    if app is None and store is None:
        raise click.UsageError("Nothing to check: give --app or --store.")
    findings = check_all(_load_extension(app) if app is not None else None, store_url=store)
    reported: list[Finding] = []
    for finding in findings:
        reported.append(finding)
        for line in () if as_json else report_lines([finding], width=shutil.get_terminal_size((120, 24)).columns):
            click.echo(line)
    if as_json:
        click.echo(json.dumps(plain(reported), indent=2, ensure_ascii=False))
    sys.exit(1 if any(finding.verdict is Verdict.BROKEN for finding in reported) else 0)


_app_option = click.option(
    "-A", "--app", "app", required=True, help="The connected Celery app, as for `celery -A`: `package.module:app`."
)


@main.group()
@_app_option
@click.pass_context
def jobs(context: click.Context, app: str) -> None:
    """Show, cancel and retry the jobs of an app."""
    context.obj = _load_extension(app)


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def show(extension: Extension, job_id: str) -> None:
    """Show a job's state, cost and failures."""
    job = extension.job(job_id)
    for line in JobReport.of(job).lines():
        click.echo(line)
    outcome = job.ledger.outcome()
    for item in job.failures[:SHOWN_FAILURES]:
        click.echo(f"  {item}")
    if outcome is not None and outcome.failed > SHOWN_FAILURES:
        click.echo(f"  and {outcome.failed - SHOWN_FAILURES:,} more")
    if outcome is not None and outcome.failure is not None:
        click.echo(str(outcome.error(job_id)))


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def cancel(extension: Extension, job_id: str) -> None:
    """Cancel a job that has not ended."""
    job: Job = extension.job(job_id)
    click.echo("cancelled" if job.cancel() else f"had ended before: {job.state}")


def _parse_share(text: str) -> int | float:
    """Parse a count of items, or a fraction of them if it has a decimal point."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a count, such as 5, nor a fraction, such as 0.05") from None


@jobs.command()
@click.argument("job_id")
@click.option("--max-attempts", type=click.IntRange(1), help="Attempts of a chunk, from now on.")
@click.option("--tolerate", type=_parse_share, help="Items that may fail, from now on: a count, or a fraction as 0.05.")
@click.option("--min-success", type=_parse_share, help="Items that must succeed, from now on.")
@click.option("--deadline-s", type=float, help="Seconds from now at which the job fails if it has not ended.")
@click.pass_obj
def retry(extension: Extension, /, job_id: str, **options: Any) -> None:
    """Run what failed or is missing in a job that has ended, under the same id."""
    changes = {name: value for name, value in options.items() if value is not None}
    started = extension.job(job_id).retry(**changes)
    click.echo("runs again" if started else "has not ended, so there is nothing to retry")


@main.command(name="sweep")
@click.argument("job_id", required=False)
@_app_option
@click.option("--every", "every_s", type=click.FloatRange(0, min_open=True), help="Repeat after so many seconds.")
def sweep_command(job_id: str | None, app: str, every_s: float | None) -> None:
    """Resend the messages of stalled jobs, fail overdue jobs, and remove jobs that ended more than retention_s ago.

    With JOB_ID, do so for that job alone, and remove nothing.
    """
    extension = _load_extension(app)
    _sweep(extension, job_id)
    while every_s is not None:
        # no limit: the command runs until a user ends it
        time.sleep(every_s)
        try:
            _sweep(extension, job_id)
        except (StorageUnavailable, BrokerUnavailable) as error:
            # Jobs stall during an outage, so the sweep after it matters most.
            click.echo(f"could not sweep: {error}", err=True)


def _sweep(extension: Extension, job_id: str | None) -> None:
    """Sweep one job or all, and print each job that the sweep changed."""
    runtime = extension.runtime
    moves = sweep.sweep(runtime) if job_id is None else [(job_id, sweep.sweep_job(runtime, job_id))]
    for swept_id, move in moves:
        if move is not sweep.Move.NONE:
            click.echo(f"{swept_id}  {move}")


def _load_extension(name: str) -> Extension:
    """Import a Celery app as `celery -A` does, and return its fanout extension."""
    from .engines import celery

    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        app = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(f"no Celery app at {name!r}: {error}", param_hint="--app") from error
    return celery.extension_of(app)
