"""The cases: what a task means, whichever engine runs it. Each raises `AssertionError` where an engine differs."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fanout import FailedItem, InvalidInput, Job, JobCancelled, JobFailed
from tests.tasks import FailingTask, SlowTask, SumTask, WordCounterTask
from tests.traces import find_runs, wait_until
from tests.unit.tasks import KINDS, Killing, Kinds, Numbers

from .engines import WAIT_S, Running
from .tasks import MatrixConcatenate, MatrixFailing, MatrixProduct

ATTACH = """
import sys, fanout
print(fanout.attach(sys.argv[1], store=sys.argv[2]).get(60))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One meaning that each engine must give a task.

    Attributes:
        check: Runs tasks, and asserts their values and errors.
        needs_job: Whether it needs a `Job`, which `run` does not give.
        needs_workers: Whether it needs worker processes that may die.
        needs_processes: Whether it needs a store that other processes reach.
        is_quick: Whether `make test` has it on each engine.
    """

    check: Callable[[Running, Path], None]
    needs_job: bool = False
    needs_workers: bool = False
    needs_processes: bool = False
    is_quick: bool = True

    @property
    def name(self) -> str:
        """Its name in tables."""
        return self.check.__name__.replace("_", " ")

    def find_obstacle(self, running: Running) -> str:
        """Return why an engine can't have this case; empty if it can."""
        if self.needs_job and not running.has_jobs:
            return "`run` gives a value and no job"
        if self.needs_workers and not running.has_workers:
            return "no worker processes"
        if self.needs_processes and not running.store:
            return "no other process reaches its store"
        return ""


def article(running: Running, _: Path) -> None:
    documents = ["hi there you", "there you are", "please say hi"]
    value = running.run(WordCounterTask, {"documents": documents})
    assert value == {"word_count": Counter(" ".join(documents).split())}
    assert type(value["word_count"]) is Counter
    with pytest.raises(InvalidInput, match="documents"):
        running.run(WordCounterTask, {"documents": 1})


def options(running: Running, _: Path) -> None:
    assert running.run(SumTask, {"numbers": list(range(10))}, chunk_items=3) == 45
    with pytest.raises(JobFailed) as caught:
        running.run(FailingTask, {"step": "process", "numbers": [3]}, max_attempts=1)
    assert caught.value.attempts == 1


def types_and_order(running: Running, _: Path) -> None:
    value = running.run(Kinds, {"kinds": KINDS})
    assert value == tuple(KINDS)
    assert list(map(type, value)) == list(map(type, KINDS))
    assert running.run(Numbers, {"numbers": list(range(70))}) == list(range(70))


def failures(running: Running, _: Path) -> None:
    for step, attempts in {"setup": 1, "process": 3, "join": 1}.items():
        with pytest.raises(JobFailed, match=f"{step} was told to fail") as caught:
            running.run(FailingTask, {"step": step, "numbers": [1, 2, 3]})
        assert (caught.value.step, caught.value.attempts) == (step, attempts)
        assert caught.value.item == (2 if step == "process" else None)


def tolerance(running: Running, directory: Path) -> None:
    values = {"numbers": [1, 2, 3, 4], "failing": str(directory)}
    (directory / "3").touch()
    assert running.run(MatrixFailing, values, tolerate=1) == {"sum": 7, "failed": [2]}
    (directory / "1").touch()
    with pytest.raises(JobFailed):
        running.run(MatrixFailing, values, tolerate=1)


def streams(running: Running, _: Path) -> None:
    assert running.run(Numbers, {"numbers": iter(range(70))}) == list(range(70))


def combine(running: Running, _: Path) -> None:
    # More than 32 chunks: the tree has two levels.
    assert running.run(MatrixConcatenate, {"numbers": list(range(40))}) == "+".join(map(str, range(40)))


def arrays(running: Running, _: Path) -> None:
    matrix, vector = np.arange(800.0).reshape(8, 100), np.linspace(0, 1, 100)
    value = running.run(MatrixProduct, {"matrix": matrix, "vector": vector})
    np.testing.assert_array_equal(value, np.array([row @ vector for row in matrix]))


