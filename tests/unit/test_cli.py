"""The commands show, read, change, remove and sweep jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanout.abc import PollingOnly
from fanout.cli import changing, main, upkeep
from fanout.engines.celery import extension_of
from fanout.progress import JobState
from fanout.records.ledger import job_ids
from storage import CountingStore, MemoryStore
from tests.stores import Fault, ScriptedStore

from . import cli_app
from .cli_app import run_here as run
from .tasks import Numbers
from .test_tolerance import Fussy


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own store, in a directory."""
    monkeypatch.setenv("FANOUT_STORE", tmp_path.as_uri())
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)


def command(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, ["jobs", "-A", "tests.unit.cli_app:app", *arguments], input=text)


def sweep(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["sweep", "-A", "tests.unit.cli_app:app", *arguments])


def launch(job_id: str | None = None) -> str:
    """Return the id of a job whose setup waits in the broker."""
    return Numbers.submit({"numbers": [1, 2]}, app=cli_app.app, job_id=job_id).id


def test_the_app_may_be_named_in_three_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-A` counts before or after the command's name, and the environment names the app where no option does."""
    job_id = launch()
    name = "tests.unit.cli_app:app"
    for arguments in (["jobs", "-A", name, "show", job_id], ["jobs", "show", job_id, "-A", name]):
        assert CliRunner().invoke(main, arguments).exit_code == 0
    monkeypatch.setenv("FANOUT_APP", name)
    assert CliRunner().invoke(main, ["jobs", "show", job_id]).exit_code == 0


def test_list_shows_jobs_and_picks_states() -> None:
    """`list` has a row per job, the latest launch first, also for a damaged job, and `--state` picks among them."""
    run(["1", "2"], "order-1")
    run(["1", "two"], "order-2")
    launch("order-3")
    assert [line.split()[0] for line in command("list").stdout.splitlines()[1:]] == ["order-3"]
    lines = command("list", "--all").stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [
        ["order-3", "launched"],
        ["order-2", "failed"],
        ["order-1", "succeeded"],
    ]
    assert all(len(line) <= 80 for line in lines)
    store = extension_of(cli_app.app).runtime.store
    store.put("_jobs/order-0/intent", b"not an intent")
    document = json.loads(command("list", "--all", "--state", "failed", "--state", "unreadable", "--json").stdout)
    failed, unreadable = document["jobs"]
    assert (failed["job_id"], failed["task"], failed["items_failed"]) == ("order-2", "tests.unit.cli_app.Fragile", 1)
    assert (unreadable["job_id"], unreadable["state"], unreadable["task"]) == ("order-0", "unreadable", None)


def test_list_goes_on_where_it_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` reads `--limit` jobs at a bounded number of requests, and `--after` goes on with the next ids."""
    runtime = extension_of(cli_app.app).runtime
    counting = CountingStore(MemoryStore("listed"))
    monkeypatch.setattr(runtime, "store", counting)
    ids = [launch(f"order-{number:02}") for number in range(12)]
    counting.reset()
    first = json.loads(command("list", "--all", "--limit", "5", "--json").stdout)
    assert counting.requests.total() <= 6 + 5 * 6
    assert {row["job_id"] for row in first["jobs"]} == set(ids[:5])
    rest = json.loads(command("list", "--all", "--after", first["after"], "--json").stdout)
    assert {row["job_id"] for row in rest["jobs"]} == set(ids[5:])
    assert rest["after"] is None
    assert "Go on with --after order-04" in command("list", "--all", "--limit", "5").stderr
    assert list(job_ids(counting, after="order-0")) == ids


def test_list_of_open_jobs_costs_what_they_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """`list` reads one listing of the open jobs, and a bounded number of records of the latest ones."""
    counting = CountingStore(MemoryStore("open"))
    monkeypatch.setattr(extension_of(cli_app.app).runtime, "store", counting)
    for number in range(30):
        run(["1"], f"ended-{number:02}")
    for number in range(5):
        launch(f"open-{number}")
    counting.reset()
    result = command("list", "--limit", "2")
    assert counting.requests.total() <= 1 + 2 * 6
    assert [line.split()[0] for line in result.stdout.splitlines()[1:]] == ["open-4", "open-3"]
    assert result.stderr == "There are 3 more. --limit shows more.\n"


def test_a_job_is_found_by_its_tags() -> None:
    """`list --tag` shows open and ended jobs that have all the tags, and `show` prints the tags."""
    tags = {"order": "47/11", "customer": "Jürgen"}
    done = run(["1"], "done", tags=tags)
    job = Numbers.submit({"numbers": [1]}, app=cli_app.app, job_id="open", tags={"order": "47/11"})
    assert (done.tags, job.tags) == (tags, {"order": "47/11"})
    found = json.loads(command("list", "--tag", "order=47/11", "--json").stdout)["jobs"]
    assert {row["job_id"] for row in found} == {"done", "open"}
    both = command("list", "--tag", "order=47/11", "--tag", "customer=Jürgen").stdout
    assert [line.split()[0] for line in both.splitlines()[1:]] == ["done"]
    assert "customer=Jürgen, order=47/11" in command("show", "done").stdout
    refused = command("list", "--tag", "order=" + "x" * 181)
    assert (refused.exit_code, "tag 'order': its value has 181 bytes" in refused.stderr) == (2, True)


def test_an_id_of_any_length_is_shown_in_full() -> None:
    """A table of 80 columns holds an id of 128 characters, over several lines."""
    job_id = launch("x" * 128)
    lines = command("list").stdout.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "".join(lines[1:]).count("x") == 128
    assert job_id in command("show", job_id).stdout.replace("\n", "").replace(" ", "")


def test_show_a_job() -> None:
    """`show` prints the state of a job, and with `--json` its fields; it reads no results without `--cost`."""
    job_id = launch()
    result = command("show", job_id)
    assert result.exit_code == 0, result.output
    assert "launched" in result.output
    fields = json.loads(command("show", job_id, "--json").stdout)
    assert (fields["job_id"], fields["state"], fields["chunks"], fields["cost"]) == (job_id, "launched", None, None)
    run(["1", "2"], "order-1")
    cost = json.loads(command("show", "order-1", "--json", "--cost").stdout)["cost"]
    assert cost["stages"]["join"]["runs"] == 1


def test_cancel_a_job() -> None:
    """`cancel` ends a job, and `show` then prints why the job has no value; a job that succeeded is refused."""
    job_id = launch()
    assert command("cancel", job_id).output == "cancelled\n"
    assert extension_of(cli_app.app).job(job_id).state is JobState.CANCELLED
    assert "cancelled by its caller" in command("show", job_id).output
    run(["1"], "order-1")
    result = command("cancel", "order-1")
    assert (result.exit_code, result.stderr) == (6, "Error: job order-1 had ended before: succeeded.\n")


def test_retry_a_job() -> None:
    """`retry` runs an ended job again, with other options if they are given."""
    job_id = launch()
    early = command("retry", job_id)
    assert (early.exit_code, "has not ended, so there is nothing to retry" in early.stderr) == (6, True)
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
    lines = [line.rstrip() for line in command("show", job.id).output.splitlines()]
    assert "state     succeeded, 25 of 25 items (100 %), 25 failed" in lines
    assert "chunks    13 of 13 are done" in lines
    assert "  item 0: ValueError: 1 is odd" in lines
    assert "  and 5 more" in lines


def test_watch_ends_with_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """`watch` prints each change of the progress, and its status is 0, 1 for a failed job, or 4 if the time is up."""
    monkeypatch.setattr("fanout.waiting.watch.EVERY_S", 0.01)
    run(["1", "2"], "order-1")
    good = command("watch", "order-1")
    assert (good.exit_code, good.stdout) == (0, "succeeded, 2 of 2 items (100 %)\n")
    run(["1", "two"], "order-2")
    bad = command("watch", "order-2", "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["state"] == "failed"
    assert "item 1: ValueError" in bad.stderr
    waiting = command("watch", launch(), "--timeout", "0.03")
    assert (waiting.exit_code, waiting.stdout) == (4, "launched\n")


def test_waiting_asks_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits for a job pauses for a second between two questions for its progress."""
    job_id = launch()
    pauses: list[float] = []

    def pause(listener: PollingOnly, timeout_s: float) -> None:
        pauses.append(timeout_s)
        if len(pauses) == 4:
            extension_of(cli_app.app).job(job_id).cancel()

    monkeypatch.setattr(PollingOnly, "wait", pause)
    assert command("watch", job_id, "--timeout", "600").exit_code == 1
    assert len(pauses) >= 4
    assert set(pauses) == {1.0}


