"""`python -m tests.simulation`: play many schedules, or one again."""

from __future__ import annotations

import logging
import sys
import time

import click

from .campaign import minimised, play_many
from .shape import Shape
from .world import play

REPORT_S = 30.0


@click.command()
@click.option("--schedules", default=1000, show_default=True, help="How many schedules to play.")
@click.option("--seed", default=0, show_default=True, help="Seed of the first; the others follow it.")
@click.option("--jobs", default=1, show_default=True, help="Processes to play them in.")
@click.option("--replay", help="Play one schedule again and print its trace: a seed, or what a failed test printed.")
@click.option("--whole", is_flag=True, help="With --replay: keep the faults that the violation does not need.")
def main(schedules: int, seed: int, jobs: int, replay: str | None, whole: bool) -> None:
    """Play the protocol under faults, in virtual time. Fails if anything that must hold does not."""
    if replay is not None:
        sys.exit(_replay(replay, whole=whole))
    started_at = said_at = time.monotonic()
    for tally in play_many(schedules, seed=seed, jobs=jobs):
        now = time.monotonic()
        if now - said_at >= REPORT_S:
            said_at = now
            found = sum(map(len, tally.violations.values()))
            click.echo(f"{tally.schedules:,} of {schedules:,} schedules, {found} violations", err=True)
    took_s = time.monotonic() - started_at
    click.echo(f"simulation: seeds {seed} to {seed + schedules - 1}, {took_s:.0f} s")
    for line in tally.lines():
        click.echo(line)
    sys.exit(1 if tally.violations else 0)


def _replay(text: str, *, whole: bool) -> int:
    logging.disable(logging.CRITICAL)
    shape = Shape.read(text)
    played = play(shape, traced=True)
    if played.violation is not None and not whole:
        shape = minimised(shape)
        played = play(shape, traced=True)
    for line in played.trace:
        click.echo(line)
    click.echo(f"shape: {shape}")
    click.echo(f"violation: {played.violation}")
    return 1 if played.violation else 0


if __name__ == "__main__":
    main()
