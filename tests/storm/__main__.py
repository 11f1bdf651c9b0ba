"""The command `python -m tests.storm`: see the package."""

from __future__ import annotations

import argparse
import re
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ..command_options import add_options, open_directory
from ..tables import write_table
from .cases import CASES
from .configuration import Configuration
from .configurations import CONFIGURATIONS, find_configuration
from .matrix import MATRIX
from .site import REDIS_DATABASES, Deployment, Servers, select_cases
from .table import Result, format_line, format_markdown, format_matrix, read_results, write_results


def run(
    servers: Servers,
    plan: Sequence[tuple[Configuration, Sequence[str]]],
    *,
    directory: Path,
    concurrency: int,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run cases under configurations and return the results.

    Args:
        servers: The servers.
        plan: Configurations, each with the names of its cases.
        directory: Directory for logs and traces.
        concurrency: Number of configurations at a time.
        report: Called with each new result, from any thread.
    """
    with servers.set_environment(), ThreadPoolExecutor(concurrency) as pool:

        def run_configuration(position: int) -> list[Result]:
            configuration, cases = plan[position]
            results = []
            own_directory = directory / "configurations" / re.sub(r"\W+", "-", configuration.name)
            # Configurations that run at the same time have different databases.
            database = position % REDIS_DATABASES
            with Deployment(servers, configuration, database=database, directory=own_directory) as deployment:
                for case in cases:
                    results.append(deployment.run(case))
                    report(results[-1])
            return results

        return [result for results in pool.map(run_configuration, range(len(plan))) for result in results]


def main(arguments: list[str] | None = None) -> int:
    """Run the storm and return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    names = [configuration.name for configuration in (*CONFIGURATIONS, *MATRIX)]
    parser.add_argument("--config", action="append", metavar="NAME", choices=names)
    parser.add_argument("--matrix", action="store_true", help="every broker with every backend, instead of the others")
    parser.add_argument("--case", action="append", metavar="NAME", choices=list(CASES))
    parser.add_argument("--list", action="store_true", help="print configurations and cases, and run nothing")
    add_options(parser, jobs=2, unit="configurations")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file for the results; it keeps its other results")
    parser.add_argument(
        "--table",
        nargs="?",
        const="-",
        metavar="PAGE",
        help="print the table, or write it into a documentation page",
    )
    parser.add_argument("--show", action="store_true", help="run nothing: print the table of the results in FILE")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for configuration in MATRIX if chosen.matrix else CONFIGURATIONS:
            print(f"{configuration.name:26} {configuration.why}")
        for name, case in CASES.items():
            print(f"{name:26} {case.__doc__}")
        return 0
    if chosen.show and not (chosen.json and chosen.table):
        parser.error("--show needs --json and --table")
    results = [] if chosen.show else _run(chosen)
    if chosen.table:
        recorded = read_results(chosen.json) if chosen.json else results
        if chosen.matrix:
            write_table(format_matrix(recorded), chosen.table, command="python -m tests.storm --matrix")
        else:
            write_table(format_markdown(CONFIGURATIONS, recorded), chosen.table, command="python -m tests.storm")
    failed = [result for result in results if not result.ok]
    if not chosen.show:
        print(f"{len(results) - len(failed)} of {len(results)} ok")
    return 1 if failed else 0


def _run(chosen: argparse.Namespace) -> list[Result]:
    all_of_them = MATRIX if chosen.matrix else CONFIGURATIONS
    configurations = [find_configuration(name) for name in chosen.config] if chosen.config else all_of_them
    plan = [(entry, select_cases(entry, chosen.case or ())) for entry in configurations]
    plan = [(entry, cases) for entry, cases in plan if cases]

    lock = threading.Lock()

    def report(result: Result) -> None:
        with lock:
            print(format_line(result), flush=True)
            if chosen.json:
                write_results(chosen.json, [result])

    with open_directory(chosen.keep, prefix="storm-") as directory, Servers.start(directory) as servers:
        return run(servers, plan, directory=directory, concurrency=chosen.jobs, report=report)


if __name__ == "__main__":
    sys.exit(main())