def test_value_and_results_are_printed() -> None:
    """`value` prints the join's value, and `results` those of process in item order, a failed item in its place."""
    run(["1", "x", "3"], "order-1", tolerate=1)
    assert command("value", "order-1").stdout == "{'total': 4}\n"
    assert command("results", "order-1").stdout.splitlines()[::2] == ["1", "3"]
    assert command("results", "order-1", "--limit", "1").stdout == "1\n"
    lines = [json.loads(line) for line in command("results", "order-1", "--follow", "--json").stdout.splitlines()]
    assert [line["value"] for line in lines] == [1, None, 3]
    assert lines[1]["failed"]["error"] == "ValueError"
    job_id = launch()
    early = command("value", job_id)
    assert (early.exit_code, "is launched, and has no value yet: --timeout waits" in early.stderr) == (4, True)
    assert command("results", job_id).stderr == "The job is launched, and no result is there.\n"


def test_failures_are_printed() -> None:
    """`failures` has a row per failed item, up to a limit, and the error that ended the job, on request in full."""
    run(["x", "2", "y"], "order-1")
    lines = command("failures", "order-1").stdout.splitlines()
    assert lines[1].split()[:4] == ["0", "0", "1", "ValueError:"]
    assert "order-1: tests.unit.cli_app.Fragile.process" in lines[-1]
    assert "return int(text)" in command("failures", "order-1", "--traceback").stdout
    document = json.loads(command("failures", "order-1", "--limit", "1", "--json").stdout)
    assert [item["item"] for item in document["failures"]] == [0]
    assert document["error"]["step"] == "process"
    run(["1"], "order-2")
    assert command("failures", "order-2").stderr == "no item has failed\n"


