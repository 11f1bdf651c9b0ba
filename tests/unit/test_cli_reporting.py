"""The command reports a job: figures on the terminal, fields for programs, a page in a file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanout.cli import main
from fanout.engines.celery import extension_of

from . import cli_app


@pytest.fixture(autouse=True)
def _job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test a store of its own, with a job that has ended."""
    monkeypatch.setenv("FANOUT_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    cli_app.run_here(["1", "2", "x"], "order-1", tolerate=1)


def report(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", "-A", "tests.unit.cli_app:app", "report", "order-1", *arguments])


def test_a_report_is_printed() -> None:
    """Without an option, the command prints figures and advice for people."""
    result = report()
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:2] == ["state", "succeeded,"]
    assert any(line.startswith("requests") for line in lines)
    assert any(line.startswith("- 1 of 3 items failed, the first with ValueError") for line in lines)


def test_a_report_has_fields_and_prices() -> None:
    """With `--json`, the command prints one document; `--price` replaces a price."""
    document = json.loads(report("--json", "--price", "per_put=1", "--price", "per_get=0").stdout)
    requests = document["requests"]
    assert (document["state"], document["chunks"], document["items_failed"]) == ("succeeded", 3, 1)
    assert document["dollars"]["requests"] == requests["put"] + requests["list"] > 3


def test_a_page_is_written(tmp_path: Path) -> None:
    """`-o` writes a page, and standard output stays empty."""
    path = tmp_path / "report.html"
    result = report("-o", str(path))
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert "invalid literal for int" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--price", "per_put=cheap"], "NAME=DOLLARS"),
        (["--price", "per_potato=1"], "per_potato"),
        (["-o", "missing/report.html"], "no directory missing"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], words: str) -> None:
    """A wrong price or place ends the command with the status of wrong usage and names the mistake."""
    result = report(*arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_package_is_named_before_the_reading(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without Bokeh, `-o` says what to install, also for a job that does not exist."""
    monkeypatch.setitem(sys.modules, "bokeh.embed", None)
    result = CliRunner().invoke(
        main, ["jobs", "-A", "tests.unit.cli_app:app", "report", "order-2", "-o", str(tmp_path / "report.html")]
    )
    assert result.exit_code == 2
    assert "pip install 'fanout[report]'" in result.stderr
