"""The command `python -m examples.demo`, which `make demo` runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .demo import run_demo


@click.command()
@click.option(
    "--path",
    type=click.Path(exists=True, path_type=Path),
    envvar="DEMO_PATH",
    help="A text file, or a directory of them. [env: DEMO_PATH]",
)
@click.option("--chunks", type=click.IntRange(1), default=32, show_default=True, help="Number of chunks.")
@click.option("--times", type=click.IntRange(1), default=1, show_default=True, help="Count the text this often.")
def main(path: Path | None, chunks: int, times: int) -> None:
    """Count words on real workers and a real S3 protocol, all on this machine."""
    sys.exit(0 if run_demo(path=path, chunks=chunks, times=times) else 1)


if __name__ == "__main__":
    main()
