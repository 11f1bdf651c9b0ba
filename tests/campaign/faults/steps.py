"""Steps that kill their worker, that are suspended, or that return other bytes in each run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from fanout.job import Job

from .. import app as tasks
from ..fault import Fault, Plan, Row, add_results, run_concurrently
from ..site import NO_SWEEP_S, Conditions, Site
from ..trial_job import TrialJob, TrialResult

NAMED_WITHIN_S = 60.0
CHUNKS = 8


class Poison(Fault):
    """One chunk that kills the child in each run.

    No sweep acts. A sweep that takes the job for stalled while the broker still has the message would add a run.
    """

    name = "poison"
    title = "A chunk that kills its worker"
    gate = "`max_attempts` runs and at most one in a batch, named within a minute, the rest kept"
    full = 20
    quick = 2
    conditions = Conditions(stall_s=NO_SWEEP_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        slowest_s = 0.0
        for result, named_after_s in run_concurrently(lambda seed: self._trial(site, seed), plan.seeds, concurrency=3):
            row.add(result)
            slowest_s = max(slowest_s, named_after_s)
        row.notes.append(f"named after {slowest_s:.1f} s at most")
        row.require(slowest_s <= NAMED_WITHIN_S, f"the error named a poison chunk only after {slowest_s:.0f} s")

    def _trial(self, site: Site, seed: int) -> tuple[TrialResult, float]:
        seeded = self.random(seed)
        poison, limit = seeded.randrange(CHUNKS), seeded.randrange(1, 5)
        trial_job = TrialJob(site, seed, chunks=CHUNKS, task=tasks.PoisonTask, options={"max_attempts": limit})
        trial_job.values["poison"] = trial_job.numbers[poison]
        started = time.monotonic()
        trial_job.launch().finish()
        trial_job.result.wrong = self._find_violation(trial_job, poison, limit)
        return trial_job.result, time.monotonic() - started

    def _find_violation(self, trial_job: TrialJob, poison: int, limit: int) -> str:
        """Return the violation of the gate as text, empty if there is none."""
        error = trial_job.error
        if error is None or (error.step, error.chunk) != ("process", poison) or "WorkerLost" not in error.reason:
            return f"the error does not name chunk {poison}: {error}"
        runs = Counter(run.number for run in trial_job.runs("process"))
        # With one attempt there is no batch. A batch in which a worker dies leaves no result and no attempt.
        in_batch = int(limit > 1)
        if not limit <= runs[trial_job.numbers[poison]] <= limit + in_batch:
            return f"the poison chunk ran {runs[trial_job.numbers[poison]]} times, not {limit}"
        stored = set(find_good_chunks(trial_job.job))
        ran = {chunk for chunk, number in enumerate(trial_job.numbers) if runs[number] and chunk != poison}
        alone = {chunk for chunk in ran if chunk > poison or runs[trial_job.numbers[chunk]] > in_batch}
        if alone <= stored <= ran:
            return ""
        return f"of the others {sorted(alone)} ran alone, but the results of {sorted(stored)} exist"


def find_good_chunks(job: Job) -> Iterator[int]:
    """Yield the chunks that have a result without a failed item."""
    manifest = job.ledger.manifest()
    assert manifest is not None
    for entry in job.ledger.result_entries(manifest.setup_id):
        if not entry.failed:
            yield from range(entry.index, entry.index + entry.count)


class Zombies(Fault):
    """A worker that is suspended in a step, and resumed once the job has ended elsewhere."""

    name = "zombie"
    title = "SIGSTOP a worker at work, let the job end elsewhere, SIGCONT"
    gate = "20: outcome unchanged"
    full = 20
    quick = 2

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs: list[TrialJob] = []
        suspended: list[str] = []
        for seed in plan.seeds:
            step = ("process", "join", "setup", "process")[seed % 4]
            trial_job = TrialJob(site, seed, chunks=8, pause_s=0.5, setup_pause_s=0.1, join_pause_s=1.0).launch()
            trial_jobs.append(trial_job)
            run = trial_job.wait_for_runs(1, step)[-1]
            worker = site.workers.children()[run.pid]
            worker.suspend()
            try:
                trial_job.finish()
            finally:
                worker.resume()
            site.wait_until_idle()
            suspended.append(step)
        add_results(trial_jobs, row)
        row.notes.append(", ".join(f"{suspended.count(step)} × in {step}" for step in ("setup", "process", "join")))


class Nondeterministic(Fault):
    """Two runs of each chunk, each with other bytes. The first result that is written counts."""

    name = "other-bytes"
    title = "`process` gives other bytes on a retry"
    gate = "the first wins, the mismatch is reported"
    full = 40
    quick = 3
    conditions = Conditions(stall_s=NO_SWEEP_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        def run_trial(seed: int) -> TrialJob:
            trial_job = TrialJob(site, seed, chunks=8, task=tasks.NondeterministicTask, pause_s=0.1).launch()
            # The results that are read as soon as they exist must be the results in the end.
            trial_job.expected = list(trial_job.job)
            trial_job.finish()
            return trial_job

        with site.switch_on("copies"):
            trial_jobs = list(run_concurrently(run_trial, plan.seeds, concurrency=2))
            site.wait_until_idle()
        add_results(trial_jobs, row)
        reported = site.workers.find_log_lines("gave another result in a second run")
        matching = [line for line in reported if any(trial_job.job_id in line for trial_job in trial_jobs)]
        row.notes.append(f"{row.extra} extra runs, {len(matching)} mismatches reported in the workers' logs")
        for trial_job in trial_jobs:
            row.require(
                any(trial_job.job_id in line for line in matching), f"job {trial_job.job_id}: no mismatch was reported"
            )
