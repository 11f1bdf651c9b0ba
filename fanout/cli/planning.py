"""The command that says what a job will take, before anything is sent."""

from __future__ import annotations

from typing import Any

import click

from .command import Command
from .launching import explain_input
from .loading import load_task
from .output import json_option, note, print_document, print_facts, status_line
from .values import input_options, read_input, read_options


@click.command(cls=Command)
@click.argument("task", metavar="MODULE:TASK")
@input_options
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--item-ms", type=click.FloatRange(0), default=0.0, help="Milliseconds of process for an item.")
@click.option("--items", type=click.IntRange(1), help="Number of items, instead of those that setup yields here.")
@click.option("--item-bytes", type=click.FloatRange(0), help="Encoded size of an item, instead of that of setup's.")
@click.option("--result-bytes", type=click.IntRange(0), default=100, show_default=True, help="Size of a result.")
@json_option
def plan(
    task: str,
    input_file: str | None,
    parameter_words: tuple[str, ...],
    option_words: tuple[str, ...],
    workers: int,
    item_ms: float,
    items: int | None,
    item_bytes: float | None,
    result_bytes: int,
    as_json: bool,
) -> None:
    """Say what a job will take: messages, requests, bytes, price, memory and time.

    Setup runs here, for at most a minute and a million items. Nothing is stored or sent. With --items and --item-bytes,
    setup does not run.
    """
    chosen = load_task(task)
    has_input = input_file is not None or bool(parameter_words)
    # A task that needs no input can run its setup without any.
    needs_none = not chosen.declaration.binding.required_fields and (items is None or item_bytes is None)
    is_counted = items is not None or item_bytes is not None
    values: dict[str, Any] | None = None
    if has_input or needs_none or not is_counted:
        values = read_input(chosen, input_file, parameter_words)
    with status_line("running setup"), explain_input(chosen):
        made = chosen.plan(
            values,
            workers=workers,
            item_s=item_ms / 1000,
            items=items,
            item_bytes=item_bytes,
            result_bytes=result_bytes,
            **read_options(option_words),
        )
    if as_json:
        print_document({**_fields(made), "total_s": made.times.total_s, "efficiency": made.times.efficiency})
        return
    print_facts(made.facts())
    if made.shape.is_partial:
        note("Setup was stopped after a minute or a million items. Give --items for the whole job.")


def _fields(made: Any) -> dict[str, Any]:
    return {name: getattr(made, name) for name in made.__dataclass_fields__}
