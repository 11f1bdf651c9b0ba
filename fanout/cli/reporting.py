"""The command that reports a job: jobs report."""

from __future__ import annotations

import time
from pathlib import Path

import click

from ..report.drawing import check_package
from .command import Command, CommandError
from .exit_codes import ExitCode
from .loading import JobsHolder, with_holder
from .output import StatusLine, json_option, note, print_document, print_facts, status_line
from .values import job_id_argument

SHOWN_EVERY_S = 1.0
"""Shortest time between two lines that say how far the reading is."""


@click.command(cls=Command)
@job_id_argument
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the report as an HTML page to this file; it works offline.",
)
@click.option(
    "--price",
    "price_words",
    multiple=True,
    metavar="NAME=DOLLARS",
    help="A price of your store, such as per_put=0.0000054. May be repeated.",
)
@json_option
@with_holder
def report(holder: JobsHolder, /, job_id: str, path: Path | None, price_words: tuple[str, ...], as_json: bool) -> None:
    """Report where a job's time went, what it cost, and what to change.

    Prints the main figures, or writes a page with a timeline of every chunk. One request per object with results.
    """
    prices = dict(_parse_price(word) for word in price_words)
    if path is not None and not path.parent.is_dir():
        raise CommandError(f"--output {path}: there is no directory {path.parent}", ExitCode.USAGE)
    if path is not None:
        # Before the reading, which may take minutes.
        check_package()
    with status_line("reading the job") as status:
        found = holder.job(job_id).report(prices=prices or None, on_progress=_Reading(status).show)
        if path is not None:
            status.show("drawing the page", plain=False)
            found.save(path)
    if as_json:
        print_document(found.to_dict())
    elif path is None:
        print_facts(found.facts())
        for advice in found.advice:
            click.echo(f"- {advice}")
    if path is not None:
        note(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")


class _Reading:
    """The line that says how far the reading of results is, at most once a second."""

    def __init__(self, status: StatusLine) -> None:
        self._status = status
        self._shown_at = time.monotonic()

    def show(self, done: int, count: int) -> None:
        if time.monotonic() - self._shown_at >= SHOWN_EVERY_S:
            self._shown_at = time.monotonic()
            self._status.show(f"read {done:,} of {count:,} results")


def _parse_price(word: str) -> tuple[str, float]:
    name, _, dollars = word.partition("=")
    try:
        return name, float(dollars)
    except ValueError:
        raise CommandError(f"--price {word!r} is no price: write NAME=DOLLARS", ExitCode.USAGE) from None
