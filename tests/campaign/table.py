"""The table of a campaign, and its record in JSON."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .fault import Row


@dataclass(slots=True)
class Record:
    """The rows of a campaign, with the day and the arguments of their runs.

    Attributes:
        command: The command's arguments.
        quick: Whether it was a quick campaign.
        rows: One row per fault.
    """

    command: str
    quick: bool
    rows: list[Row] = field(default_factory=list)
    days: dict[str, dict[str, str]] = field(default_factory=dict)
    """Maps the name of a fault to day and arguments of its run."""

    @classmethod
    def read(cls, path: Path) -> Self:
        body = json.loads(path.read_text())
        rows = [Row(**row) for row in body["faults"]]
        return cls("", body["quick"], rows, body["runs"])

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.days[row.name] = {"day": time.strftime("%Y-%m-%d"), "arguments": self.command}

    def write(self, path: Path) -> None:
        """Write the rows. Rows of other faults in the file are preserved if both records are quick, or both full."""
        rows, days = list(self.rows), dict(self.days)
        if path.exists():
            earlier = Record.read(path)
            if earlier.quick == self.quick:
                names = {row.name for row in rows}
                rows = [row for row in earlier.rows if row.name not in names] + rows
                days = {**earlier.days, **days}
        body: dict[str, Any] = {"quick": self.quick, "runs": days, "faults": [asdict(row) for row in rows]}
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


COUNTS = ("trials", "wrong", "hung", "double outcomes", "callbacks again", "extra runs")


def format_header() -> str:
    """Return the header of the rows on a terminal."""
    return f"{'fault':24}" + "".join(f"{name:>17}" for name in COUNTS) + f"{'time':>8}  gate"


def format_line(row: Row) -> str:
    """Return a row for a terminal, with its notes and violations below it."""
    counts = "".join(f"{count:>17,}" for count in _counts(row))
    gate = f"{'met' if row.met else 'MISSED'}: {row.gate}"
    notes = [f"    {note}" for note in row.notes]
    wrong = [f"  ! {violation}" for violation in row.violations]
    return "\n".join([f"{row.name:24}{counts}{row.seconds:>6.0f} s  {gate}", *notes, *wrong])


def format_markdown(rows: list[Row]) -> str:
    """Return the table for the documentation, with the notes below it."""
    lines = [("fault", *COUNTS, "gate", "met"), ("---", *("--:" for _ in COUNTS), "---", "---")]
    lines += [
        (row.title, *(f"{count:,}" for count in _counts(row)), row.gate, "yes" if row.met else "**no**") for row in rows
    ]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return table + "\n\n" + "\n".join(f"- {row.title}: {note}" for row in rows for note in row.notes)


def _counts(row: Row) -> tuple[int, ...]:
    return row.trials, row.wrong, row.hung, row.doubled, row.repeated, row.extra
