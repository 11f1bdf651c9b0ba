"""`python -m tests.campaign`: see the package."""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .fault import LANES, Plan
from .faults import FAULTS
from .site import Site
from .table import Record, header, line, markdown


def main(arguments: list[str] | None = None) -> int:
    """Carry out the campaign; returns 1 if a gate was missed."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few trials of each fault, in under four minutes")
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", help=f"one of {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first trial")
    parser.add_argument("--trials", type=int, help="number of trials, instead of the fault's own")
    parser.add_argument("--jobs", type=int, default=LANES, help="trials at once, where they do not disturb each other")
    parser.add_argument("--out", type=Path, help="a JSON file to keep the rows in; those of other faults stay")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="a new directory in which all logs stay")
    parser.add_argument("--show", type=Path, metavar="FILE.json", help="print the table of a record, and do nothing")
    chosen = parser.parse_args(arguments)
    if chosen.show:
        print(markdown(Record.read(chosen.show).rows))
        return 0
    record = Record.begun(quick=chosen.quick, command=" ".join(sys.argv[1:]))
    print(header())
    with (
        _directory(chosen.keep) as directory,
        Site(directory) as site,
    ):
        # What the library says to callers; the workers' logs lie beside it.
        logging.basicConfig(filename=directory / "caller.log", format="%(asctime)s %(levelname)s %(message)s")
        for fault in FAULTS:
            if chosen.only and fault.name not in chosen.only:
                continue
            trials = chosen.trials or (fault.quick if chosen.quick else fault.full)
            if not trials:
                continue
            row = fault.carry_out(site, Plan(chosen.seed, trials, chosen.quick, chosen.jobs))
            record.add(row)
            print(line(row), flush=True)
            if chosen.out:
                record.write(chosen.out)
    missed = [row.name for row in record.rows if not row.met]
    print(f"missed: {', '.join(missed)}" if missed else f"{len(record.rows)} gates met")
    return 1 if missed else 0


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        if kept.exists():
            sys.exit(f"{kept} exists: name a new directory for --keep, or remove it")
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
