"""The results of the cases: a record in JSON, and a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from ..tables import format_table
from .cases import COMMON
from .configuration import Configuration
from .matrix import BACKENDS, Broker

OWN = "its own"
"""The column for cases of single configurations."""


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a case under a configuration.

    Attributes:
        configuration: The configuration's name.
        case: The case's name.
        reason: Reason of the failure. Empty if the case passed.
        traceback: Traceback of the failure.
        seconds: Duration.
    """

    configuration: str
    case: str
    reason: str = ""
    traceback: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.reason


def format_line(result: Result) -> str:
    """Return a result for a terminal."""
    words = "ok" if result.ok else f"FAILED: {result.reason}"
    return f"{result.configuration:28} {result.case:14} {result.seconds:5.1f} s  {words}"


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write results to a file. Its results of other configurations and cases are preserved."""
    known = {(result.configuration, result.case): result for result in read_results(path)} if path.exists() else {}
    known |= {(result.configuration, result.case): result for result in results}
    body = {"day": time.strftime("%Y-%m-%d"), "results": [asdict(result) for result in known.values()]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n")
    new.replace(path)


def read_results(path: Path) -> list[Result]:
    """Return the results in a file."""
    return [Result(**result) for result in json.loads(path.read_text())["results"]]


def format_markdown(configurations: Sequence[Configuration], results: Sequence[Result]) -> str:
    """Return the table for the documentation, with the users of each configuration below it.

    A cell is `ok`, `–` for a case that does not apply, empty for a case without a result, or the number of a reason.
    """
    by_case = {(result.configuration, result.case): result for result in results}
    columns = [*COMMON, OWN]
    reasons: list[str] = []

    def cell(configuration: Configuration, column: str) -> str:
        if column in configuration.without:
            return "–"
        cases = configuration.own if column == OWN else (column,)
        own = [by_case[configuration.name, case] for case in cases if (configuration.name, case) in by_case]
        failed = [result for result in own if not result.ok]
        if not failed:
            return "ok" if own else "–" if not cases else ""
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
        exceptions = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in left_out.items())
        parts.append(f"– means that the case does not apply: {exceptions}.")
    return "\n\n".join([*parts, why])


def format_matrix(results: Sequence[Result]) -> str:
    """Return the table: a row for each broker, a column for each backend, and the reasons of failures below.

    A cell has the number of cases that passed, of all that ran. It is empty without any, and bold if one failed.
    """
    by_name: dict[str, list[Result]] = {}
    for result in results:
        by_name.setdefault(result.configuration, []).append(result)
    reasons: list[str] = []

    def cell(name: str) -> str:
        own = by_name.get(name, [])
        failed = [result for result in own if not result.ok]
        reasons.extend(f"- {name}, {result.case}: {result.reason}" for result in failed)
        text = f"{len(own) - len(failed)} of {len(own)}" if own else ""
        return f"**{text}**" if failed else text

    rows = [[broker, *(cell(f"{broker} × {backend}") for backend in BACKENDS.values())] for broker in get_args(Broker)]
    parts = [format_table(["broker", *BACKENDS.values()], rows)]
    if reasons:
        parts.append("\n".join(reasons))
    cases = dict.fromkeys(result.case for result in results)
    parts.append(f"The cases: {', '.join(cases)}.")
    return "\n\n".join(parts)
