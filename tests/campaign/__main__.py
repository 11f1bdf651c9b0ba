"""The command `python -m tests.campaign`: see the package."""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

from ..command_options import add_options, open_directory
from .fault import CONCURRENCY, Plan
from .faults import FAULTS
from .site import Site
from .table import Record, format_header, format_line, format_markdown


def main(arguments: list[str] | None = None) -> int:
    """Run the campaign and return 1 if a gate was missed."""
    names = [fault.name for fault in FAULTS]
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few trials per fault, in under four minutes")
    parser.add_argument(
        "--secure", action="store_true", help="encrypt objects, and refuse others; messages are always signed"
    )
    parser.add_argument("--only", action="append", choices=names, metavar="FAULT", help=f"one of {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first trial")
    parser.add_argument("--trials", type=int, help="number of trials, instead of the fault's own")
    add_options(parser, jobs=CONCURRENCY, unit="independent trials")
    parser.add_argument("--out", type=Path, help="a JSON file for the rows; its rows of other faults are preserved")
    parser.add_argument("--show", type=Path, metavar="FILE.json", help="print the table of a record, and run nothing")
    chosen = parser.parse_args(arguments)
    if chosen.show:
        print(format_markdown(Record.read(chosen.show).rows))
        return 0
    # The places of logs and results say nothing of what was run.
    record = Record(re.sub(r" ?--(?:out|keep)[ =]\S+", "", " ".join(sys.argv[1:])).strip(), chosen.quick)
    print(format_header())
    with (
        open_directory(chosen.keep, prefix="campaign-") as directory,
        Site(directory, encrypted=chosen.secure) as site,
    ):
        # The library's log messages in the caller. The workers' logs are in the same directory.
        logging.basicConfig(filename=directory / "caller.log", format="%(asctime)s %(levelname)s %(message)s")
        for fault in FAULTS:
            if chosen.only and fault.name not in chosen.only:
                continue
            trials = chosen.trials or (fault.quick if chosen.quick else fault.full)
            if not trials:
                continue
            row = fault.run_trials(site, Plan(chosen.seed, trials, chosen.quick, chosen.jobs))
            record.add(row)
            print(format_line(row), flush=True)
            if chosen.out:
                record.write(chosen.out)
    missed = [row.name for row in record.rows if not row.met]
    print(f"missed: {', '.join(missed)}" if missed else f"{len(record.rows)} gates met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
