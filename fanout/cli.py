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
"""Failed items that `show` prints."""


class _Command(click.Group):
    """Shows an error that fanout raised on purpose as one line."""

    def invoke(self, ctx: click.Context) -> Any:
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
@click.option("--store", help="The store to look at instead of the app's: `s3://bucket/prefix`.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
def doctor(app: str | None, store: str | None, as_json: bool) -> None:
    """Look at everything that jobs rely on: store, settings, broker and workers.

    Ends with status 1 if something is broken.
    """
    if app is None and store is None:
        raise click.UsageError("Nothing to look at: give --app, or --store.")
    findings = check_all(_extension(app) if app is not None else None, store_url=store)
    kept: list[Finding] = []
    for finding in findings:
        kept.append(finding)
        for line in () if as_json else report_lines([finding], width=shutil.get_terminal_size((120, 24)).columns):
            click.echo(line)
    if as_json:
        click.echo(json.dumps(plain(kept), indent=2, ensure_ascii=False))
    sys.exit(1 if any(finding.verdict is Verdict.BROKEN for finding in kept) else 0)


_app_option = click.option(
    "-A", "--app", "app", required=True, help="The connected Celery app, as for `celery -A`: `package.module:app`."
)


@main.group()
@_app_option
@click.pass_context
def jobs(context: click.Context, app: str) -> None:
    """Look after the jobs of an app."""
    context.obj = _extension(app)


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def show(extension: Extension, job_id: str) -> None:
    """How a job stands and what it has cost."""
    job = extension.job(job_id)
    for line in JobReport.of(job).lines():
        click.echo(line)
    outcome = job.outcome()
    for failed in job.failures[:SHOWN_FAILURES]:
        click.echo(f"  {failed}")
    if outcome is not None and outcome.failed > SHOWN_FAILURES:
        click.echo(f"  and {outcome.failed - SHOWN_FAILURES:,} more")
    if outcome is not None and outcome.failure is not None:
        click.echo(str(outcome.error(job_id)))


@jobs.command()
@click.argument("job_id")
@click.pass_obj
def cancel(extension: Extension, job_id: str) -> None:
    """End a job that has not ended."""
    job: Job = extension.job(job_id)
    click.echo("cancelled" if job.cancel() else f"had ended before: {job.state}")


def _share(text: str) -> int | float:
    """A count of items, or a fraction of them if it is written with a point."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a count, such as 5, nor a fraction, such as 0.05") from None


@jobs.command()
@click.argument("job_id")
@click.option("--max-attempts", type=click.IntRange(1), help="Runs of a chunk, from now on.")
@click.option("--tolerate", type=_share, help="Items that may fail, from now on: a count, or a fraction as 0.05.")
@click.option("--min-success", type=_share, help="Items that must succeed, from now on.")
@click.option("--deadline-s", type=float, help="Seconds from now at which the job fails if it has not ended.")
@click.pass_obj
def retry(extension: Extension, /, job_id: str, **options: Any) -> None:
    """Run what failed or is missing of a job that has ended, under the same id."""
    changes = {name: value for name, value in options.items() if value is not None}
    started = extension.job(job_id).retry(**changes)
    click.echo("runs again" if started else "has not ended, so there is nothing to retry")


@jobs.command(name="sweep")
@click.pass_obj
def sweep_of_jobs(extension: Extension) -> None:
    """The same as `fanout sweep`, once."""
    _sweep(extension)


@main.command(name="sweep")
@_app_option
@click.option("--every", "every_s", type=click.FloatRange(0, min_open=True), help="Go on, every so many seconds.")
def sweep_command(app: str, every_s: float | None) -> None:
    """Move every job that has stalled; remove what is older than keep_s."""
    extension = _extension(app)
    _sweep(extension)
    while every_s is not None:
        # no limit: the command runs until somebody ends it
        time.sleep(every_s)
        try:
            _sweep(extension)
        except (StorageUnavailable, BrokerUnavailable) as error:
            # It will be there again some time, and then this is needed most.
            click.echo(f"could not sweep: {error}", err=True)


def _sweep(extension: Extension) -> None:
    for job_id, move in sweep.sweep(extension.runtime):
        if move is not sweep.Move.NONE:
            click.echo(f"{job_id}  {move}")


def _extension(name: str) -> Extension:
    from .engines import celery

    module, _, attribute = name.partition(":")
    sys.path.insert(0, "")
    try:
        app = getattr(importlib.import_module(module), attribute or "app")
    except (ImportError, AttributeError) as error:
        raise click.BadParameter(f"no Celery app at {name!r}: {error}", param_hint="--app") from error
    return celery.extension_of(app)
