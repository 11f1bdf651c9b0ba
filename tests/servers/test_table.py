"""The table of stores says what doctor found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from devstack import MotoServer

from .__main__ import examine
from .candidates import Site
from .table import HEADER, Examined, format_servers, read_record, write_record


@pytest.fixture(scope="module")
def moto(moto_server: MotoServer) -> Examined:
    """Moto, as doctor sees it in a process of its own."""
    return examine("moto", Site("5", moto_server.environment))


def test_each_column_is_a_check_of_doctor(moto: Examined) -> None:
    """A column whose check was renamed would be –."""
    assert "–" not in moto.row()
    assert dict(zip(HEADER, moto.row(), strict=True))["write-once puts"] == "1 of 32 writers won, 3 times"


def test_a_server_that_breaks_a_promise_is_refused_by_name(moto: Examined, tmp_path: Path) -> None:
    """It comes last, with the broken check in bold and its reason below the table, also after a round by the record."""
    findings = {**moto.findings, "store: write once": ("32 of 32 writers won", "broken")}
    record = tmp_path / "record.json"
    write_record(record, [replace(moto, server="careless", findings=findings)])
    write_record(record, [moto])
    lines = format_servers(read_record(record).values()).splitlines()
    assert lines[2].startswith("| moto | 5 |")
    assert "| **no** | **32 of 32 writers won** |" in lines[3]
    assert lines[-1] == "- **careless** is refused: write once: 32 of 32 writers won."
