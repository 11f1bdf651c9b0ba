"""Tables that a command writes into a page of the documentation."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [list(header), ["---"] * len(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_table(table: str, page: str, *, command: str) -> None:
    """Write a table into a page, between the lines that name the command, or print it for the page `-`.

    Args:
        table: The table in Markdown.
        page: Path of the page.
        command: The command, as the first of the lines names it: `python -m tests.storm`.

    Raises:
        SystemExit: The page has no such lines.
    """
    if page == "-":
        print(table)
        return
    first, last = f"<!-- begin: {command} --table -->", "<!-- end -->"
    path = Path(page)
    before, begin, rest = path.read_text().partition(first)
    _, end, after = rest.partition(last)
    if not (begin and end):
        sys.exit(f"{path} has no lines {first} and {last}")
    path.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
