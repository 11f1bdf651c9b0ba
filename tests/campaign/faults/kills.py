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

from ..errand import Errand
from ..fault import Fault, Plan, Row, in_lanes, settled
from ..site import Site
from ..trap import BOUNDARIES, Trap, Victim

BETWEEN_KILLS_S = 0.9
STEPS_S = {"pause_s": 0.15, "setup_pause_s": 0.05, "join_pause_s": 0.5}


class RandomKills(Fault):
    """Kills children that work on a chunk, whole workers, and children that run setup or join."""

    name = "kill-random"
    title = "SIGKILL at random: half children, a third whole workers, the rest setup and join"
    gate = "200 kills over ≥ 100 jobs: 0 wrong, 0 hung, 1 outcome each"
    full = 200
    quick = 8

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """A trial is a kill; jobs follow each other until there have been enough of both."""
        jobs = plan.trials // 2
        killer = _Killer(site, plan.trials, self.random(plan.seed))
        errands: list[Errand] = []

        def errand(seed: int) -> Errand | None:
            if len(errands) >= jobs and killer.done:
                return None
            made = Errand(site, seed, chunks=16, **STEPS_S).launch()
            errands.append(made)
            killer.running.append(made)
            made.finish()
            killer.running.remove(made)
            return made

        thread = threading.Thread(target=killer.run, daemon=True)
        thread.start()
        for _ in in_lanes(errand, range(plan.seed, plan.seed + 10 * plan.trials), lanes=plan.lanes):
            pass
        thread.join()
        settled(errands, row)
        row.trials = sum(killer.kills.values())
        row.notes.append(
            f"{len(errands)} jobs; " + ", ".join(f"{n} × {what}" for what, n in sorted(killer.kills.items()))
        )
        row.require(row.trials >= plan.trials, f"only {row.trials} kills of {plan.trials}")
        row.require(len(errands) >= jobs, f"only {len(errands)} jobs of {jobs}")


class _Killer:
    """Kills somebody again and again, as long as jobs run."""

    def __init__(self, site: Site, kills: int, seeded: random.Random) -> None:
        self.kills: Counter[str] = Counter()
        self.running: list[Errand] = []
        self._site = site
        self._random = seeded
        # The shares are exact, their order is random.
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
        """Kill one of that kind, if there is one at work just now."""
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            children = self._site.crew.children()
            steps = ("setup", "join") if kind == "setup or join" else ("process",)
            busy = [
                run.pid
                for errand in list(self.running)
                for run in errand.runs()[-8:]
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
VOIDS = 3


class BoundaryKills(Fault):
    """Kills a worker, or its child, before or after each call by which a job moves on."""

    name = "kill-boundary"
    title = f"SIGKILL at each of {len(BOUNDARIES)} step boundaries × {{child, whole worker}}"
    gate = "10 each: 0 violations"
    full = 10 * len(CASES)
    quick = 24

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        """A trial is a job with a trap; consecutive seeds go through all boundaries."""
        tried = list(in_lanes(lambda seed: self._tried(site, seed), plan.seeds, lanes=plan.lanes))
        errands = [errand for errand, _ in tried]
        settled(errands, row)
        reached = {case_of(seed) for seed in plan.seeds}
        again = Counter(
            " ".join(case_of(errand.verdict.seed)[0][::-1]) for errand in errands if errand.verdict.repeated
        )
        row.notes.append(f"{len(reached)} of {len(CASES)} cases; {site.crew.deaths} whole workers died")
        if again:
            row.notes.append(
                "callbacks were sent again in trials with a kill "
                + ", ".join(f"{place} ({count})" for place, count in again.most_common())
            )
        if voids := sum(voids for _, voids in tried):
            row.notes.append(f"{voids} trials were begun anew, because another trial's kill came before theirs")

    def _tried(self, site: Site, seed: int) -> tuple[Errand, int]:
        """A trial, and how often it had to be begun anew: workers are shared, so another's kill may come first."""
        for voids in range(VOIDS):
            errand = self._errand(site, seed)
            if not errand.is_void:
                return errand, voids
        return errand, VOIDS

    def _errand(self, site: Site, seed: int) -> Errand:
        (point, when), victim = case_of(seed)
        seeded = self.random(seed)
        # A small job has its index in the manifest, and one group needs no mark.
        is_large = point in ("index", "mark", "marks listed")
        chunks = INDEXED_CHUNKS + 5 if is_large else seeded.choice([1, 2, 8, 12])
        index = {"result": seeded.randrange(chunks), "handle sent": seeded.randrange(chunks)}.get(point)
        slow_setup = 0.04 if point in ("pack", "handle sent") else 0.0
        errand = Errand(
            site,
            seed,
            chunks=chunks,
            trap=Trap(point, when, victim, index),
            relayed=point in ("intent", "setup sent"),
            pad=300_000 if point == "value" else 0,
            setup_pause_s=slow_setup,
        )
        errand.launch().finish()
        return errand


def case_of(seed: int) -> tuple[tuple[str, str], Victim]:
    """The boundary of a trial, and who dies there."""
    # 7 shares no factor with the number of cases, so that a quick run is spread over all of a job.
    return CASES[seed * 7 % len(CASES)]
