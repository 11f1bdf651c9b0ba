"""The invariants at the end of a schedule."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

from fanout.clock import AGREE_S
from fanout.records.failure import FailedItem, Failure
from fanout.records.ledger import Ledger
from fanout.records.models import Manifest, Outcome, OutcomeStatus
from fanout.stages.barrier import completion_of
from fanout.stages.result_reader import entry_values

from .shape import STALL_S
from .task import SCRIPTS

if TYPE_CHECKING:
    from .invariants import Invariants
    from .world import World

LOST = "WorkerLost"
CHUNKS = re.compile(r"combining the results of chunks (\d+) to (\d+)")
NEVER = {"broken", "poison"}
"""Kinds of steps and items that never succeed."""
RAISES = {"broken", "repaired", "flaky"}


class FinalChecks:
    """The checks of a schedule's jobs, once the schedule is over."""

    def __init__(self, world: World, invariants: Invariants) -> None:
        self._world = world
        self._invariants = invariants

    def check(self) -> None:
        """Check the invariants of the end."""
        for job_id in self._world.job_ids:
            self._check_job(job_id)

    def _check_job(self, job_id: str) -> None:
        ledger = self._world.latest(job_id)
        outcome = ledger.outcome()
        if outcome is None:
            self._invariants.violate(
                "every job ends",
                f"{job_id} has no outcome {self._world.loop.now - self._world.faults_end_at:.0f} s later",
            )
            return
        if (
            not self._invariants.deliveries[job_id, ledger.generation]
            or ledger.keys.delivered not in self._world.objects
        ):
            self._invariants.violate("every outcome is delivered", job_id)
        if outcome.failure is None:
            self._check_value(job_id, ledger, outcome)
        else:
            failure = Failure.read(outcome.failure)
            assert failure is not None
            self._check_failure(job_id, ledger.generation, outcome, failure)
        if job_id in self._invariants.cancelled:
            generations = (
                Ledger.of(ledger.store, job_id, generation).outcome() for generation in range(ledger.generation + 1)
            )
            if all(generation is None or generation.status != OutcomeStatus.CANCELLED for generation in generations):
                self._invariants.violate("a cancelled job is cancelled", job_id)
        self._check_run_stats(job_id, ledger)

    def _check_value(self, job_id: str, ledger: Ledger, outcome: Outcome) -> None:
        world = self._world
        shape, script = world.shape, SCRIPTS[world.number(job_id)]
        never = sum(kind in NEVER for kind in shape.items)
        never_combined = shape.must_combine and shape.tolerate is None and shape.combine in NEVER
        if never > (shape.tolerate or 0) or {shape.setup, shape.join} & NEVER or never_combined:
            self._invariants.violate("a job with steps that never succeed fails", f"{job_id}: {shape.items}")
        manifest = ledger.manifest()
        value = ledger.value(outcome)
        assert isinstance(value, list)
        combines = shape.combines is not None
        if manifest is None or completion_of(ledger, manifest, combines=combines).due:
            self._invariants.violate("a job that succeeds is complete", job_id)
            return
        if combines:
            self._check_combined(job_id, ledger, manifest, outcome, value)
            return
        stored = [
            row.to_dict() if isinstance(row, FailedItem) else row
            for entry in ledger.result_entries(manifest.setup_id)
            for row in entry_values(ledger, manifest.setup_id, entry, tolerant=True)
        ]
        # A good result may have been written after join had read a failed item.
        if len(value) != len(stored) or any(
            a != b and not isinstance(a, dict) for a, b in zip(value, stored, strict=False)
        ):
            self._invariants.violate("join receives the current results", f"{job_id}: {value} and not {stored}")
        salt = next((row[1] for row in value if isinstance(row, list)), None)
        if salt is not None and len(value) != script.count(salt):
            self._invariants.violate("the value equals that of a serial run", f"{job_id}: {value}")
        for index, row in enumerate(value):
            if isinstance(row, dict):
                self._check_failed_item(job_id, ledger, index, row)
            elif row[:2] != [index, salt] or tuple(row) not in script.values[index]:
                self._invariants.violate("the value equals that of a serial run", f"{job_id}: {row} at {index}")
        failed = sum(isinstance(row, dict) for row in value)
        if outcome.failed != failed or failed > (shape.tolerate or 0):
            self._invariants.violate(
                "no more items fail than tolerated, and all are counted", f"{job_id}: {failed}, {outcome.failed}"
            )

    def _check_combined(
        self, job_id: str, ledger: Ledger, manifest: Manifest, outcome: Outcome, value: list[list[int]]
    ) -> None:
        """Check that the value has the rows of all items that did not fail, in order."""
        shape, script = self._world.shape, SCRIPTS[self._world.number(job_id)]
        stored = [
            row
            for entry in ledger.result_entries(manifest.setup_id)
            for values in entry_values(ledger, manifest.setup_id, entry, tolerant=True)
            if not isinstance(values, FailedItem)
            for row in values
        ]
        # A good result may have been written after the other results had been combined.
        if value != stored and not outcome.failed:
            self._invariants.violate("join receives the current results", f"{job_id}: {value} and not {stored}")
        if any(tuple(row) not in script.values[row[0]] or row[1] != value[0][1] for row in value):
            self._invariants.violate("the value equals that of a serial run", f"{job_id}: {value}")
        present = [row[0] for row in value]
        absent = set(range(manifest.items)) - set(present)
        if present != sorted(set(present)) or (value and manifest.items != script.count(value[0][1])):
            self._invariants.violate("the value equals that of a serial run", f"{job_id}: {value}")
        if outcome.failed != len(absent) or len(absent) > (shape.tolerate or 0):
            self._invariants.violate(
                "no more items fail than tolerated, and all are counted", f"{job_id}: {absent}, {outcome.failed}"
            )
        for failed in outcome.failed_items:
            if failed.item not in absent:
                self._invariants.violate("each item in the failures has failed", f"{job_id}: {failed}")
            self._check_failed_item(job_id, ledger, failed.item, failed.to_dict())

    def _check_failed_item(self, job_id: str, ledger: Ledger, index: int, row: dict[str, object]) -> None:
        failed_runs = self._count_failed_runs(job_id, ledger.generation, index // self._world.shape.chunk_items)
        kinds = dict(enumerate(self._world.shape.items))
        raises = row["error"] == "ValueError" and (kinds.get(index) in RAISES or self._combine_raises)
        if row["item"] != index or failed_runs < self._world.shape.max_attempts or not (raises or row["error"] == LOST):
            self._invariants.violate("a failed item names its true cause", f"{job_id}: {row} at {index}")

    @property
    def _combine_raises(self) -> bool:
        shape = self._world.shape
        return shape.combines is not None and shape.combine in RAISES

    def _check_failure(self, job_id: str, generation: int, outcome: Outcome, failure: Failure) -> None:
        world = self._world
        shape = world.shape
        if failure.error == "JobCancelled":
            matches = shape.cancel_s is not None and outcome.status == OutcomeStatus.CANCELLED
        elif failure.error == "DeadlineExceeded":
            written_at = world.objects.written_at(Ledger.of(world.objects, job_id, generation).keys.outcome)
            assert written_at is not None
            # Clocks that differ by at most AGREE_S count as equal.
            ends_at = world.began_at + (shape.deadline_s or 0.0) - AGREE_S
            matches = shape.deadline_s is not None and written_at >= ends_at
        elif failure.error == "Expired":
            matches = shape.expires_s is not None and not SCRIPTS[world.number(job_id)].runs["setup"]
        elif failure.step == "combine" and failure.chunk is None:
            matches = self._matches_node(job_id, generation, failure)
        elif failure.step in ("process", "combine"):
            matches = self._matches_chunks(job_id, generation, failure)
        elif failure.error == LOST:
            matches = self._invariants.failed_runs[job_id, str(generation), failure.step] >= shape.max_attempts
        else:
            matches = failure.error == "ValueError" and getattr(shape, failure.step) == "broken"
        if not matches:
            self._invariants.violate("a failure names its true cause", f"{job_id}: {failure}")

    def _matches_chunks(self, job_id: str, generation: int, failure: Failure) -> bool:
        shape = self._world.shape
        if failure.error == "TooManyFailed":
            chunks = [
                chunk
                for chunk in range(shape.chunks + 10)
                if self._count_failed_runs(job_id, generation, chunk) >= shape.max_attempts
            ]
            return shape.tolerate is not None and len(chunks) * shape.chunk_items > shape.tolerate
        if failure.chunk is None or self._count_failed_runs(job_id, generation, failure.chunk) < shape.max_attempts:
            return False
        if failure.error == LOST:
            return True
        if failure.step == "combine":
            return failure.error == "ValueError" and failure.item is None and self._combine_raises
        kinds = dict(enumerate(shape.items))
        if failure.error != "ValueError" or failure.item is None or kinds.get(failure.item) not in RAISES:
            return False
        return failure.item // shape.chunk_items == failure.chunk

    def _matches_node(self, job_id: str, generation: int, failure: Failure) -> bool:
        first, last = map(int, CHUNKS.search(failure.reason).groups())  # type: ignore[union-attr]
        if failure.error != LOST:
            return failure.error == "ValueError" and self._combine_raises
        failed_runs = sum(self._count_failed_runs(job_id, generation, chunk) for chunk in range(first, last + 1))
        return failed_runs >= self._world.shape.max_attempts

    def _count_failed_runs(self, job_id: str, generation: int, chunk: int) -> int:
        """Return the number of a chunk's failed runs in a generation, as the maximum over all setup ids.

        The outcome may be older than the manifest, and so belong to a superseded setup.
        """
        counts = (
            count
            for work, count in self._invariants.failed_runs.items()
            if len(work) == 4 and work[3] == str(chunk) and work[:2] == (job_id, str(generation))
        )
        return max(counts, default=0)

    def _check_run_stats(self, job_id: str, ledger: Ledger) -> None:
        world = self._world
        resends = sum(1 for _ in ledger.store.list(ledger.keys.resends))
        lasted_s = world.loop.now - world.began_at
        if resends > math.log2(max(lasted_s / STALL_S, 1)) + 2:
            self._invariants.violate("resends become rarer", f"{job_id}: {resends} in {lasted_s:.0f} s")
        self._check_runs(job_id)
        if world.shape.is_calm and resends and not self._is_slow():
            self._invariants.violate("a job without faults needs no resend", f"{job_id}: {resends}")

    def _check_runs(self, job_id: str) -> None:
        """Check that recorded attempts are at most `max_attempts`, and that each other run has its own message."""
        shape, runs = self._world.shape, SCRIPTS[self._world.number(job_id)].runs
        limits: Counter[int | str] = Counter({"setup": shape.max_attempts, "join": shape.max_attempts})
        for work, unrecorded in self._invariants.unrecorded.items():
            if work[0] == job_id:
                step = work[2] if len(work) == 3 else int(work[3])
                limits[step] += unrecorded + (shape.max_attempts if len(work) == 4 or work[1] != "0" else 0)
        for step, count in runs.items():
            limit = limits[step if isinstance(step, str) else step // shape.chunk_items]
            if count > limit:
                self._invariants.violate(
                    "a step runs no more often than allowed", f"{job_id}: {step} ran {count} > {limit} times"
                )
        if shape.combine == "poison":
            self._check_poisoned_combines(job_id, limits)

    def _check_poisoned_combines(self, job_id: str, limits: Counter[int | str]) -> None:
        """Check that a combine that kills its worker runs for one group only, once per run of its chunks."""
        shape = self._world.shape
        for item, count in SCRIPTS[self._world.number(job_id)].combined.items():
            first = item // shape.chunk_items // shape.group_width * shape.group_width
            limit = sum(limits[chunk] for chunk in range(first, first + shape.group_width))
            if count > limit:
                self._invariants.violate(
                    "a step runs no more often than allowed", f"{job_id}: combine of {item} ran {count} times"
                )

    def _is_slow(self) -> bool:
        shape = self._world.shape
        return max(shape.latency_s, shape.message_s) * 4 > STALL_S
