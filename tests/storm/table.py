"""What came of the cases: a record in JSON, and a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .cases import COMMON
from .configuration import Configuration

OWN = "its own"
"""The column of what single configurations have of their own."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a case under a configuration.

    Attributes:
        configuration: Its name.
        case: Its name.
        reason: Why it failed; empty if it did not.
        traceback: Where, if it failed.
        seconds: How long it took.
    """

    configuration: str
    case: str
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.reason


def line(result: Result) -> str:
    """A result on a terminal."""
    words = "ok" if result.ok else f"FAILED: {result.reason}"
    return f"{result.configuration:28} {result.case:14} {result.seconds:5.1f} s  {words}"


def write(path: Path, results: Iterable[Result]) -> None:
    """Keep results in a file; what it has of the same configurations and cases is replaced, all else stays."""
    known = {(result.configuration, result.case): result for result in read(path)} if path.exists() else {}
    known |= {(result.configuration, result.case): result for result in results}
    body = {"day": time.strftime("%Y-%m-%d"), "results": [asdict(result) for result in known.values()]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    new.replace(path)


def read(path: Path) -> list[Result]:
    """The results in a file."""
    return [Result(**result) for result in json.loads(path.read_text())["results"]]


def markdown(configurations: Sequence[Configuration], results: Sequence[Result]) -> str:
    """The table for the documentation: who has each configuration, and what came of each case.

    `ok`, `–` for a case that makes no sense there, empty for one that was not run; a number leads to the reason below.
    """
    found = {(result.configuration, result.case): result for result in results}
    columns = [*COMMON, OWN]
    reasons: list[str] = []

    def cell(configuration: Configuration, column: str) -> str:
        if column in configuration.without:
            return "–"
        cases = configuration.own if column == OWN else (column,)
        told = [found[configuration.name, case] for case in cases if (configuration.name, case) in found]
        failed = [result for result in told if not result.ok]
        if not failed:
            return "ok" if told else "–" if not cases else ""
        text = failed[0].reason.replace("|", "\\|")
        if text not in reasons:
            reasons.append(text)
        return f"**{reasons.index(text) + 1}**"

    rows = [["configuration", *columns], ["---"] * (len(columns) + 1)]
    rows += [[entry.name, *(cell(entry, column) for column in columns)] for entry in configurations]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    why = "\n".join(f"- **{entry.name}**: {entry.why}" for entry in configurations)
    parts = [table]
    if reasons:
        parts.append("\n".join(f"{number}. {reason}" for number, reason in enumerate(reasons, 1)))
    left_out: dict[str, list[str]] = {}
    for entry in configurations:
        for reason in dict.fromkeys(entry.without.values()):
            left_out.setdefault(reason, []).append(entry.name)
    if left_out:
        told = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in left_out.items())
        parts.append(f"– means that the case makes no sense there: {told}.")
    return "\n\n".join([*parts, why])
