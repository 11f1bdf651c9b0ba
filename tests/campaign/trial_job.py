"""One job of a campaign, and the result of its trial."""

from __future__ import annotations

import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from fanout import ForkJoinTask, JobFailed, JobNotFound, JobTimeout
from fanout.engines.celery.values import LAUNCH, REFERENCE
from fanout.errors import is_transient
from fanout.job import Job
from fanout.records.ledger import Ledger
from fanout.records.models import Manifest
from fanout.sweep import sweep_job
from storage import StorageError

from . import app as tasks
from . import trace
from .kill_point import KillPoint, was_reached
from .site import Site

BOUND_S = 120.0
"""A job without an outcome after this time counts as hung."""

T = TypeVar("T")


@dataclass(slots=True)
class TrialResult:
    """The result of one trial.

    Attributes:
        seed: The trial's seed. `--only FAULT --seed SEED --trials 1` repeats the trial.
        wrong: A wrong answer, an unexpected error or a missed gate of the fault, as text. Empty if all is right.
        hung: Whether the job had no outcome in time, or its outcome was never delivered.
        doubled: Whether the outcome changed, or callbacks received different values.
        repeated: Number of further callbacks, with the same value.
        extra: Runs of steps beyond one per chunk, one of setup and one of join.
    """

    seed: int
    wrong: str = ""
    hung: bool = False
    doubled: bool = False
    repeated: int = 0
    extra: int = 0


