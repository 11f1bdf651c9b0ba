"""The commands that run a task: here, or on workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from ..errors import InvalidInput, JobFailed
from ..task import ForkJoinTask
from .command import Command, CommandError
from .exit_codes import ExitCode, without_traceback
from .following import follow
from .loading import app_option, find_connected, load_extension, load_task
from .output import json_option, note, print_document, print_value, status_line
from .values import input_options, parse_job_id, read_input, read_options, read_tags, tag_option


@click.command(cls=Command)
@click.argument("task", metavar="MODULE:TASK")
@input_options
@click.option(
    "--executor",
    type=click.Choice(["inline", "threads", "processes"]),
    default="inline",
    show_default=True,
    help="Where the chunks run.",
)
@click.option("--workers", type=click.IntRange(1), help="Threads or processes; the processors if not given.")
@json_option
def run(
    task: str,
    input_file: str | None,
    parameter_words: tuple[str, ...],
    option_words: tuple[str, ...],
    executor: Any,
    workers: int | None,
    as_json: bool,
) -> None:
    """Run a task here, without Celery or a server, and print its value."""
    chosen = load_task(task)
    values, options = read_input(chosen, input_file, parameter_words), read_options(option_words)
    with explain_input(chosen):
        value = chosen.run(values, executor=executor, workers=workers, **options)
    print_value(value, as_json=as_json)


@click.command(cls=Command)
@click.argument("task", metavar="MODULE:TASK")
@app_option
@input_options
@click.option(
    "--job-id",
    type=parse_job_id,
    metavar="ID",
    help="An id of your own. A second submission of the same makes no second job.",
)
@tag_option("A tag by which `jobs list --tag` finds the job again. May be repeated.")
@click.option("--wait", is_flag=True, help="Wait for the end, show the progress, and print the value.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait at most. Implies --wait.")
@json_option
def submit(
    task: str,
    app: str | None,
    input_file: str | None,
    parameter_words: tuple[str, ...],
    option_words: tuple[str, ...],
    job_id: str | None,
    tag_words: tuple[str, ...],
    wait: bool,
    timeout_s: float | None,
    as_json: bool,
) -> None:
    """Launch a job of a task on workers, and print its id.

    Without -A, the job goes through the app that the task's module connects.
    """
    named = load_extension(app) if app is not None else None
    chosen = load_task(task)
    extension = named or find_connected()
    values, options = read_input(chosen, input_file, parameter_words), read_options(option_words)
    tags = read_tags(tag_words)
    with status_line("sending the job"), explain_input(chosen):
        job = chosen.submit(values, job_id=job_id, app=extension.app, tags=tags, **options)
    launched = {"job_id": job.id, "task": chosen.name}
    if not wait and timeout_s is None:
        if as_json:
            print_document(launched)
        else:
            click.echo(job.id)
        return
    note(f"job {job.id}")
    try:
        with status_line("launched") as status:
            for progress in follow(extension.runtime, job, timeout_s=timeout_s, sweeping=True):
                status.show(str(progress))
    except KeyboardInterrupt:
        message = f"interrupted; job {job.id} goes on. `fanout jobs watch {job.id}` waits again"
        raise CommandError(message, ExitCode.INTERRUPTED) from None
    try:
        value = job.get(timeout=VALUE_TIMEOUT_S)
    except JobFailed as error:
        # Not with --debug: that would launch another job.
        hint = f". `fanout jobs failures {job.id} --traceback` shows the traceback" if error.traceback_text else ""
        raise CommandError(f"{without_traceback(error)}{hint}", ExitCode.FAILED) from error
    if as_json:
        print_document({**launched, "state": "succeeded", "value": value})
    else:
        print_value(value, as_json=False)


VALUE_TIMEOUT_S = 60.0
"""Seconds in which the store must give the value of a job that has ended."""


@contextmanager
def explain_input(task: type[ForkJoinTask[Any]]) -> Iterator[None]:
    """Add the fields that a task takes to the error of an input that it refuses.

    Raises:
        CommandError: The task refuses the input.
    """
    try:
        yield
    except InvalidInput as error:
        message = f"the input does not fit {error}. {_describe_fields(task)}"
        raise CommandError(message, ExitCode.USAGE) from error


def _describe_fields(task: type[ForkJoinTask[Any]]) -> str:
    """Return the names, types and needs of a task's fields in a sentence."""
    required = task.declaration.binding.required_fields
    fields = []
    for name, rules in task.get_input_schema().items():
        rules = rules if isinstance(rules, dict) else {}
        kinds = rules.get("type", "any")
        kind = kinds if isinstance(kinds, str) else " or ".join(map(str, kinds))
        fields.append(f"{name} ({kind}{', required' if name in required or rules.get('required') else ''})")
    if not fields:
        return f"{task.name} takes no input"
    return f"Its fields: {', '.join(fields)}. Give them with -p NAME=VALUE or --input FILE"
