"""Findings as text and as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from storage import Finding


def report_lines(findings: Iterable[Finding], *, width: int = 120) -> Iterator[str]:
    """Yield the lines of the findings for a terminal, each with its remedy below it."""
    margin = " " * 44
    for finding in findings:
        head = f"{finding.verdict:<13} {finding.check:<29} "
        yield from textwrap.wrap(head + finding.found, width, subsequent_indent=margin, break_on_hyphens=False)
        if finding.remedy:
            yield from textwrap.wrap(
                finding.remedy,
                width,
                initial_indent=" " * 14 + "→ ",
                subsequent_indent=" " * 16,
                break_on_hyphens=False,
            )


def plain(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return the findings as plain data: check, found, verdict and remedy of each."""
    return [{name: str(value) for name, value in asdict(finding).items()} for finding in findings]
