"""The table of a campaign, and its record in JSON."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from .fault import Row

COLUMNS = (
    "fault",
    "trials",
    "wrong",
    "hung",
    "double outcomes",
    "callbacks again",
    "extra runs",
    "gate",
    "met",
    "time",
)


@dataclass(slots=True)
class Record:
    """The rows of a campaign, and when and how they came to be.

    Attributes:
        command: The arguments.
        quick: Whether it was the quick form.
        rows: One for each fault.
    """

    command: str
    quick: bool
    rows: list[Row] = field(default_factory=list)
    days: dict[str, dict[str, str]] = field(default_factory=dict)
    """Name of a fault -> day and arguments of its run."""

    @classmethod
    def begun(cls, *, quick: bool, command: str) -> Self:
        return cls(command, quick)

    @classmethod
    def read(cls, path: Path) -> Self:
        body = json.loads(path.read_text())
        rows = [Row(**row) for row in body["faults"]]
        return cls("", body["quick"], rows, body["runs"])

    def add(self, row: Row) -> None:
        self.rows.append(row)
        self.days[row.name] = {"day": time.strftime("%Y-%m-%d"), "arguments": self.command}

    def write(self, path: Path) -> None:
        """Write the rows; those that the file holds of other faults stay, if they are of the same form."""
        rows, days = list(self.rows), dict(self.days)
        if path.exists():
            known = Record.read(path)
            if known.quick == self.quick:
                mine = {row.name for row in rows}
                rows = [row for row in known.rows if row.name not in mine] + rows
                days = {**known.days, **days}
        body: dict[str, Any] = {"quick": self.quick, "runs": days, "faults": [asdict(row) for row in rows]}
        path.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")


def render(rows: list[Row], *, header: bool = True, markdown: bool = False) -> str:
    """The rows as a table, with what was measured besides below it."""
    cells = [
        (
            row.title,
            f"{row.trials:,}",
            str(row.wrong),
            str(row.hung),
            str(row.doubled),
            str(row.repeated),
            str(row.extra),
            row.gate,
            "yes" if row.met else "NO",
            f"{row.seconds:.0f} s",
        )
        for row in rows
    ]
    if markdown:
        lines = [COLUMNS, ("---",) + ("--:",) * 6 + ("---",) * 2 + ("--:",), *cells]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return table + "\n\n" + "\n".join(f"- {row.title}: {note}" for row in rows for note in row.notes)
    lines = [f"{'; '.join(COLUMNS)}"] if header else []
    for row, cell in zip(rows, cells, strict=True):
        counts = ", ".join(f"{name} {value}" for name, value in zip(COLUMNS[1:7], cell[1:7], strict=True))
        lines.append(f"{'ok  ' if row.met else 'MISS'} {row.name}: {counts}; {cell[9]}")
        lines += [f"       {note}" for note in row.notes]
    return "\n".join(lines)
