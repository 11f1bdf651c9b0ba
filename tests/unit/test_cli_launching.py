"""`fanout run` and `submit`: input from files and words, values on standard output, each mistake as one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout import BrokerUnavailable
from fanout.cli import main
from fanout.cli.output import to_json
from fanout.engines.celery import extension_of
from fanout.engines.celery.dispatcher import CeleryDispatcher
from storage import BucketNotFound, StorageDenied, StorageUnavailable
from tests.stores import ScriptedStore

from . import cli_app

TASK = "tests.unit.cli_app:Fragile"
APP = "tests.unit.cli_app:app"
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give each test its own store, in a directory."""
    monkeypatch.setenv("FANOUT_STORE", (tmp_path / "store").as_uri())
    monkeypatch.setattr(extension_of(cli_app.app), "_runtime", None)


@pytest.fixture
def _eager() -> Iterator[None]:
    """Run jobs where they are submitted."""
    cli_app.app.conf.task_always_eager = True
    yield
    cli_app.app.conf.task_always_eager = False


def command(*arguments: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, arguments, input=text)


def test_a_file_gives_the_input_and_words_win_over_it(tmp_path: Path) -> None:
    """`run` takes the fields of a JSON object, replaces those that a word names, and prints the value alone."""
    file = tmp_path / "input.json"
    file.write_text('{"texts": ["1", "2"], "title": "sum"}')
    assert command("run", TASK, "--input", str(file)).stdout == "{'sum': 3}\n"
    assert command("run", TASK, "--input", str(file), "-p", 'texts=["5"]').stdout == "{'sum': 5}\n"
    assert "holds JSON, but no object" in command("run", TASK, "--input", "-", text="[1]").stderr
    piped = command("run", TASK, "--input", "-", "--json", text='{"texts": [4]}')
    assert json.loads(piped.stdout) == {"total": 4}


def test_a_word_for_a_field_of_text_stays_text() -> None:
    """A word's value is JSON, unless the schema says that the field is a string."""
    assert command("run", TASK, "-p", "texts=[1]", "-p", "title=12").stdout == "{'12': 1}\n"


def test_options_of_the_job_are_words() -> None:
    """`-o` changes an option of the task for this run."""
    failed = command("run", TASK, "-p", 'texts=["one", "2"]')
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert command("run", TASK, "-p", 'texts=["one", "2"]', "-o", "tolerate=1").stdout == "{'total': 2}\n"


@pytest.mark.usefixtures("_eager")
def test_submit_prints_the_id_for_a_script() -> None:
    """`submit` prints the job's id and nothing else, so that a shell can keep it; with --wait it prints the value."""
    arguments = ["submit", TASK, "-A", APP, "-p", 'texts=["1"]', "--job-id", "order-4711"]
    assert command(*arguments).stdout == "order-4711\n"
    waited = command(*arguments, "--wait", "--json")
    assert json.loads(waited.stdout) == {
        "job_id": "order-4711",
        "task": "tests.unit.cli_app.Fragile",
        "state": "succeeded",
        "value": {"total": 1},
    }
    other = command("submit", TASK, "-A", APP, "-p", 'texts=["2"]', "--job-id", "order-4711")
    assert other.exit_code == 6
    assert "its parameter 'texts' has another value" in other.stderr


@pytest.mark.usefixtures("_eager")
def test_a_submitted_job_that_fails_says_where_its_traceback_is() -> None:
    """The error of `submit --wait` names the command that shows the traceback, and not --debug, which submits again."""
    failed = command("submit", TASK, "-A", APP, "-p", 'texts=["one"]', "--job-id", "order-1", "--wait")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "`fanout jobs failures order-1 --traceback` shows the traceback." in failed.stderr
    assert "--debug" not in failed.stderr


