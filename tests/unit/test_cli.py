"""The command line: jobs shown, cancelled and swept; errors in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanout.cli import main
from fanout.engines.celery import extension_of
from fanout.job import JobState

from . import cli_app
from .tasks import Numbers


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A store of the test's own, in a directory."""
    monkeypatch.setenv("FANOUT_STORE", tmp_path.as_uri())
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", "-A", "tests.unit.cli_app:app", *arguments])


def launched() -> str:
    """A job whose setup waits in the broker."""
    return Numbers.signature({"numbers": [1, 2]}, app=cli_app.app)().id


def test_show_a_job() -> None:
    """`show` tells how a job stands."""
    result = command("show", launched())
    assert result.exit_code == 0, result.output
    assert "launched" in result.output


def test_cancel_a_job() -> None:
    """`cancel` ends a job, and `show` then says why it has no value."""
    job_id = launched()
    assert command("cancel", job_id).output == "cancelled\n"
    assert extension_of(cli_app.app).job(job_id).state is JobState.CANCELLED
    assert "cancelled by its caller" in command("show", job_id).output


def test_sweep_says_what_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep` prints each job that it moved, and nothing of those that go well."""
    job_id = launched()
    assert command("sweep").output == ""
    monkeypatch.setenv("FANOUT_STALL_S", "0.000001")
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    assert command("sweep").output == f"{job_id}  setup sent again\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["jobs", "-A", "tests.unit.cli_app:app", "show", "nobody"], "nobody is not in the store"),
        (["jobs", "-A", "tests.unit.cli_app:unconnected", "sweep"], "not connected"),
        (["jobs", "-A", "no.such.module:app", "sweep"], "no Celery app at 'no.such.module:app'"),
        (["jobs", "-A", "tests.unit.cli_app:nothing", "sweep"], "no Celery app"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], said: str) -> None:
    """What goes wrong is said in a line, without a traceback."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output
