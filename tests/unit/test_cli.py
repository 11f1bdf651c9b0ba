"""The commands show, cancel, retry and sweep jobs, and print an error as one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanout.cli import main
from fanout.engines.celery import extension_of
from fanout.progress import JobState
from tests.stores import Fault, ScriptedStore

from . import cli_app
from .tasks import Numbers
from .test_tolerance import Fussy


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own store, in a directory."""
    monkeypatch.setenv("FANOUT_STORE", tmp_path.as_uri())
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", "-A", "tests.unit.cli_app:app", *arguments])


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sweep", "-A", "tests.unit.cli_app:app", *arguments])


def launch() -> str:
    """Return the id of a job whose setup waits in the broker."""
    return Numbers.signature({"numbers": [1, 2]}, app=cli_app.app)().id


def test_show_a_job() -> None:
    """`show` prints the state of a job."""
    result = command("show", launch())
    assert result.exit_code == 0, result.output
    assert "launched" in result.output


def test_cancel_a_job() -> None:
    """`cancel` ends a job, and `show` then prints why the job has no value."""
    job_id = launch()
    assert command("cancel", job_id).output == "cancelled\n"
    assert extension_of(cli_app.app).job(job_id).state is JobState.CANCELLED
    assert "cancelled by its caller" in command("show", job_id).output


def test_retry_a_job() -> None:
    """`retry` runs an ended job again, with other options if they are given."""
    job_id = launch()
    assert command("retry", job_id).output == "has not ended, so there is nothing to retry\n"
    command("cancel", job_id)
    assert command("retry", job_id, "--tolerate", "0.5", "--max-attempts", "1").output == "runs again\n"
    options = extension_of(cli_app.app).runtime.job(job_id, generation=1).options
    assert (options.tolerate, options.max_attempts) == (0.5, 1)
    assert "launched in generation 1" in command("show", job_id).output
    assert "'lots' is neither a count" in command("retry", job_id, "--min-success", "lots").output


def test_show_failed_items() -> None:
    """`show` prints how many items failed, and the first of them."""
    cli_app.app.conf.task_always_eager = True
    try:
        job = Fussy.submit({"numbers": [1] * 25}, tolerate=1.0, app=cli_app.app)
    finally:
        cli_app.app.conf.task_always_eager = False
    lines = command("show", job.id).output.splitlines()
    assert "13 chunks of 25 items, 25 of which failed" in lines[1].replace("chunks         13", "13 chunks")
    assert "  item 0: ValueError: 1 is odd" in lines
    assert "  and 5 more" in lines


def test_sweep_prints_the_jobs_that_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep` prints each job that it moved, and no other job."""
    job_id = launch()
    assert sweep().output == ""
    monkeypatch.setenv("FANOUT_STALL_S", "0.000001")
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    assert sweep().output == f"{job_id}  setup sent again\n"
    cancelled = launch()
    command("cancel", cancelled)
    assert f"{cancelled}  setup sent again\n" in sweep().output


def test_sweep_of_one_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a job id, `sweep` moves that job and no other."""
    job_id, _other_id = launch(), launch()
    assert sweep(job_id).output == ""
    monkeypatch.setenv("FANOUT_STALL_S", "0.000001")
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    assert sweep(job_id).output == f"{job_id}  setup sent again\n"


def test_sweep_every_continues_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--every` the command sweeps again after each pause, also if the store does not answer for a while."""
    runtime = extension_of(cli_app.app).runtime
    store = ScriptedStore()
    monkeypatch.setattr(runtime, "store", store)
    pauses: list[float] = []

    def pause(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 1:
            store.before = Fault(times=None)
        elif len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("fanout.cli.time.sleep", pause)
    result = sweep("--every", "7")
    assert pauses == [7.0] * 3
    assert result.output.count("could not sweep: ") == 2


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["sweep", "-A", "tests.unit.cli_app:unconnected"], "not connected"),
        (["jobs", "-A", "tests.unit.cli_app:app", "retry", "unknown-job"], "unknown-job is not in the store"),
        (["jobs", "-A", "tests.unit.cli_app:app", "show", "unknown-job"], "unknown-job is not in the store"),
        (["sweep", "-A", "tests.unit.cli_app:app", "unknown-job"], "unknown-job is not in the store"),
        (["jobs", "-A", "tests.unit.cli_app:unconnected", "show", "unknown-job"], "not connected"),
        (["sweep", "-A", "no.such.module:app"], "no Celery app at 'no.such.module:app'"),
        (["sweep", "-A", "tests.unit.cli_app:nothing"], "no Celery app"),
    ],
)
def test_an_error_is_one_line(arguments: list[str], text: str) -> None:
    """The command prints an error as one line, without a traceback."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0
    assert text in result.output
    assert "Traceback" not in result.output
