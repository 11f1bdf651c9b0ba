"""A process that knows a store and no app lists, shows, awaits, cancels and removes its jobs."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from celery import Celery
from click.testing import CliRunner, Result

import fanout
from fanout import ConfigError, JobState
from fanout.cli import main
from fanout.engines.celery import extension_of
from fanout.hints import NoWorkerHint
from fanout.records.ledger import job_ids
from storage import open_store

from . import cli_app

APP = "tests.unit.cli_app:app"


@pytest.fixture(autouse=True)
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of a store with an ended job, `done`, and an open one, `open`. The app is gone meanwhile."""
    store = tmp_path.as_uri()
    monkeypatch.setenv("FANOUT_STORE", store)
    monkeypatch.delenv("FANOUT_APP", raising=False)
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    cli_app.run_here(["1", "x", "3"], "done", tolerate=1)
    cli_app.Fragile.submit({"texts": ["1"]}, job_id="open", app=cli_app.app, tags={"order": "4711"})
    monkeypatch.delenv("FANOUT_STORE")
    return store


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *arguments])


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("list",), "open "),
        (("list", "--all"), "done "),
        (("list", "--tag", "order=4711"), "open "),
        (("show", "done"), "succeeded, 3 of 3 items"),
        (("show", "done", "--cost"), "succeeded"),
        (("watch", "done"), "succeeded, 3 of 3 items"),
        (("value", "done"), "{'total': 4}"),
        (("results", "done"), "item 1: ValueError"),
        (("failures", "done"), "ValueError"),
        (("report", "done"), "efficiency"),
        (("cancel", "open"), "cancelled"),
        (("remove", "done", "--yes"), "done  removed"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_a_command_needs_the_store_alone(url: str, arguments: tuple[str, ...], shown: str) -> None:
    """Each command of `jobs` that sends no message takes `--store` instead of `-A`."""
    result = command(*arguments, "--store", url)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    assert shown in result.stdout


def test_the_store_may_be_named_in_three_places(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--store` counts before or after the command's name, and the environment names the store if no option does."""
    for arguments in (["--store", url, "show", "done"], ["show", "done", "--store", url]):
        assert command(*arguments).exit_code == 0
    monkeypatch.setenv("FANOUT_STORE", url)
    assert command("show", "done").exit_code == 0


def test_an_option_wins_over_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--store` wins over `FANOUT_APP`, and `FANOUT_APP` over `FANOUT_STORE`, which is the store of the app."""
    monkeypatch.setenv("FANOUT_APP", "no.such:app")
    assert command("--store", url, "show", "done").exit_code == 0
    monkeypatch.setenv("FANOUT_STORE", url)
    assert "no Celery app at 'no.such:app'" in command("show", "done").stderr
    monkeypatch.setenv("FANOUT_APP", APP)
    assert command("retry", "done").stdout == "runs again\n"


def test_one_of_app_and_store_is_named(url: str) -> None:
    """A command without app and store names both options and both variables, and one with both is refused."""
    neither = command("list")
    assert neither.exit_code == 2
    for part in ("-A package.module:app", "--store s3://", "FANOUT_APP", "FANOUT_STORE"):
        assert part in neither.stderr
    for arguments in (["list", "-A", APP, "--store", url], ["-A", APP, "list", "--store", url]):
        both = command(*arguments)
        assert (both.exit_code, "give one of them" in both.stderr) == (2, True)


def test_a_retry_needs_the_app(url: str) -> None:
    """`retry` with a store says that it needs the job's app, and starts no generation."""
    result = command("retry", "done", "--store", url)
    assert (result.exit_code, "needs the job's app: `fanout jobs -A" in result.stderr) == (2, True)
    assert fanout.attach("done", store=url).state is JobState.SUCCEEDED


def test_hints_name_no_app(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A process without an app gets hints that name none: at the end of a watch, and in the log of a wait."""
    result = command("watch", "open", "--store", url, "--timeout", "0.01")
    assert (result.exit_code, "No worker has begun it: see that the engine" in result.stderr) == (4, True)
    assert "-A" not in result.stderr
    with caplog.at_level(logging.WARNING):
        runtime = fanout.attach("open", store=url)._runtime
        NoWorkerHint(runtime, runtime.job("open"), after_s=0.0).check()
    assert "see that the engine" in caplog.text
    assert "-A" not in caplog.text


def test_jobs_are_found_in_a_store(url: str) -> None:
    """`fanout.jobs(store=…)` gives the same jobs as with an app, and refuses both."""
    assert [job.id for job in fanout.jobs(store=url)] == ["open"]
    assert [job.id for job in fanout.jobs(store=url, tags={"order": "4711"})] == ["open"]
    found = {job.id: job for job in fanout.jobs(store=url, ended=True)}
    assert found.keys() == {"done", "open"}
    assert found["done"].get(timeout=5) == {"total": 4}
    app = Celery("other", set_as_current=False)
    with pytest.raises(ConfigError, match="give jobs an app or a store, not both"):
        fanout.jobs(store=url, app=app)


def test_a_plan_takes_the_rates_of_a_job_in_a_store(url: str) -> None:
    """`plan --like --store` needs no app of that job."""
    arguments = ["plan", "tests.unit.cli_app:Fragile", "--like", "done", "--store", url, "--json"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["workers"] == 1
    both = CliRunner().invoke(main, [*arguments, "-A", APP])
    assert (both.exit_code, "give one of them" in both.stderr) == (2, True)


def test_remove_leaves_nothing(url: str) -> None:
    """`remove --store` deletes the job's objects, and refuses a job that has not ended."""
    assert command("remove", "open", "--yes", "--store", url).exit_code == 6
    assert command("remove", "done", "--yes", "--store", url).exit_code == 0
    assert list(job_ids(open_store(url))) == ["open"]
