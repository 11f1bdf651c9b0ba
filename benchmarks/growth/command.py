"""`python -m benchmarks growth`: the model's figures as tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import click
from rich.console import Console
from rich.table import Table

from ..lists import parse_list, parse_positive
from ..tables import new_table
from .model import Figures, simulate
from .plan import Plan

MOST_CHUNKS = 32
"""Chunks in a batch, at most."""


def _parse_batch(text: str) -> int:
    number = parse_positive(text)
    if number > MOST_CHUNKS:
        raise ValueError(text)
    return number


def _parse_seconds(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise ValueError(text)
    return number


_NUMBERS = parse_list(parse_positive, "numbers such as 1,4")
_SECONDS = parse_list(_parse_seconds, "seconds such as 0.001,1,60")
_BATCHES = parse_list(_parse_batch, f"numbers from 1 to {MOST_CHUNKS}, such as 1,32")


@click.command()
@click.option("--chunks", type=click.IntRange(1), default=1_000_000, show_default=True, help="Number of chunks.")
@click.option("--workers", callback=_NUMBERS, default="1000", show_default=True, help="Numbers of worker processes.")
@click.option("--chunk-s", callback=_SECONDS, default="1", show_default=True, help="Seconds of a chunk's own work.")
@click.option("--batch", callback=_BATCHES, default="32", show_default=True, help="Chunks in a message of setup's.")
@click.option("--prefixes", callback=_NUMBERS, default="1", show_default=True, help="S3's partitions of the job.")
@click.option("--request-s", type=float, default=0.05, show_default=True, help="Seconds of a request.")
@click.option("--reads-shared", is_flag=True, help="A listing reads each batch that was shared out.")
@click.option("--seed", default=1, show_default=True, help="Of the clients' pauses.")
def growth(
    chunks: int,
    workers: tuple[int, ...],
    chunk_s: tuple[float, ...],
    batch: tuple[int, ...],
    prefixes: tuple[int, ...],
    request_s: float,
    reads_shared: bool,
    seed: int,
) -> None:
    """Compute how a large job would go on S3, by a model that starts no server.

    Lists give a row for each combination. A million chunks take half a minute a row.
    """
    plans = [
        Plan(chunks=chunks, workers=a, chunk_s=b, batch=c, prefixes=d, request_s=request_s, reads_shared=reads_shared)
        for a, b, c, d in product(workers, chunk_s, batch, prefixes)
    ]
    found = [(plan, simulate(plan, seed=seed)) for plan in plans]
    screen = Console(highlight=False)
    screen.print(f"{chunks:,} chunks. A model, not a measurement.\n")
    for table in make_tables(found):
        screen.print(table, "")


def make_tables(found: Sequence[tuple[Plan, Figures]]) -> list[Table]:
    """Return two tables with a row for each plan: seconds by phase, and requests with their price."""
    names = ["work, s", "workers", "batch", "prefixes"]
    times = new_table("Seconds by phase", [*names, "setup", "process", "end", "join", "in all"])
    requests = new_table("Requests, in thousands", [*names, "PUT", "GET", "LIST", "503", "USD"])
    for plan, figures in found:
        row = [f"{plan.chunk_s:g}", f"{plan.workers:,}", f"{plan.batch}", f"{plan.prefixes}"]
        seconds = [_emphasize(f"{value:,.0f}", name == figures.slowest) for name, value in figures.phases.items()]
        times.add_row(*row, *seconds, f"{figures.duration_s:,.0f}")
        counts = [figures.requests[kind] for kind in ("put", "get", "list")]
        rest = [f"{100 * figures.refused_share:.1f} %", f"{figures.dollars:,.1f}"]
        requests.add_row(*row, *(f"{count / 1000:,.0f}" for count in counts), *rest)
    times.caption = "A star marks the longest phase. Workers work during setup, too."
    return [times, requests]


def _emphasize(text: str, is_longest: bool) -> str:
    return f"{text} *" if is_longest else text
