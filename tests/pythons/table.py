"""The record of the tests on each Python, and its table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree

from ..tables import format_table

HEADER = ("Python", "dependencies", "Celery", "passed", "failed", "skipped", "tests", "fanout", "day")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the tests.

    Attributes:
        session: Its session of nox: pythons-3.12.
        python: The version of Python; so for `celery` and `fanout`.
        commit: The commit of the sources, with "-dirty" if files had changed since.
        day: The day, as 2026-11-27.
        tests: What pytest was given.
        passed: Number of tests that passed; so for `failed`, which counts errors too, and `skipped`.
    """

    session: str
    python: str
    celery: str
    fanout: str
    commit: str
    day: str
    tests: tuple[str, ...]
    passed: int
    failed: int
    skipped: int

    @classmethod
    def of(cls, report: Path, **known: Any) -> Self:
        """Return the run of a report that pytest wrote with `--junitxml`."""
        counts = {"tests": 0, "errors": 0, "failures": 0, "skipped": 0}
        for suite in ElementTree.parse(report).getroot().iter("testsuite"):
            counts = {name: count + int(suite.get(name, 0)) for name, count in counts.items()}
        failed, skipped = counts["errors"] + counts["failures"], counts["skipped"]
        return cls(passed=counts["tests"] - failed - skipped, failed=failed, skipped=skipped, **known)

    def row(self) -> list[str]:
        """Return the cells of the table."""
        return [
            self.python,
            "lowest" if self.session == "lowest" else "newest",
            self.celery,
            str(self.passed),
            f"**{self.failed}**" if self.failed else "0",
            str(self.skipped),
            " ".join(self.tests),
            f"{self.fanout} ({self.commit})",
            self.day,
        ]


def read_record(path: Path) -> dict[str, Run]:
    """Return the runs of a record, by session; none if there is no such file."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {row["session"]: Run(**{**row, "tests": tuple(row["tests"])}) for row in rows}


def write_record(path: Path, tested: Iterable[Run]) -> None:
    """Write runs to a record; those of its other sessions stay."""
    known = {**read_record(path), **{each.session: each for each in tested}}
    text = json.dumps([asdict(each) for each in known.values()], indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


def format_pythons(tested: Iterable[Run]) -> str:
    """Return the table, in the order of the Pythons; the lowest dependencies come first."""
    ordered = sorted(tested, key=lambda each: ([int(part) for part in each.python.split(".")], each.session))
    return format_table(HEADER, [each.row() for each in ordered])
