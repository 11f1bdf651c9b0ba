"""The table of the matrix, as a page of the docs."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .cases import Case

BEGIN = "<!-- table by `python -m tests.matrix` -->"
END = "<!-- end of the table -->"
PACKAGES = ("celery", "distributed", "ray")


@dataclass(frozen=True, slots=True)
class Cell:
    """The result of one case: it holds, it failed, or it does not apply.

    Attributes:
        reason: Why it failed or does not apply; empty if it holds.
        is_failed: Whether it failed.
    """

    reason: str = ""
    is_failed: bool = False

    @property
    def text(self) -> str:
        """Its text in the table."""
        return "**failed**" if self.is_failed else "–" if self.reason else "✓"


@dataclass(slots=True)
class Column:
    """One engine on one store.

    Attributes:
        name: Its name.
        cells: Name of a case -> its result.
    """

    name: str
    cells: dict[str, Cell] = field(default_factory=dict)


def write_table(page: Path, cases: Sequence[Case], columns: Sequence[Column], *, at: datetime) -> None:
    """Replace the rows of these engines in the table of a page, and leave all else."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    old, _, after = rest.partition(END)
    table = "\n".join(make_table(cases, columns, at=at, old=old.splitlines()))
    page.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


def make_table(cases: Sequence[Case], columns: Sequence[Column], *, at: datetime, old: Sequence[str] = ()) -> list[str]:
    """Return the lines of the table: a row for each engine and store, since there are more cases than a page is wide.

    Args:
        cases: The cases.
        columns: The engines and stores that were measured.
        at: When.
        old: Lines of an earlier table. Its rows of other engines stay, if it has the same cases.
    """
    found = {name: _find_version(name) for name in PACKAGES}
    versions = ", ".join(f"{name} {version}" for name, version in found.items() if version)
    names = [case.name for case in cases]
    header = _row(["engine, store", *names, "measured"])
    rows = {line.split(" | ")[0]: line for line in old if line.startswith("| ")} if header in old else {}
    for column in columns:
        row = _row([column.name, *(column.cells[name].text for name in names), f"{at:%Y-%m-%d}"])
        rows[row.split(" | ")[0]] = row
    lines = [line for line in rows.values() if line != header and not line.startswith("| ---")]
    reasons = sorted(
        f"- {column.name}, {name}: {cell.reason.splitlines()[0]:.120}"
        for column in columns
        for name, cell in column.cells.items()
        if cell.is_failed
    )
    return [
        f"Measured with {versions}.",
        "",
        header,
        _row(["---"] * (len(names) + 2)),
        *sorted(lines),
        *(["", *reasons] if reasons else []),
    ]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _find_version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
