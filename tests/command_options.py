"""Options that the commands of the fault campaign and of the settings storm share."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def add_options(parser: argparse.ArgumentParser, *, jobs: int, unit: str) -> None:
    """Add `--jobs` and `--keep`.

    Args:
        parser: The command's parser.
        jobs: Default of `--jobs`.
        unit: What `--jobs` counts, in the plural.
    """
    parser.add_argument("--jobs", type=int, default=jobs, help=f"number of {unit} that run at once (default: {jobs})")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="a new directory in which all logs are kept")


@contextmanager
def open_directory(keep: Path | None, *, prefix: str) -> Iterator[Path]:
    """Yield the directory of `--keep`, or a temporary one that is removed afterwards.

    Raises:
        SystemExit: The directory of `--keep` exists already.
    """
    if keep is not None:
        if keep.exists():
            sys.exit(f"{keep} exists: name a new directory for --keep, or remove it")
        yield keep.resolve()
        return
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as directory:
        yield Path(directory)
