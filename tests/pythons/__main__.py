"""The command `python -m tests.pythons`: see the package."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ..command_options import open_directory
from ..tables import write_table
from .table import Run, format_pythons, read_record, write_record

ROOT = Path(__file__).parents[2]
SESSIONS = ("lowest", "pythons-3.11", "pythons-3.12", "pythons-3.13", "pythons-3.14")
TESTS = ("tests/unit", "tests/storage", "tests/simulation", "tests/integration/test_article.py")
_LIMIT_S = 3600
_VERSIONS = """
import json, platform
from importlib.metadata import version
print(json.dumps({"python": platform.python_version(), **{name: version(name) for name in ("celery", "fanout")}}))
"""


def run_session(session: str, tests: tuple[str, ...], directory: Path) -> Run | None:
    """Run a session of nox, and return its result; None if its Python is not installed or the tests did not begin."""
    report, commit = directory / f"{session}.xml", _describe_commit()
    # It would put the sources before the wheel.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTEST_ADDOPTS"] = f"--junitxml={report}"
    command = ["nox", "--session", session, "--download-python", "never", "--", *tests]
    with (directory / f"{session}.log").open("wb") as log:
        subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False, timeout=_LIMIT_S)
    if not report.exists():
        return None
    python = ROOT / ".nox" / session.replace(".", "-") / "bin" / "python"
    found = subprocess.run([python, "-c", _VERSIONS], env=environment, stdout=subprocess.PIPE, check=True, timeout=60)
    return Run.of(
        report,
        session=session,
        commit=commit,
        day=time.strftime("%Y-%m-%d"),
        tests=tests,
        **json.loads(found.stdout),
    )


def _describe_commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout.strip()


def main(arguments: list[str] | None = None) -> int:
    """Run the sessions, and return 0; 1 if a test failed, or if no Python of those that were asked for is installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.pythons", description=__doc__)
    parser.add_argument("--session", action="append", choices=SESSIONS, help="only this one; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the record, which keeps its other sessions")
    parser.add_argument(
        "--table", nargs="?", const="-", metavar="PAGE", help="print the table, or write it into a page"
    )
    parser.add_argument("--show", action="store_true", help="run nothing: make the table of the record in FILE")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="a new directory in which all logs are kept")
    parser.add_argument("tests", nargs="*", help=f"what pytest runs (default: {' '.join(TESTS)})")
    chosen = parser.parse_args(arguments)
    if chosen.show and not (chosen.json and chosen.table):
        parser.error("--show needs --json and --table")
    if not chosen.show and (missing := [name for name in ("nox", "uv") if shutil.which(name) is None]):
        parser.error(f"{' and '.join(missing)} is not on the PATH: pip install nox uv")
    tested: dict[str, Run] = {}
    with open_directory(chosen.keep, prefix="pythons-") as directory:
        directory.mkdir(exist_ok=True)
        for session in () if chosen.show else chosen.session or SESSIONS:
            found = run_session(session, tuple(chosen.tests) or TESTS, directory)
            if found is None:
                last = (directory / f"{session}.log").read_text(errors="replace").strip().splitlines()[-1:]
                print(f"{session}: not here: {''.join(last)}", flush=True)
                continue
            tested[session] = found
            print(f"{session}: {found.passed} passed, {found.failed} failed, {found.skipped} skipped", flush=True)
    has_failed = any(each.failed for each in tested.values())
    if chosen.json:
        write_record(chosen.json, tested.values())
        tested = read_record(chosen.json)
    if chosen.table:
        write_table(format_pythons(tested.values()), chosen.table, command="python -m tests.pythons")
    return int(has_failed or not tested)


if __name__ == "__main__":
    sys.exit(main())
