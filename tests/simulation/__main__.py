"""The command `python -m tests.simulation`: many schedules, or the replay of one."""

from __future__ import annotations

import logging
import sys
import time

import click

from .campaign import minimise, play_many
from .shape import Shape
from .world import play

REPORT_S = 30.0


@click.command()
@click.option("--schedules", default=1000, show_default=True, help="Number of schedules.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first schedule; the others follow it.")
@click.option("--jobs", default=1, show_default=True, help="Number of processes.")
@click.option(
    "--replay", help="Play one schedule again and print its trace: a seed, or the shape that a failed test printed."
)
@click.option("--whole", is_flag=True, help="With --replay: keep the faults that the violation does not need.")
def main(schedules: int, seed: int, jobs: int, replay: str | None, whole: bool) -> None:
    """Play the protocol under faults, in virtual time. Exits with 1 if an invariant is violated."""
    if replay is not None:
        sys.exit(_replay(replay, whole=whole))
    started_at = reported_at = time.monotonic()
    for summary in play_many(schedules, seed=seed, jobs=jobs):
        now = time.monotonic()
        if now - reported_at >= REPORT_S:
            reported_at = now
            violations = sum(map(len, summary.violations.values()))
            click.echo(f"{summary.schedules:,} of {schedules:,} schedules, {violations} violations", err=True)
    took_s = time.monotonic() - started_at
    click.echo(f"simulation: seeds {seed} to {seed + schedules - 1}, {took_s:.0f} s")
    for line in summary.lines():
        click.echo(line)
    sys.exit(1 if summary.violations else 0)


def _replay(text: str, *, whole: bool) -> int:
    logging.disable(logging.CRITICAL)
    shape = Shape.read(text)
    played = play(shape, traced=True)
    if played.violation is not None and not whole:
        shape = minimise(shape)
        played = play(shape, traced=True)
    for line in played.trace:
        click.echo(line)
    click.echo(f"shape: {shape}")
    click.echo(f"violation: {played.violation}")
    return 1 if played.violation else 0


if __name__ == "__main__":
    main()
