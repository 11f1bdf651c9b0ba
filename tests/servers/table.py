"""The record of what doctor found on each server, and its table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ..tables import format_table

READS = ("read after write", "overwrite", "ranged read", "list after write", "list after delete")
HEADER = (
    *("server", "version", "seen on", "usable", "write-once puts", "reads and listings", "pages", "uploads in parts"),
    *("batch deletes", "newer checksums", "damage refused", "signatures checked", "lifecycle rules"),
)


@dataclass(frozen=True, slots=True)
class Examined:
    """A server that doctor has looked at.

    Attributes:
        server: Its name.
        version: Its version.
        day: The day, as 2026-11-27.
        findings: The findings by the name of the check: what was found, and the verdict.
    """

    server: str
    version: str
    day: str
    findings: Mapping[str, tuple[str, str]]

    @property
    def broken(self) -> list[str]:
        """The names of the checks that make the server unusable."""
        return [check for check, (_, verdict) in self.findings.items() if verdict == "broken"]

    def row(self) -> list[str]:
        """Return the cells of the table. A check that was not made is –."""
        return [
            self.server,
            self.version,
            self.day,
            "**no**" if self.broken else "yes",
            self._found("write once"),
            self._all(READS),
            self._all(("pages",)),
            self._all(("uploads",)),
            self._says("deletes", "in batches"),
            self._says("checksums", "and when_supported work"),
            self._says("damaged bodies", "are refused"),
            self._says("signatures", "a wrong secret is refused"),
            self._says("lifecycle", "uploads that broke off"),
        ]

    def _found(self, name: str) -> str:
        found, verdict = self.findings.get(f"store: {name}", ("–", "ok"))
        return found.partition(":")[0] if verdict == "ok" else f"**{found.partition(':')[0]}**"

    def _all(self, names: Iterable[str]) -> str:
        verdicts = [self.findings[f"store: {name}"][1] for name in names if f"store: {name}" in self.findings]
        if not verdicts:
            return "–"
        return "yes" if set(verdicts) == {"ok"} else "**no**" if "broken" in verdicts else "no"

    def _says(self, name: str, words: str) -> str:
        found = self.findings.get(f"store: {name}")
        return "–" if found is None else "yes" if words in found[0] else "no"


def read_record(path: Path) -> dict[str, Examined]:
    """Return the servers of a record, by name; none if there is no such file."""
    rows = json.loads(path.read_text()) if path.exists() else []
    return {row["server"]: Examined(**row) for row in rows}


def write_record(path: Path, examined: Iterable[Examined]) -> None:
    """Write servers to a record; its other servers stay."""
    known = {**read_record(path), **{each.server: each for each in examined}}
    path.write_text(json.dumps([asdict(each) for each in known.values()], indent=1, ensure_ascii=False) + "\n")


def format_servers(examined: Iterable[Examined]) -> str:
    """Return the table, with the reason of each server that is refused below it."""
    servers = sorted(examined, key=lambda each: (bool(each.broken), each.server.lower()))
    table = format_table(HEADER, [server.row() for server in servers])
    refused = []
    for server in servers:
        reasons = "; ".join(f"{check.removeprefix('store: ')}: {server.findings[check][0]}" for check in server.broken)
        if reasons:
            refused.append(f"- **{server.server}** is refused: {reasons}.")
    return "\n\n".join([table, "\n".join(refused)]) if refused else table
