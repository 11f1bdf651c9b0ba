"""The table of Pythons says what pytest counted."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from .table import HEADER, Run, format_pythons, read_record, write_record

TESTS = """
def test_that_passes(): pass
def test_that_fails(): assert False
def test_that_is_skipped(): __import__("pytest").skip("no server")
def test_with_an_error(missing): pass
"""


def test_a_run_is_counted_recorded_and_shown(tmp_path: Path) -> None:
    """Errors count as failures, which are bold; a later run of a session takes the place of the one before."""
    (tmp_path / "test_four.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--junitxml=report.xml", "test_four.py"]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False, timeout=100).returncode == 1
    known = {"celery": "5.7.0", "fanout": "0.1.0", "commit": "1234567", "day": "2026-11-27", "tests": ("tests/unit",)}
    run = Run.of(tmp_path / "report.xml", session="pythons-3.12", python="3.12.1", **known)
    assert (run.passed, run.failed, run.skipped) == (1, 2, 1)
    record = tmp_path / "record.json"
    write_record(record, [replace(run, passed=9), replace(run, session="pythons-3.9", python="3.9.2")])
    write_record(record, [run, replace(run, session="lowest", python="3.11.7", failed=0)])
    header, _, *rows = format_pythons(read_record(record).values()).splitlines()
    assert header == f"| {' | '.join(HEADER)} |"
    assert rows == [
        "| 3.9.2 | newest | 5.7.0 | 1 | **2** | 1 | tests/unit | 0.1.0 (1234567) | 2026-11-27 |",
        "| 3.11.7 | lowest | 5.7.0 | 1 | 0 | 1 | tests/unit | 0.1.0 (1234567) | 2026-11-27 |",
        "| 3.12.1 | newest | 5.7.0 | 1 | **2** | 1 | tests/unit | 0.1.0 (1234567) | 2026-11-27 |",
    ]
