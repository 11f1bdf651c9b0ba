"""`python -m tests.storm`: see the package."""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .cases import CASES
from .configuration import Configuration
from .configurations import CONFIGURATIONS, named
from .site import REDIS_DATABASES, Scene, Servers, cases_of
from .table import Result, line, markdown, read, write

BEGIN, END = "<!-- begin: python -m tests.storm --table -->", "<!-- end -->"
"""Between these lines of a page goes the table."""


def run(
    servers: Servers,
    plan: Sequence[tuple[Configuration, Sequence[str]]],
    *,
    directory: Path,
    lanes: int,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Run cases under configurations, so many configurations at a time.

    Args:
        servers: The servers.
        plan: Configurations, each with names of cases.
        directory: For logs and traces.
        lanes: Configurations at a time.
        report: Called with each result as it comes, from any thread.
    """
    hosts = [f"storm-{uuid.uuid4().hex[:8]}" for _ in plan]
    with servers.reached(), ThreadPoolExecutor(lanes) as pool:
        servers.add_hosts(hosts)

        def carry_out(position: int) -> list[Result]:
            configuration, cases = plan[position]
            found = []
            place = directory / "scenes" / re.sub(r"\W+", "-", configuration.name)
            # Of those that run at once, each has another one.
            database = position % REDIS_DATABASES
            with Scene(servers, configuration, database=database, directory=place, host=hosts[position]) as scene:
                for case in cases:
                    found.append(scene.run(case))
                    report(found[-1])
            return found

        return [result for results in pool.map(carry_out, range(len(plan))) for result in results]


def main(arguments: list[str] | None = None) -> int:
    """Carry out the storm; returns 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--config", action="append", metavar="NAME", choices=[c.name for c in CONFIGURATIONS])
    parser.add_argument("--case", action="append", metavar="NAME", choices=list(CASES))
    parser.add_argument("--list", action="store_true", help="print configurations and cases, and do nothing")
    parser.add_argument("--jobs", type=int, default=2, help="configurations at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="a file to keep the results in; others in it stay")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="a new directory in which all logs stay")
    parser.add_argument(
        "--table", nargs="?", const="-", metavar="PAGE", help="print the table, or put it into a page of documentation"
    )
    parser.add_argument("--show", action="store_true", help="run nothing: give the table of what FILE holds")
    chosen = parser.parse_args(arguments)
    if chosen.list:
        for configuration in CONFIGURATIONS:
            print(f"{configuration.name:26} {configuration.why}")
        for name, case in CASES.items():
            print(f"{name:26} {case.__doc__}")
        return 0
    if chosen.show and not (chosen.json and chosen.table):
        parser.error("--show needs --json and --table")
    results = [] if chosen.show else _run(chosen)
    if chosen.table:
        known = read(chosen.json) if chosen.json else results
        _give_table(markdown(CONFIGURATIONS, known), chosen.table)
    failed = [result for result in results if not result.ok]
    if not chosen.show:
        print(f"{len(results) - len(failed)} of {len(results)} ok")
    return 1 if failed else 0


def _run(chosen: argparse.Namespace) -> list[Result]:
    configurations = [named(name) for name in chosen.config] if chosen.config else CONFIGURATIONS
    plan = [(entry, cases_of(entry, chosen.case or ())) for entry in configurations]
    plan = [(entry, cases) for entry, cases in plan if cases]

    lock = threading.Lock()

    def report(result: Result) -> None:
        with lock:
            print(line(result), flush=True)
            if chosen.json:
                write(chosen.json, [result])

    with _directory(chosen.keep) as directory, Servers.started(directory) as servers:
        return run(servers, plan, directory=directory, lanes=chosen.jobs, report=report)


def _give_table(table: str, page: str) -> None:
    if page == "-":
        print(table)
        return
    path = Path(page)
    text = path.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{path} has no lines {BEGIN} and {END}")
    path.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        if kept.exists():
            sys.exit(f"{kept} exists: name a new directory for --keep, or remove it")
        yield kept.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="storm-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


if __name__ == "__main__":
    sys.exit(main())