class TrialJob:
    """A job with a callback and a trace.

    Args:
        site: Servers and workers that run it.
        seed: The trial's seed. It determines the job's numbers.
        chunks: Number of numbers, and so of chunks.
        numbers: The parameter `numbers`, instead of the numbers of the seed.
        expected: The expected value, if not `expected_answer` of the numbers.
        kill_point: The call at which a worker dies.
        launched_by_worker: Whether a worker launches it, as a task before it in a chain does, and not the caller.
        retry_storage_errors: Whether the caller repeats its requests after the S3 client's own retries have failed.
        task: The job's task class.
        options: Options of the call.
        **values: Further parameters of the task, beside `numbers` and `trace`.

    Attributes:
        result: The trial's result. It is complete after `finish` and `recheck`.
        error: The job's failure, if any. It counts as a wrong answer unless the fault expects it.
    """

    def __init__(
        self,
        site: Site,
        seed: int,
        *,
        chunks: int = 12,
        numbers: list[Any] | None = None,
        expected: Any = None,
        kill_point: KillPoint | None = None,
        launched_by_worker: bool = False,
        retry_storage_errors: bool = False,
        task: type[ForkJoinTask] = tasks.SquaresTask,
        options: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        self.site = site
        self.job_id = str(uuid.uuid4())
        self.chunks = chunks
        self.numbers = (
            random.Random(f"numbers {seed}").sample(range(10 * chunks), chunks) if numbers is None else numbers
        )
        self.expected = tasks.expected_answer(self.numbers, values.get("pad", 0)) if expected is None else expected
        self.result = TrialResult(seed)
        self.error: JobFailed | None = None
        self._kill_point, self._launched_by_worker = kill_point, launched_by_worker
        self._retry_storage_errors = retry_storage_errors
        self._task, self._options, self.values = task, options or {}, values
        self._deadline = time.monotonic() + BOUND_S
        self._outcome = b""

    @property
    def job(self) -> Job:
        """A new `Job` without cached state."""
        return self.site.job(self.job_id)

    @cached_property
    def ledger(self) -> Ledger:
        """The job's records. Raises JobNotFound until the store has the intent."""
        return self._call_store(lambda: self.site.runtime.ledger(self.job_id))

    def launch(self, *, bound_s: float = BOUND_S) -> TrialJob:
        """Arm the kill point, if any, and launch the job."""
        self._deadline = time.monotonic() + bound_s
        if self._kill_point is not None:
            self._kill_point.arm(self.site.kill_points, self.job_id)
        values = {"trace": str(self.site.traces / self.job_id), **self.values}
        if "numbers" in self._task.input_schema:
            values["numbers"] = self.numbers

        def send() -> None:
            signature = self._task.signature(values, app=self.site.app, **self._options)
            signature.link(self.site.calls.signature(self.site.app, self.job_id))
            if self._launched_by_worker:
                self.site.app.send_task(f"{tasks.__name__}.launch_in_worker", [dict(signature), self.job_id])
            else:
                signature.apply_async(task_id=self.job_id)

        self._call_store(send)
        return self

    def runs(self, step: str = "") -> list[trace.Run]:
        """Return the runs of all steps, or of one step, so far."""
        return [run for run in trace.read_runs(self.site.traces / self.job_id) if step in ("", run.step)]

    def finish(self) -> TrialResult:
        """Wait for the outcome, compare it with the expected one, and wait until the callback has arrived."""
        result = self.result
        try:
            value = self._call_store(self._get)
            if value != self.expected:
                result.wrong = f"the answer is {value!r:.200}, not {self.expected!r:.200}"
            self._outcome = self._call_store(self._read_outcome)
            result.hung = not self._wait_until_delivered()
        except JobTimeout:
            result.hung = True
        except JobFailed as error:
            self.error = error
            with (self.site.directory / "failures.txt").open("a") as file:
                file.write(f"{error}\n\n")
            result.wrong = f"failed: {str(error).splitlines()[0]}"
        except StorageError as error:
            result.wrong = f"the store's failure reached the caller: {error}"
        return result

    def recheck(self) -> TrialResult:
        """Check again, once the workers are idle: changed outcome, repeated callbacks, steps that ran twice."""
        result = self.result
        received = self.site.calls.received(self.job_id)
        if self._outcome:
            right = (self.expected, {REFERENCE: self.job_id, LAUNCH: self.ledger.launch_id})
            result.doubled = self._outcome != self._call_store(self._read_outcome) or any(
                value not in right for value in received
            )
        result.repeated = max(0, len(received) - 1)
        result.extra = count_extra_runs(self.runs())
        if self.is_void and not result.wrong:
            result.wrong = "no process reached the kill point: the trial is void"
        return result

    @property
    def is_void(self) -> bool:
        """Whether it has a kill point that no process reached."""
        return self._kill_point is not None and not was_reached(self.site.kill_points, self.job_id)

    def wait_for_runs(self, count: int, step: str = "process") -> list[trace.Run]:
        """Wait until a step has begun `count` times. Raises TimeoutError at the job's time limit."""
        while len(runs := self.runs(step)) < count:
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{self.job_id}: {step} ran {len(runs)} times of {count}")
            time.sleep(0.02)
        return runs

    def wait_for_manifest(self) -> Manifest:
        """Wait until setup is done. Raises TimeoutError at the job's time limit."""
        # Another thread or a worker launches the job, so its intent may not be in the store yet.
        while not self._is_launched() or (manifest := self.ledger.manifest()) is None:
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{self.job_id}: no manifest")
            time.sleep(0.02)
        return manifest

    def _get(self) -> Any:
        # The store has the intent of a job that a worker launches only after a moment.
        while self._launched_by_worker and not self._is_launched():
            if time.monotonic() > self._deadline:
                raise JobTimeout("the job was never launched")
            time.sleep(0.05)
        return self.job.get(max(0.1, self._deadline - time.monotonic()))

    def _is_launched(self) -> bool:
        try:
            self.ledger  # noqa: B018  reads the intent, once
        except JobNotFound:
            return False
        return True

    def _read_outcome(self) -> bytes:
        return self.ledger.store.get(self.ledger.keys.outcome)

    def _wait_until_delivered(self) -> bool:
        """Wait until the callback has arrived and its delivery is recorded. Sweep meanwhile, as celery beat would."""
        swept_at = time.monotonic()
        while not (self.site.calls.received(self.job_id) and self._call_store(self.ledger.is_delivered)):
            now = time.monotonic()
            if now > self._deadline:
                return False
            if now - swept_at > self.site.stall_s / 2:
                swept_at = now
                self._call_store(lambda: sweep_job(self.site.runtime, self.job_id))
            time.sleep(0.05)
        return True

    def _call_store(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except StorageError as error:
                if not is_transient(error) or not self._retry_storage_errors or time.monotonic() > self._deadline:
                    raise
                time.sleep(0.2)


def count_extra_runs(runs: Sequence[trace.Run]) -> int:
    """Return the number of runs beyond the first of each step and chunk."""
    return sum(count - 1 for count in Counter((run.step, run.number) for run in runs).values())
