"""`python -m benchmarks`: the command line."""

from __future__ import annotations

from pathlib import Path

import click

from .memory import command as memory
from .options import check
from .race import command as race


@click.group()
def bench() -> None:
    """Measure what a job costs broker, store and processes, on servers started for it."""


@bench.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
def draw(directory: Path) -> None:
    """Show the tables and draw the pictures of earlier results again."""
    check()
    memory.draw(directory)
    race.draw(directory)


for _command in (memory.memory, memory.scale, *race.COMMANDS):
    bench.add_command(_command)