def test_remove_deletes_only_jobs_that_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """`remove` asks, refuses jobs that run before it deletes any, and leaves nothing of the others."""
    run(["1"], "order-1")
    job_id = launch()
    refused = command("remove", "order-1", job_id, "--yes")
    assert (refused.exit_code, f"fanout jobs cancel {job_id}" in refused.stderr) == (6, True)
    unasked = command("remove", "order-1")
    assert (unasked.exit_code, "--yes removes without a question" in unasked.stderr) == (2, True)
    monkeypatch.setattr(changing, "_has_terminal", lambda: True)
    for answer in ("n\n", ""):
        assert command("remove", "order-1", text=answer).exit_code == 130
    removed = command("remove", "order-1", "--yes", "--json")
    assert json.loads(removed.stdout)["action"] == "removed"
    assert list(job_ids(extension_of(cli_app.app).runtime.store)) == [job_id]
    assert command("remove", "order-1", "--yes").exit_code == 3


def test_sweep_prints_the_jobs_that_it_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    """`sweep` prints each job that it moved, and no other job."""
    job_id = launch()
    assert sweep().output == ""
    monkeypatch.setenv("FANOUT_STALL_S", "0.000001")
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)
    assert sweep().output == f"{job_id}  setup sent again\n"
    cancelled = launch()
    command("cancel", cancelled)
    assert {"job_id": cancelled, "action": "setup sent again"} in map(json.loads, sweep("--json").stdout.splitlines())


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

    monkeypatch.setattr(upkeep.time, "sleep", pause)
    result = sweep("--every", "7")
    assert pauses == [7.0] * 3
    assert result.output.count("could not sweep: head _sweeps/all: no answer") == 2
    assert result.exit_code == 130
