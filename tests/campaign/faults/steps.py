"""Steps that kill their worker, stand still, or give something else each time."""

from __future__ import annotations

import time
from collections import Counter

from .. import app as tasks
from ..errand import Errand, Verdict
from ..fault import Fault, Plan, Row, in_lanes, settled
from ..site import UNSWEPT_S, Conditions, Site

NAMED_WITHIN_S = 60.0
CHUNKS = 8


class Poison(Fault):
    """One chunk kills the child that runs it, each time.

    No sweep acts: where one believes a job stalled while the broker still has its message, both have the chunk run.
    """

    name = "poison"
    title = "A chunk that kills its worker"
    gate = "exactly `max_attempts` runs, named within a minute, the rest kept"
    full = 20
    quick = 2
    conditions = Conditions(stall_s=UNSWEPT_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        slowest_s = 0.0
        for verdict, named_after_s in in_lanes(lambda seed: self._trial(site, seed), plan.seeds, lanes=3):
            row.add(verdict)
            slowest_s = max(slowest_s, named_after_s)
        row.notes.append(f"named after {slowest_s:.1f} s at most")
        row.require(slowest_s <= NAMED_WITHIN_S, f"a poison chunk was named only after {slowest_s:.0f} s")

    def _trial(self, site: Site, seed: int) -> tuple[Verdict, float]:
        seeded = self.random(seed)
        poison, limit = seeded.randrange(CHUNKS), seeded.randrange(1, 5)
        errand = Errand(site, seed, chunks=CHUNKS, task=tasks.PoisonTask, options={"max_attempts": limit})
        errand.values["poison"] = errand.numbers[poison]
        started = time.monotonic()
        errand.launch().finish()
        errand.verdict.wrong = self._fault_with(errand, poison, limit)
        return errand.verdict, time.monotonic() - started

    def _fault_with(self, errand: Errand, poison: int, limit: int) -> str:
        """What the gate finds wrong; nothing if it is met."""
        error = errand.error
        if error is None or (error.step, error.chunk) != ("process", poison) or "WorkerLost" not in error.reason:
            return f"the error does not name chunk {poison}: {error}"
        runs = Counter(run.number for run in errand.runs("process"))
        if runs[errand.numbers[poison]] != limit:
            return f"the poison chunk ran {runs[errand.numbers[poison]]} times, not {limit}"
        kept = {result.chunk for result in errand.job.chunk_results() if result.failed is None}
        ran = {chunk for chunk, number in enumerate(errand.numbers) if runs[number] and chunk != poison}
        return "" if kept == ran else f"of the others {sorted(ran)} ran, but the results of {sorted(kept)} are kept"


class Zombies(Fault):
    """Suspends a worker that runs a step, lets the job end elsewhere, and wakes the worker up."""

    name = "zombie"
    title = "SIGSTOP a worker at work, let the job end elsewhere, SIGCONT"
    gate = "20: outcome unchanged"
    full = 20
    quick = 2

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands: list[Errand] = []
        asleep: list[str] = []
        for seed in plan.seeds:
            step = ("process", "join", "setup", "process")[seed % 4]
            errand = Errand(site, seed, chunks=8, pause_s=0.5, setup_pause_s=0.1, join_pause_s=1.0).launch()
            errands.append(errand)
            run = errand.await_runs(1, step)[-1]
            worker = site.crew.children()[run.pid]
            worker.suspend()
            try:
                errand.finish()
            finally:
                worker.resume()
            site.await_quiet()
            asleep.append(step)
        settled(errands, row)
        row.notes.append(", ".join(f"{asleep.count(step)} × in {step}" for step in ("setup", "process", "join")))


class Fickle(Fault):
    """Each message comes twice, and each run gives other bytes: the first result written is the one that counts."""

    name = "other-bytes"
    title = "`process` gives other bytes on a retry"
    gate = "the first wins, the mismatch is reported"
    full = 40
    quick = 3
    conditions = Conditions(stall_s=UNSWEPT_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        def errand(seed: int) -> Errand:
            made = Errand(site, seed, chunks=8, task=tasks.FickleTask, pause_s=0.1).launch()
            # What is read from the store as soon as it is there, is what must be there in the end.
            made.expected = list(made.job)
            made.finish()
            return made

        with site.switched("copies"):
            errands = list(in_lanes(errand, plan.seeds, lanes=2))
            site.await_quiet()
        settled(errands, row)
        reported = site.crew.logged("gave another result in a second run")
        mine = [line for line in reported if any(errand.job_id in line for errand in errands)]
        row.notes.append(f"{row.extra} extra runs, {len(mine)} mismatches reported in the workers' logs")
        for errand in errands:
            row.require(any(errand.job_id in line for line in mine), f"job {errand.job_id}: no mismatch was reported")
