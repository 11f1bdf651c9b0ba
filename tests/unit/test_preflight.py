"""Checks before a launch that some worker can run the job."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import DeclarationError, ForkJoinTask
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension_of

from .tasks import Numbers


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Celery]:
    """A connected app whose workers run in other processes."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    monkeypatch.setattr(TASKS, "_tasks", dict(TASKS._tasks))
    made = Celery("script", broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
    fanout.connect(made, store=tmp_path.as_uri())
    yield made
    made.close()


def declare_in_script(*, name: str | None = None) -> type[ForkJoinTask]:
    """Declare a task as a running script does."""
    body: dict[str, Any] = {
        "__module__": "__main__",
        "input_schema": {"numbers": {"type": "list"}},
        "setup": lambda numbers: [{"number": number} for number in numbers],
        "process": lambda number: number,
        "join": lambda results: list(results),
    }
    if name is not None:
        body["name"] = name
    return type("Scripted", (ForkJoinTask,), body)


LAUNCHES = [
    lambda task, app: task.submit({"numbers": [1]}, app=app),
    lambda task, app: task.submit({"numbers": iter([1])}, app=app),
    lambda task, app: task.signature({"numbers": [1]}, app=app),
]


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_task_of_the_script_that_runs_is_refused(app: Celery, launch: Any) -> None:
    """A worker does not know a task of `__main__`. The launch is refused, with the remedies."""
    with pytest.raises(DeclarationError, match=r"__main__\.Scripted is declared in the script .*include=.*`name`"):
        launch(declare_in_script(), app)
    assert list(extension_of(app).runtime.store.list()) == []


def test_a_task_of_the_script_runs_in_this_process(app: Celery) -> None:
    """`run` and an eager app need no worker, so they run a task of `__main__`."""
    assert declare_in_script().run({"numbers": [1]}) == [1]
    app.conf.task_always_eager = True
    assert declare_in_script().submit({"numbers": [1]}, app=app).get(1) == [1]


def test_a_worker_in_this_process_knows_a_task_of_the_script(app: Celery) -> None:
    """A worker that runs in this process knows the script's tasks."""
    extension_of(app).pool = object()
    assert declare_in_script().submit({"numbers": [1]}, app=app).id


def test_a_task_of_the_script_with_a_name_is_launched(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A task of the script with a `name` is launched. At a prompt, which no worker can import, there is one warning."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/somewhere/script.py", raising=False)
    declare_in_script(name="mine").submit({"numbers": [1]}, app=app)
    assert caplog.text == ""
    monkeypatch.delattr(sys.modules["__main__"], "__file__")
    for _ in range(2):
        declare_in_script(name="mine").submit({"numbers": [1]}, app=app)
    assert caplog.text.count("mine is declared at a prompt or in a notebook") == 1


def test_a_launch_warns_once_of_a_store_in_memory(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    """Workers in other processes do not see a store in memory: a launch warns once. An eager app does not warn."""
    app.conf.fanout_store = f"memory://{uuid.uuid4().hex}"
    app.conf.task_always_eager = True
    Numbers.submit({"numbers": [1]}, app=app)
    assert caplog.text == ""
    app.conf.task_always_eager = False
    for _ in range(2):
        Numbers.submit({"numbers": [1]}, app=app)
    assert caplog.text.count("is in this process's memory") == 1
