"""One job on its way through a campaign, and the verdict on it."""

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
from .site import Site
from .trap import Trap, sprung

BOUND_S = 120.0
"""A job that has not ended by then is hung."""

T = TypeVar("T")


@dataclass(slots=True)
class Verdict:
    """What became of one trial.

    Attributes:
        seed: The trial's seed; `--only FAULT --seed SEED --trials 1` does it again.
        wrong: What was wrong, if something was: the answer, an error that should not be, a gate of the fault's own.
        hung: Whether the job did not end, or its outcome was never delivered.
        doubled: Whether the outcome was written twice, or callbacks were told different values.
        repeated: Times that the callback was sent again, with the same value.
        extra: Runs of steps beyond one for each chunk, one of setup and one of join.
    """

    seed: int
    wrong: str = ""
    hung: bool = False
    doubled: bool = False
    repeated: int = 0
    extra: int = 0


class Errand:
    """A job with a callback and a trace.

    Args:
        site: Where it runs.
        seed: The trial's; gives the job's numbers.
        chunks: How many numbers, and so chunks.
        numbers: The numbers, or whatever else the task takes by that name, instead of those that the seed gives.
        expected: What the job must give, if not the tally of its numbers.
        trap: Where a worker is to die over it.
        relayed: Whether a worker launches it, as the step before it in a chain does, and not the caller.
        patient: Whether the caller asks again when the store does not answer, even after the client's own tries.
        task: Its task.
        options: Options for this call.
        **values: Parameters of the task besides `numbers` and `trace`.

    Attributes:
        verdict: What became of it; whole after `finish` and `settle`.
        error: How it failed, if it did. That is a wrong answer, unless the fault says otherwise.
    """

    def __init__(
        self,
        site: Site,
        seed: int,
        *,
        chunks: int = 12,
        numbers: list[Any] | None = None,
        expected: Any = None,
        trap: Trap | None = None,
        relayed: bool = False,
        patient: bool = False,
        task: type[ForkJoinTask] = tasks.TallyTask,
        options: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        self.site = site
        self.job_id = str(uuid.uuid4())
        self.chunks = chunks
        self.numbers = (
            random.Random(f"numbers {seed}").sample(range(10 * chunks), chunks) if numbers is None else numbers
        )
        self.expected = tasks.answer_of(self.numbers, values.get("pad", 0)) if expected is None else expected
        self.verdict = Verdict(seed)
        self.error: JobFailed | None = None
        self._trap, self._relayed, self._patient = trap, relayed, patient
        self._task, self._options, self.values = task, options or {}, values
        self._deadline = time.monotonic() + BOUND_S
        self._outcome = b""

    @property
    def job(self) -> Job:
        """A new handle of it, with nothing at hand."""
        return self.site.job(self.job_id)

    @cached_property
    def ledger(self) -> Ledger:
        """The job's records. Raises JobNotFound until its intent is in the store."""
        return self._patiently(lambda: self.site.runtime.ledger(self.job_id))

    def launch(self, *, bound_s: float = BOUND_S) -> Errand:
        """Set the trap, if there is one, and launch the job."""
        self._deadline = time.monotonic() + bound_s
        if self._trap is not None:
            self._trap.set(self.site.traps, self.job_id)
        values = {"numbers": self.numbers, "trace": str(self.site.traces / self.job_id), **self.values}

        def send() -> None:
            signature = self._task.signature(values, app=self.site.app, **self._options)
            signature.link(self.site.calls.signature(self.site.app, self.job_id))
            if self._relayed:
                self.site.app.send_task(f"{tasks.__name__}.relay", [dict(signature), self.job_id])
            else:
                signature.apply_async(task_id=self.job_id)

        self._patiently(send)
        return self

    def runs(self, step: str = "") -> list[trace.Run]:
        """The runs of its steps so far, or of one of them."""
        return [run for run in trace.read(self.site.traces / self.job_id) if step in ("", run.step)]

    def finish(self) -> Verdict:
        """Wait for the outcome, compare it with what had to come, and wait until the callback has been told."""
        verdict = self.verdict
        try:
            value = self._patiently(self._get)
            if value != self.expected:
                verdict.wrong = f"the answer is {value!r:.200}, not {self.expected!r:.200}"
            self._outcome = self._patiently(self._stored_outcome)
            verdict.hung = not self._delivered()
        except JobTimeout:
            verdict.hung = True
        except JobFailed as error:
            self.error = error
            with (self.site.directory / "failures.txt").open("a") as file:
                file.write(f"{error}\n\n")
            verdict.wrong = f"failed: {str(error).splitlines()[0]}"
        except StorageError as error:
            verdict.wrong = f"the store's failure reached the caller: {error}"
        return verdict

    def settle(self) -> Verdict:
        """Look once more, when all is quiet: has the outcome changed, was the callback sent again, what ran twice?"""
        verdict = self.verdict
        told = self.site.calls.of(self.job_id)
        if self._outcome:
            right = (self.expected, {REFERENCE: self.job_id, LAUNCH: self.ledger.launch_id})
            verdict.doubled = self._outcome != self._patiently(self._stored_outcome) or any(
                t not in right for t in told
            )
        verdict.repeated = max(0, len(told) - 1)
        verdict.extra = extra_runs(self.runs())
        if self.is_void and not verdict.wrong:
            verdict.wrong = "nobody stepped on its trap: the trial is void"
        return verdict

    @property
    def is_void(self) -> bool:
        """Whether it had a trap that killed nobody."""
        return self._trap is not None and not sprung(self.site.traps, self.job_id)

    def resends(self) -> int:
        """How often a sweep has moved the job."""
        return sum(1 for _ in self.ledger.store.list(self.ledger.keys.resends))

    def await_runs(self, count: int, step: str = "process") -> list[trace.Run]:
        """Wait until a step has begun so many times; raises TimeoutError when the job's time is up."""
        while len(runs := self.runs(step)) < count:
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{self.job_id}: {step} ran {len(runs)} times of {count}")
            time.sleep(0.02)
        return runs

    def await_manifest(self) -> Manifest:
        """Wait until its setup is done; raises TimeoutError when the job's time is up."""
        # Another thread launches it, or a worker does: at first it may not be in the store.
        while not self._is_launched() or (manifest := self.ledger.manifest()) is None:
            if time.monotonic() > self._deadline:
                raise TimeoutError(f"{self.job_id}: no manifest")
            time.sleep(0.02)
        return manifest

    def _get(self) -> Any:
        # A job that a worker launches is not in the store at first.
        while self._relayed and not self._is_launched():
            if time.monotonic() > self._deadline:
                raise JobTimeout("it was never launched")
            time.sleep(0.05)
        return self.job.get(max(0.1, self._deadline - time.monotonic()))

    def _is_launched(self) -> bool:
        try:
            self.ledger  # noqa: B018  reads the intent, once
        except JobNotFound:
            return False
        return True

    def _stored_outcome(self) -> bytes:
        return self.ledger.store.get(self.ledger.keys.outcome)

    def _delivered(self) -> bool:
        """Wait until the callback was told and that is on record; sweep meanwhile, as a beat schedule would."""
        swept_at = time.monotonic()
        while not (self.site.calls.of(self.job_id) and self._patiently(self.ledger.delivered)):
            now = time.monotonic()
            if now > self._deadline:
                return False
            if now - swept_at > self.site.stall_s / 2:
                swept_at = now
                self._patiently(lambda: sweep_job(self.site.runtime, self.job_id))
            time.sleep(0.05)
        return True

    def _patiently(self, ask: Callable[[], T]) -> T:
        while True:
            try:
                return ask()
            except StorageError as error:
                if not is_transient(error) or not self._patient or time.monotonic() > self._deadline:
                    raise
                time.sleep(0.2)


def extra_runs(runs: Sequence[trace.Run]) -> int:
    """Runs beyond the first of each step and chunk."""
    return sum(count - 1 for count in Counter((run.step, run.number) for run in runs).values())
