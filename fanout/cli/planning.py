"""The command that says what a job will take, before anything is sent."""

from __future__ import annotations

from typing import Any

import click

from ..plan import Assumptions
from ..report import Report
from .command import Command, CommandError
from .exit_codes import ExitCode
from .launching import explain_input
from .loading import app_option, find_connected, find_holder, load_task, store_option
from .output import json_option, note, print_document, print_facts, status_line
from .values import input_options, parse_job_id, read_input, read_options


@click.command(cls=Command)
@click.argument("task", metavar="MODULE:TASK")
@input_options
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--item-ms", type=click.FloatRange(0), help="Milliseconds of process for an item; 0 if not given.")
@click.option("--request-ms", type=click.FloatRange(0), help="Milliseconds of a request to the store; 50 if not given.")
@click.option("--like", "like", type=parse_job_id, metavar="ID", help="A job that has run, for rates and sizes.")
@app_option
@store_option
@click.option("--items", type=click.IntRange(1), help="Number of items, instead of those that setup yields here.")
@click.option("--item-bytes", type=click.FloatRange(0), help="Encoded size of an item, instead of that of setup's.")
@click.option("--result-bytes", type=click.IntRange(0), help="Size of a result; 100 if not given.")
@json_option
def plan(
    task: str,
    input_file: str | None,
    parameter_words: tuple[str, ...],
    option_words: tuple[str, ...],
    workers: int,
    item_ms: float | None,
    request_ms: float | None,
    like: str | None,
    app: str | None,
    store: str | None,
    items: int | None,
    item_bytes: float | None,
    result_bytes: int | None,
    as_json: bool,
) -> None:
    """Say what a job will take: messages, requests, bytes, price, memory and time.

    Setup runs here, for at most a minute and a million items. Nothing is stored or sent. With --items and --item-bytes,
    setup does not run. With --like, rates and sizes are those of a job, of the app that -A names or the task's module
    connects, or in --store.
    """
    if like is not None and request_ms is not None:
        raise CommandError("--like tells the time of a request: leave out --request-ms, or --like", ExitCode.USAGE)
    chosen = load_task(task)
    has_input = input_file is not None or bool(parameter_words)
    # A task that needs no input can run its setup without any.
    needs_none = not chosen.declaration.binding.required_fields and (items is None or item_bytes is None)
    is_counted = items is not None or item_bytes is not None or like is not None
    if is_counted and None in (items, item_bytes) and like is None and not has_input and not needs_none:
        message = "a plan without input needs both --items and --item-bytes, or --like with the id of a job"
        raise CommandError(message, ExitCode.USAGE)
    values: dict[str, Any] | None = None
    if has_input or needs_none or not is_counted:
        values = read_input(chosen, input_file, parameter_words)
    report = _find_report(like)
    with status_line("running setup"), explain_input(chosen):
        made = chosen.plan(
            values,
            workers=workers,
            item_s=None if item_ms is None else item_ms / 1000,
            like=report,
            assumptions=None if request_ms is None else Assumptions.of_request(request_ms / 1000),
            items=items,
            item_bytes=item_bytes,
            result_bytes=result_bytes,
            **read_options(option_words),
        )
    if as_json:
        times = {"total_s": made.times.total_s, "efficiency": made.times.efficiency}
        print_document({**_fields(made), "item_s": made.item_s, **times})
        return
    print_facts(made.facts())
    if made.shape.is_partial:
        note("Setup was stopped after a minute or a million items. Give --items for the whole job.")


def _find_report(job_id: str | None) -> Report | None:
    """Return the report of the job that a plan takes its rates from, if one is named."""
    if job_id is None:
        return None
    holder = find_holder(click.get_current_context()) or find_connected()
    with status_line("reading the job"):
        return holder.job(job_id).report()


def _fields(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}
