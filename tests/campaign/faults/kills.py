"""SIGKILL, at random moments and at named ones."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from itertools import product

import psutil

from fanout.records.keys import INDEXED_CHUNKS

from ..fault import Fault, Plan, Row, add_results, run_concurrently
from ..kill_point import BOUNDARIES, KillPoint, Victim
from ..site import Site
from ..trial_job import TrialJob

BETWEEN_KILLS_S = 0.9
STEPS_S = {"pause_s": 0.15, "setup_pause_s": 0.05, "join_pause_s": 0.5}


class RandomKills(Fault):
    """Kills of children that run a chunk, of whole workers, and of children that run setup or join."""

    name = "kill-random"
    title = "SIGKILL at random: half children, a third whole workers, the rest setup and join"
    gate = "200 kills over ≥ 100 jobs: 0 wrong, 0 hung, 1 outcome each"
    full = 200
    quick = 8

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """Run jobs until there have been enough kills and enough jobs. A trial is a kill."""
        jobs = plan.trials // 2
        killer = _Killer(site, plan.trials, self.random(plan.seed))
        trial_jobs: list[TrialJob] = []

        def run_trial(seed: int) -> TrialJob | None:
            if len(trial_jobs) >= jobs and killer.done:
                return None
            trial_job = TrialJob(site, seed, chunks=16, **STEPS_S).launch()
            trial_jobs.append(trial_job)
            killer.running.append(trial_job)
            trial_job.finish()
            killer.running.remove(trial_job)
            return trial_job

        thread = threading.Thread(target=killer.run, daemon=True)
        thread.start()
        for _ in run_concurrently(
            run_trial, range(plan.seed, plan.seed + 10 * plan.trials), concurrency=plan.concurrency
        ):
            pass
        thread.join()
        add_results(trial_jobs, row)
        row.trials = sum(killer.kills.values())
        row.notes.append(
            f"{len(trial_jobs)} jobs; " + ", ".join(f"{n} × {what}" for what, n in sorted(killer.kills.items()))
        )
        row.require(row.trials >= plan.trials, f"only {row.trials} kills of {plan.trials}")
        row.require(len(trial_jobs) >= jobs, f"only {len(trial_jobs)} jobs of {jobs}")


class _Killer:
    """A thread's work: kill children and workers while jobs run."""

    def __init__(self, site: Site, kills: int, seeded: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self.running: list[TrialJob] = []
        self._site = site
        self._random = seeded
        # The shares are exact, and their order is random.
        thirds = kills // 3
        self._plan = ["child"] * (kills // 2) + ["whole worker"] * thirds
        self._plan += ["setup or join"] * (kills - len(self._plan))
        seeded.shuffle(self._plan)

    @property
    def done(self) -> bool:
        return not self._plan

    def run(self) -> None:
        give_up_at = time.monotonic() + 30 * len(self._plan)
        while self._plan and time.monotonic() < give_up_at:
            time.sleep(self._random.uniform(0.5, 1.5) * BETWEEN_KILLS_S)
            kind = self._plan[-1]
            while not self._kill(kind) and time.monotonic() < give_up_at:
                time.sleep(0.02)
            self.kills[kind] += 1
            self._plan.pop()

    def _kill(self, kind: str) -> bool:
        """Kill a child or worker of that kind, if one runs a step now. Return whether it did."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            children = self._site.workers.children()
            steps = ("setup", "join") if kind == "setup or join" else ("process",)
            busy = [
                run.pid
                for trial_job in list(self.running)
                for run in trial_job.runs()[-8:]
                if run.step in steps and run.pid in children and time.monotonic() - run.at < 1.0
            ]
            if not busy:
                return False
            pid = self._random.choice(busy)
            if kind == "whole worker":
                children[pid].kill()
            else:
                os.kill(pid, signal.SIGKILL)
            return True
        return False


CASES = list(product(BOUNDARIES, Victim))
MAX_VOID_TRIALS = 3


class BoundaryKills(Fault):
    """Kills of a worker, or of its child, before or after each call by which a job advances."""

    name = "kill-boundary"
    title = f"SIGKILL at each of {len(BOUNDARIES)} step boundaries × {{child, whole worker}}"
    gate = "10 each: 0 violations"
    full = 10 * len(CASES)
    quick = 24

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """Run one job with a kill point per trial. Consecutive seeds go through all boundaries."""
        runs = list(
            run_concurrently(lambda seed: self._run_until_reached(site, seed), plan.seeds, concurrency=plan.concurrency)
        )
        trial_jobs = [trial_job for trial_job, _ in runs]
        add_results(trial_jobs, row)
        cases = {choose_case(seed) for seed in plan.seeds}
        repeated = Counter(
            " ".join(choose_case(trial_job.result.seed)[0][::-1])
            for trial_job in trial_jobs
            if trial_job.result.repeated
        )
        row.notes.append(f"{len(cases)} of {len(CASES)} cases; {site.workers.deaths} whole workers died")
        if repeated:
            row.notes.append(
                "callbacks were repeated in trials with a kill "
                + ", ".join(f"{place} ({count})" for place, count in repeated.most_common())
            )
        if voids := sum(voids for _, voids in runs):
            row.notes.append(f"{voids} trials were repeated, because another trial's kill ended their process first")

    def _run_until_reached(self, site: Site, seed: int) -> tuple[TrialJob, int]:
        """Run a trial until its kill point is reached, and return its job and the number of void runs before.

        Trials share the workers, so another trial's kill may end the process first.
        """
        for voids in range(MAX_VOID_TRIALS):
            trial_job = self._run_trial_job(site, seed)
            if not trial_job.is_void:
                return trial_job, voids
        return trial_job, MAX_VOID_TRIALS

    def _run_trial_job(self, site: Site, seed: int) -> TrialJob:
        (point, when), victim = choose_case(seed)
        seeded = self.random(seed)
        # A small job has its index in the manifest, and only a batch of several chunks that lasts is shared out.
        lasts = point == "share marked"
        chunks = INDEXED_CHUNKS + 5 if point == "index" else seeded.choice([8, 12] if lasts else [1, 2, 8, 12])
        index = {"result": seeded.randrange(chunks), "chunk ref sent": seeded.randrange(chunks)}.get(point)
        slow_setup = 0.04 if point in ("pack", "chunk ref sent") else 0.0
        trial_job = TrialJob(
            site,
            seed,
            chunks=chunks,
            kill_point=KillPoint(point, when, victim, index),
            launched_by_worker=point in ("intent", "setup sent"),
            pad=300_000 if point == "value" else 0,
            setup_pause_s=slow_setup,
            pause_s=0.15 if lasts else 0.0,
        )
        trial_job.launch().finish()
        return trial_job


def choose_case(seed: int) -> tuple[tuple[str, str], Victim]:
    """Return the boundary of a trial, and its victim."""
    # 7 is coprime to the number of cases, so a quick run covers boundaries from all parts of a job.
    return CASES[seed * 7 % len(CASES)]
