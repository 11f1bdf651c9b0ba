"""The caller's app and the files of one case."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery import Celery
from celery.canvas import Signature

from fanout import Job

from .. import traces
from ..tasks import SlowTask, record_call
from ..traces import read_lines
from .configuration import Configuration

LIMIT_S = 60.0
"""A case that runs longer counts as hung: its caller dumps its stacks, and the runner ends the caller."""

WAIT_S = 40.0
"""Limit of each wait in a case. It is below `LIMIT_S`, so that the case itself reports the missing condition."""


@dataclass(frozen=True, slots=True)
class CaseEnvironment:
    """The caller's app and the directory of one case.

    Attributes:
        app: The caller's app.
        configuration: The app's configuration.
        directory: An empty directory for traces, calls and errors.
    """

    app: Celery
    configuration: Configuration
    directory: Path

    @property
    def keeps_results(self) -> bool:
        """Whether `AsyncResult.get` returns a task's result."""
        kept = self.configuration.backend != "none" and not self.app.conf.task_ignore_result
        return kept and not self.eager

    @property
    def eager(self) -> bool:
        return bool(self.app.conf.task_always_eager)

    @property
    def calls(self) -> Path:
        return self.directory / "calls"

    @property
    def errors(self) -> Path:
        return self.directory / "errors"

    def task(self, shared: Any) -> Any:
        """Return this app's task for a shared task, which by itself belongs to the thread's current app."""
        return self.app.tasks[shared.name]

    def callback(self) -> Signature[Any]:
        """Return the signature of a callback that records its calls."""
        signature: Signature[Any] = self.task(record_call).s(str(self.calls))
        return signature

    def runs(self, step: str) -> list[Path]:
        """Return the traces of a step's runs."""
        return traces.find_runs(self.directory, step)

    def wait_for_pid(self, step: str) -> int:
        """Wait until a step runs, and return the id of its process."""
        return traces.wait_for_pid(self.directory, step, timeout_s=WAIT_S)

    def wait_until(self, condition: Callable[[], bool], description: str, *, timeout_s: float = WAIT_S) -> None:
        """Return once the condition holds. Raises TimeoutError with the description."""
        traces.wait_until(condition, description, timeout_s=timeout_s)

    def wait_until_delivered(self, job: Job) -> None:
        """Return once the job's outcome is delivered."""
        if not self.eager:
            traces.wait_until_delivered(job, timeout_s=WAIT_S)

    def launch(self, numbers: int, **pauses: float) -> Job:
        """Launch a slow job with a callback. Its pauses leave time to kill a process."""
        values = {"numbers": list(range(numbers)), "trace": str(self.directory), "pause_s": 0.0, **pauses}
        signature = SlowTask.signature(values)
        signature.link(self.callback())
        job: Job = signature()
        return job

    def assert_right_once(self, job: Job, expected: Any) -> None:
        """Assert that the job's value is right, and that its callback was called once with it."""
        self._assert_value(job, expected)
        self.assert_called_once(expected, job)

    def assert_right(self, job: Job, expected: Any) -> None:
        """Assert that the job's value is right, and that its callback was called with it, at least once."""
        self._assert_value(job, expected)
        calls = self._wait_for_calls()
        assert all(call == expected for call in calls), f"the callback received {calls}"

    def assert_called_once(self, expected: Any, job: Job | None = None) -> None:
        """Assert that the callback was called once with that value; checked after delivery if a job is given."""
        self._wait_for_calls()
        if job is not None:
            self.wait_until_delivered(job)
        calls = self._wait_for_calls()
        assert calls == [expected], f"the callback received {calls}"

    def close_connections(self) -> None:
        """Make the runner close all of the configuration's connections to the broker."""
        (self.directory / "close").touch()
        self.wait_until((self.directory / "close.done").exists, "the connections were closed")

    def _assert_value(self, job: Job, expected: Any) -> None:
        value = job.get(WAIT_S)
        assert value == expected, f"the value is {value!r}"

    def _wait_for_calls(self) -> list[Any]:
        self.wait_until(lambda: bool(read_lines(self.calls)), "the callback was called")
        return [json.loads(line) for line in read_lines(self.calls)]


def kill_worker(pid: int) -> None:
    """Kill a worker and all its children, given the id of a child: each worker has its own process group."""
    os.killpg(os.getpgid(pid), signal.SIGKILL)
