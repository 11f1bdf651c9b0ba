"""The commands of `fanout jobs` with a store and no app."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fanout
from fanout.cli import main
from fanout.engines.celery import extension_of

from . import cli_app
from .tasks import Numbers


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of a store with a job that has succeeded, one that has failed, and one that no worker has begun.

    Only the app has been told of the store.
    """
    with monkeypatch.context() as environment:
        environment.setenv("FANOUT_STORE", tmp_path.as_uri())
        environment.setattr(extension_of(cli_app.app), "_runtime", None)
        run(["1", "2"], "order-1")
        run(["1", "two"], "order-2")
        Numbers.submit({"numbers": [1, 2]}, app=cli_app.app, job_id="order-3", tags={"order": "third"})
    return tmp_path.as_uri()


def command(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["jobs", *arguments])


def run(texts: list[str], job_id: str, **options: object) -> None:
    """Run a job to its end, in the store of the app."""
    cli_app.app.conf.task_always_eager = True
    try:
        cli_app.Fragile.submit({"texts": texts}, job_id=job_id, app=cli_app.app, **options)
    finally:
        cli_app.app.conf.task_always_eager = False


def test_each_command_works_with_the_store_alone(url: str) -> None:
    """A job is listed, shown, watched, read, reported, retried, cancelled and removed without an app."""
    found = json.loads(command("--store", url, "list", "--all", "--json").stdout)
    assert {row["job_id"]: row["state"] for row in found["jobs"]} == {
        "order-1": "succeeded",
        "order-2": "failed",
        "order-3": "launched",
    }
    assert "order-3" in command("list", "--store", url, "--tag", "order=third").stdout
    assert "succeeded" in command("show", "order-1", "--store", url).stdout
    assert command("watch", "order-1", "--store", url).exit_code == 0
    assert command("watch", "order-2", "--store", url).exit_code == 1
    assert command("value", "order-1", "--store", url, "--json").exit_code == 0
    assert command("results", "order-1", "--store", url).stdout.split() == ["1", "2"]
    assert "ValueError" in command("failures", "order-2", "--store", url).stdout
    assert "messages" in command("report", "order-1", "--store", url).stdout
    retried = command("retry", "order-2", "--store", url)
    assert (retried.exit_code, "next sweep" in retried.stdout) == (0, True)
    assert command("cancel", "order-3", "--store", url).exit_code == 0
    assert command("remove", "order-1", "order-3", "--yes", "--store", url).exit_code == 0
    assert [job.id for job in fanout.jobs(store=url, ended=True)] == ["order-2"]


def test_an_option_counts_before_the_environment_and_an_app_before_a_store(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, url: str
) -> None:
    """`--store` counts before both variables, and FANOUT_APP before FANOUT_STORE. Both options at once are refused."""
    empty = (tmp_path / "empty").as_uri()
    monkeypatch.setenv("FANOUT_STORE", empty)
    assert "order-3" not in command("list").stdout
    assert "order-3" in command("list", "--store", url).stdout
    monkeypatch.setenv("FANOUT_STORE", url)
    assert "order-3" in command("list").stdout
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    monkeypatch.setenv("FANOUT_APP", "tests.unit.cli_app:unconnected")
    assert "not connected" in command("list").stderr
    assert "order-3" in command("list", "--store", url).stdout
    for both in (["-A", "tests.unit.cli_app:app", "list", "--store", url], ["list", "-A", "x:y", "--store", url]):
        refused = command(*both)
        assert (refused.exit_code, "not both" in refused.stderr) == (2, True)


def test_a_command_without_app_and_store_names_both() -> None:
    """The error says how to name an app, and how to name a store."""
    refused = command("list")
    assert refused.exit_code == 2
    for way in ("-A", "--store", "FANOUT_APP", "FANOUT_STORE"):
        assert way in refused.stderr


def test_a_job_that_no_worker_has_begun_gets_a_remedy_without_an_app(url: str) -> None:
    """With a store alone, the command does not know of Celery."""
    result = command("watch", "order-3", "--store", url, "--timeout", "0")
    assert result.exit_code == 4
    assert "No worker has begun it" in result.stderr
    assert "celery" not in result.stderr


def test_modules_of_classes_can_be_named(url: str) -> None:
    """`--import` imports a module, and says if there is none."""
    assert command("value", "order-1", "--store", url, "--import", "tests.unit.tasks").exit_code == 0
    refused = command("value", "order-1", "--store", url, "--import", "no_such_module")
    assert (refused.exit_code, "no module named 'no_such_module'" in refused.stderr) == (2, True)


def test_jobs_yields_those_of_a_store(url: str) -> None:
    """`fanout.jobs(store=)` needs no app. Both at once are refused."""
    assert [job.id for job in fanout.jobs(store=url)] == ["order-3"]
    assert [job.id for job in fanout.jobs(store=url, tags={"order": "third"})] == ["order-3"]
    assert [job.id for job in fanout.jobs(store=url, tags={"order": "none"})] == []
    with pytest.raises(fanout.ConfigError, match="not both"):
        fanout.jobs(store=url, app=cli_app.app)