def deadline(running: Running, directory: Path) -> None:
    values = {"numbers": list(range(50)), "trace": str(directory), "setup_pause_s": 0.0, "pause_s": 0.1}
    with pytest.raises(JobFailed, match="its deadline has passed"):
        running.run(SlowTask, values, deadline_s=0.5)


def cancel(running: Running, directory: Path) -> None:
    job = running.submit(SlowTask, {"numbers": [1, 2, 3], "trace": str(directory), "pause_s": 0.5})
    if running.has_workers:
        wait_until(lambda: bool(find_runs(directory, "process-1")), "a chunk runs")
    assert job.cancel()
    with pytest.raises(JobCancelled):
        running.get(job)
    assert find_runs(directory, "join") == []


def retry(running: Running, directory: Path) -> None:
    (directory / "3").touch()
    job = running.submit(MatrixFailing, {"numbers": [1, 2, 3, 4], "failing": str(directory)})
    with pytest.raises(JobFailed, match="3 was told to fail"):
        running.get(job)
    (directory / "3").unlink()
    assert job.retry()
    assert running.get(job) == {"sum": 10, "failed": []}


def feeds(running: Running, directory: Path) -> None:
    (directory / "3").touch()
    values = {"numbers": [1, 2, 3, 4], "failing": str(directory)}
    job = running.submit(MatrixFailing, values, tolerate=1, tags={"case": "feeds"})
    running.get(job)
    results = list(job)
    assert results[:2] + results[3:] == [1, 2, 4]
    assert isinstance(results[2], FailedItem)
    assert sorted(index for index, _ in job.as_completed(WAIT_S)) == [0, 1, 2, 3]
    assert job.tags == {"case": "feeds"}


def same_id(running: Running, _: Path) -> None:
    first = running.submit(SumTask, {"numbers": [1, 2]}, job_id=f"twice-{running.token}")
    assert running.get(first) == 3
    second = running.submit(SumTask, {"numbers": [1, 2]}, job_id=f"twice-{running.token}")
    assert second.id == first.id
    assert running.get(second) == 3


def attach(running: Running, _: Path) -> None:
    """Attach from a process that knows the store and nothing else."""
    job: Job[Any] = running.submit(SumTask, {"numbers": [1, 2, 3]})
    running.get(job)
    command = [sys.executable, "-c", ATTACH, job.id, running.store]
    attached = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert attached.stdout == "6\n", attached.stderr


def killed_worker(running: Running, directory: Path) -> None:
    values = {"trace": str(directory), "numbers": [0, 1, 2, 3], "kills": 1}
    assert running.run(Killing, values) == [0, 1, 2, 3]
    assert len(list(directory.iterdir())) == 2


def poison(running: Running, directory: Path) -> None:
    values = {"trace": str(directory), "numbers": [0, 1, 2, 3], "kills": 99}
    with pytest.raises(JobFailed) as caught:
        # One chunk, since a batch leaves no attempts.
        running.run(Killing, values, max_attempts=2, chunk_items=4)
    assert (caught.value.step, caught.value.attempts) == ("process", 2)
    # A worker may die before the step begins, too.
    runs = len(list(directory.iterdir()))
    assert 1 <= runs <= 2, runs


def edits(running: Running, _: Path) -> None:
    from examples.edit_design import EditDesign

    inputs, expected = _design_edits()
    assert len(inputs["edits"]) == 600
    assert running.run(EditDesign, inputs) == expected
    assert expected["accepted"]


@functools.cache
def _design_edits() -> tuple[dict[str, Any], Any]:
    """Return the input of the edits, and their design in this process."""
    from examples.edit_design import EditDesign, simulate

    inputs, _ = simulate()
    return inputs, EditDesign.run(inputs)


CASES = [
    Case(article),
    Case(options),
    Case(types_and_order),
    Case(failures),
    Case(tolerance),
    Case(streams),
    Case(combine),
    Case(arrays),
    Case(deadline),
    Case(edits, is_quick=False),
    Case(cancel, needs_job=True),
    Case(retry, needs_job=True),
    Case(feeds, needs_job=True),
    Case(same_id, needs_job=True),
    Case(attach, needs_job=True, needs_processes=True, is_quick=False),
    Case(killed_worker, needs_workers=True, is_quick=False),
    Case(poison, needs_workers=True, is_quick=False),
]
