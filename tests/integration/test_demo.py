"""The demo command."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command and return its result."""
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd=Path(__file__).parents[2],
        check=False,
    )


@pytest.fixture
def text(tmp_path: Path) -> Path:
    """A small text with a known most common word."""
    path = tmp_path / "text.txt"
    path.write_text("so many words and so few lines, so it goes\n" * 20_000)
    return path


def read_chunk_bytes(output: str) -> int:
    return int(re.search(r"([\d,]+) bytes a chunk", output)[1].replace(",", ""))  # type: ignore[index]


@pytest.mark.slow
def test_ten_times_the_text_costs_the_broker_the_same(text: Path) -> None:
    """The value is right, and a chunk costs the broker at most 1.6 kB, also for ten times the text."""
    small = run_demo("--chunks", "16", DEMO_PATH=str(text))
    large = run_demo("--chunks", "16", "--times", "10", DEMO_PATH=str(text))
    for run in (small, large):
        assert run.returncode == 0, run.stdout + run.stderr
        assert "equals a plain serial count" in run.stdout
        assert "chain(setup, group(process × 16), join)" in run.stdout
        assert re.search(r"chunks +16 of", run.stdout)
    assert "many 20,000" in small.stdout
    assert "many 200,000" in large.stdout
    assert read_chunk_bytes(large.stdout) < 1600
    # A small chunk costs less, because it shares a message with others. A join that is sent twice costs 63 bytes more.
    assert read_chunk_bytes(small.stdout) < read_chunk_bytes(large.stdout) + 100


def test_a_missing_text_is_refused() -> None:
    """A path that does not exist is refused in one line that names it."""
    run = run_demo("--path", "/no/such/text")
    assert run.returncode == 2
    assert "/no/such/text" in run.stderr
    assert "Traceback" not in run.stderr
