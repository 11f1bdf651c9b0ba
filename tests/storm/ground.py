"""What a case works with."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from celery.canvas import Signature

from fanout import Job

from .configuration import Configuration
from .tasks import SlowTask, noted

LIMIT_S = 60.0
"""A case that has not ended by then is hung: its caller dumps where, and the runner ends that."""

WAIT_S = 40.0
"""A case waits at most this long for one thing; less than its own limit, so that it can say what did not come."""


@dataclass(frozen=True, slots=True)
class Ground:
    """The caller's app, and a place for the traces of one case.

    Attributes:
        app: The caller's app.
        configuration: What it was made from.
        place: An empty directory for traces, calls and errors.
    """

    app: Celery
    configuration: Configuration
    place: Path

    @property
    def keeps_results(self) -> bool:
        """Whether `AsyncResult.get` gives what a task returned."""
        kept = self.configuration.backend != "none" and not self.app.conf.task_ignore_result
        return kept and not self.eager

    @property
    def eager(self) -> bool:
        return bool(self.app.conf.task_always_eager)

    @property
    def calls(self) -> Path:
        return self.place / "calls"

    @property
    def errors(self) -> Path:
        return self.place / "errors"

    def task(self, shared: Any) -> Any:
        """A shared task as a task of this app: by itself it belongs to whichever app is current in this thread."""
        return self.app.tasks[shared.name]

    def note(self) -> Signature[Any]:
        """A signature that notes the value it is given."""
        signature: Signature[Any] = self.task(noted).s(str(self.calls))
        return signature

    def traces(self, step: str) -> list[Path]:
        """The traces that runs of a step have left."""
        return sorted(self.place.glob(f"{step}.*"))

    def pid_of(self, step: str) -> int:
        """The process that runs a step, as soon as one does."""
        wait_until(lambda: bool(self.traces(step)), f"{step} runs")
        return int(self.traces(step)[0].name.split(".")[1])

    def launch(self, numbers: int, **pauses: float) -> Job:
        """A slow job with a callback; its pauses leave time to kill somebody in."""
        signature = SlowTask.signature({"numbers": list(range(numbers)), "trace": str(self.place), **pauses})
        signature.link(self.note())
        job: Job = signature()
        return job

    def assert_right_once(self, job: Job, value: Any) -> None:
        """The job's value is right, and its callback was called once with it."""
        found = job.get(WAIT_S)
        assert found == value, f"the value is {found!r}"
        self.assert_called_once(value, job)

    def assert_right(self, job: Job, value: Any) -> None:
        """The job's value is right, and its callback was called with it, once or again."""
        found = job.get(WAIT_S)
        assert found == value, f"the value is {found!r}"
        wait_until(lambda: bool(lines(self.calls)), "the callback was called")
        calls = [json.loads(line) for line in lines(self.calls)]
        assert all(call == value for call in calls), f"the callback was told {calls}"

    def assert_called_once(self, value: Any, job: Job | None = None) -> None:
        """The note was called once, with that value; looked at once the job's outcome is delivered, if one is given."""
        wait_until(lambda: bool(lines(self.calls)), "the callback was called")
        if job is not None:
            self.wait_until_delivered(job)
        calls = [json.loads(line) for line in lines(self.calls)]
        assert calls == [value], f"the callback was told {calls}"

    def wait_until_delivered(self, job: Job) -> None:
        """Return once the one who delivers the job's outcome is done with it."""
        if not self.eager:
            delivered = lambda: any(found.key.endswith("/delivered") for found in job.objects())  # noqa: E731
            wait_until(delivered, "the outcome was delivered")

    def cut(self) -> None:
        """Have the broker close all connections of this configuration; the runner does that."""
        (self.place / "cut").touch()
        wait_until(lambda: (self.place / "cut.done").exists(), "the connections were closed")


def kill_worker(pid: int) -> None:
    """Kill a worker with all its children, given one of them; each worker is a process group of its own."""
    os.killpg(os.getpgid(pid), signal.SIGKILL)


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = WAIT_S) -> None:
    """Return once the condition holds.

    Raises:
        TimeoutError: It did not hold in time; says what was waited for.
    """
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout_s:g} s in vain until {what}")
        time.sleep(0.02)


def lines(path: Path) -> list[str]:
    """The whole lines in a file that tasks add to; none if there is no file."""
    text = path.read_text() if path.exists() else ""
    return [line.rstrip("\n") for line in text.splitlines(keepends=True) if line.endswith("\n")]
