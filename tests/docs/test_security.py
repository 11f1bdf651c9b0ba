"""The page about security names tests that exist."""

from __future__ import annotations

import re

from tests.campaign.faults import FAULTS

from .blocks import ROOT

TEXT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_each_attack_has_a_test_that_exists() -> None:
    """Each row of the tables of attacks names a file of tests, or a fault of the campaign."""
    rows = [line for line in TEXT.splitlines() if line.startswith("|") and "---" not in line]
    attacks = rows[rows.index("| attack | answer | test |") :]
    attacks = [row for row in attacks if row != "| attack | answer | test |"]
    assert len(attacks) > 15
    for row in attacks:
        shown = row.rstrip("| ").rpartition(" | ")[2]
        paths = re.findall(r"`(tests/[\w./]+)`", shown)
        faults = re.findall(r"fault `([\w-]+)`", shown)
        assert paths, row
        assert all((ROOT / path).exists() for path in paths), row
        assert set(faults) <= {fault.name for fault in FAULTS}, row
        assert faults or not any(path == "tests/campaign" for path in paths), row