def test_a_job_that_no_worker_begins_times_out_with_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit --timeout` ends with status 4, and says that no worker has begun the job, and how to start one."""
    monkeypatch.setattr("fanout.waiting.watch.EVERY_S", 0.01)
    result = command("submit", TASK, "-A", APP, "-p", 'texts=["1"]', "--timeout", "0.03")
    assert result.exit_code == 4
    assert "it goes on. No worker has begun it: start a worker with `celery -A … worker`" in result.stderr


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "missing field": (["run", TASK], 2, "texts: required field. Its fields: texts (list, required), title (string)"),
    "unknown field": (["run", TASK, "-p", "texts=[]", "-p", "txets=1"], 2, "txets: unknown field. Its fields: texts"),
    "wrong type": (["run", TASK, "-p", "texts=one"], 2, "texts: must be of list type. Its fields: texts (list"),
    "word without value": (["run", TASK, "-p", "texts"], 2, "--parameter 'texts' has no name or no value: write NAME="),
    "unknown option": (["run", TASK, "-p", "texts=[]", "-o", "tries=2"], 2, "no such option: tries; there are chunk_"),
    "no file": (["run", TASK, "--input", "nowhere.json"], 2, "--input nowhere.json can't be read: No such file"),
    "not JSON": (["run", TASK, "--input", "-"], 2, "is not JSON: Expecting value: line 1 column 1 (char 0). Write an"),
    "crashing step": (
        ["run", TASK, "-p", 'texts=["one"]'],
        1,
        "process, chunk 0, item 0: ValueError: invalid literal for int() with base 10: 'one'. --debug shows",
    ),
    "wrong schema": (["run", "tests.unit.cli_mistakes:WithoutSource"], 2, "Cerberus rejects the input_schema"),
    "no such module": (["run", "tests.unit.nowhere:Task"], 2, "no module named 'tests.unit.nowhere': run the command"),
    "no such task": (["run", "tests.unit.cli_app:Fragil"], 2, "has no 'Fragil'. Its tasks: Fragile"),
    "no task": (["run", "tests.unit.cli_app:app"], 2, "has 'app', which is no task. Its tasks: Fragile"),
    "no class": (["run", "tests.unit.cli_app"], 2, "names no task: write module:Class, as in shop.tasks:WordCount"),
    "a file": (
        ["run", "shop/tasks.py:Total"],
        2,
        "'shop/tasks.py' is a file: name the module, as import does: shop.tasks.",
    ),
    "unconnected app": (
        ["submit", TASK, "-A", "tests.unit.cli_app:unconnected"],
        2,
        "is not connected: call fanout.con",
    ),
    "no app": (["sweep"], 2, "no Celery app is named: give -A package.module:app, or set FANOUT_APP"),
    "no app's module": (["sweep", "-A", "no.such.module:app"], 2, "no Celery app at 'no.such.module:app': no module"),
    "no app's name": (
        ["sweep", "-A", "tests.unit.cli_app:nothing"],
        2,
        "no Celery app at 'tests.unit.cli_app:nothing'",
    ),
    "unknown job": (["jobs", "-A", APP, "show", "order-1"], 3, "order-1 is not in the store file:///"),
    "no id": (["jobs", "-A", APP, "show", "order/1"], 2, "'order/1' can't be the id of a job"),
    "nothing to check": (["doctor"], 2, "nothing to check: give --app or --store"),
}
"""A mistake -> the arguments, the exit status, and a part of the sentence."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence(mistake: str) -> None:
    """Each typical mistake has its exit status and one line on standard error, which names it and the remedy."""
    arguments, status, sentence = MISTAKES[mistake]
    result = command(*arguments)
    assert (result.exit_code, result.stdout) == (status, ""), result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.stderr
    assert sentence in lines[0]
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (BucketNotFound("the bucket 'jobs' does not exist"), "Create the bucket with storage.create_bucket"),
        (StorageDenied("the store refuses the key"), "Check the credentials"),
        (StorageUnavailable("no answer from 127.0.0.1"), "check the endpoint"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_store_that_cannot_be_used_has_a_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, remedy: str
) -> None:
    """A missing bucket, wrong credentials and a silent store end a command with status 5 and the remedy."""
    store = ScriptedStore()
    monkeypatch.setattr(extension_of(cli_app.app).runtime, "store", store)

    def fail(verb: str, key: str) -> None:
        raise error

    store.before = fail
    for arguments in (["submit", TASK, "-A", APP, "-p", "texts=[1]"], ["jobs", "-A", APP, "list"]):
        result = command(*arguments)
        assert result.exit_code == 5
        assert result.stderr.startswith("Error: ")
        assert remedy in result.stderr
        assert result.stderr.count("\n") == 1


def test_a_dead_broker_has_a_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes no messages ends `retry` with status 5 and the broker's error."""

    def refuse(*arguments: Any, **options: Any) -> None:
        raise BrokerUnavailable("the broker at 127.0.0.1:1 takes no messages: connection refused")

    job = cli_app.Fragile.submit({"texts": ["1"]}, app=cli_app.app)
    job.cancel()
    monkeypatch.setattr(CeleryDispatcher, "send_setup", refuse)
    result = command("jobs", "-A", APP, "retry", job.id)
    assert result.exit_code == 5
    assert result.stderr == "Error: the broker at 127.0.0.1:1 takes no messages: connection refused.\n"


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--debug`, first or last, the traceback comes before the sentence, also for an error that is a defect."""
    arguments = ["run", TASK, "-p", 'texts=["one"]']
    for place in (["--debug", *arguments], [*arguments, "--debug"]):
        result = command(*place)
        assert result.exit_code == 1
        assert "in process\n    return int(text)" in result.stderr
        assert result.stderr.splitlines()[-1].startswith("Error: job ")
    assert "No module named" in command("run", "tests.unit.nowhere:Task", "--debug").stderr

    def defect(*arguments: Any, **options: Any) -> None:
        raise AssertionError("never")

    monkeypatch.setattr(cli_app.Fragile, "run", defect)
    result = command(*arguments)
    assert result.exit_code == 70
    assert "AssertionError: never. Run it with --debug, and report the traceback." in result.stderr


def test_the_installed_command_runs_a_module_of_the_working_directory(tmp_path: Path) -> None:
    """A process of its own imports a task from the directory it is called in, and ends with the status of the job."""
    module = (ROOT / "tests" / "unit" / "cli_app.py").read_text()
    (tmp_path / "sums.py").write_text(module)
    program = [sys.executable, "-m", "fanout", "run", "sums:Fragile"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    good, bad = (
        subprocess.run(
            [*program, "-p", f"texts={texts}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        for texts in ('["1", "2"]', '["x"]')
    )
    assert (good.returncode, good.stdout) == (0, "{'total': 3}\n"), good.stderr
    assert (bad.returncode, bad.stdout) == (1, "")
    assert "sums.Fragile.process, chunk 0, item 0: ValueError" in bad.stderr


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False)
)


@settings(max_examples=20)
@given(value=st.dictionaries(st.text(max_size=3), st.lists(LEAVES, max_size=3) | LEAVES, max_size=3))
def test_what_json_has_is_printed_as_it_is(value: Any) -> None:
    """A value of JSON's own types comes out of `to_json` unchanged."""
    assert to_json(value) == value
    assert json.loads(json.dumps(to_json(value))) == value


def test_other_values_have_a_form_in_json() -> None:
    """Keys become text, tuples and sets arrays, bytes base64, numbers that JSON lacks null, and the rest text."""
    value = {1: (1, {2}), "b": b"\x00", "c": Counter("a"), "d": date(2024, 2, 29), "n": float("nan")}
    assert to_json(value) == {"1": [1, [2]], "b": "AA==", "c": {"a": 1}, "d": "2024-02-29", "n": None}
