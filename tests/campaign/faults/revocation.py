"""Celery is told to revoke a job's task."""

from __future__ import annotations

import time
from collections import Counter

from fanout import JobCancelled, JobFailed, JobTimeout

from ..errand import Errand
from ..fault import Fault, Plan, Row, in_lanes
from ..site import Site

LONGEST_S = 60.0
"""Time within which a job that was revoked has an outcome."""


class Revoked(Fault):
    """`revoke` at a random moment, for every third job with `terminate`. A trial is a job."""

    name = "revoked"
    title = "The job's Celery task is revoked at a random moment"
    gate = "100: one outcome each, and callbacks for those that succeeded only"
    full = 100
    quick = 6

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands = list(in_lanes(lambda seed: self._errand(site, seed), plan.seeds, lanes=plan.lanes))
        site.await_quiet()
        ended: Counter[str] = Counter()
        for errand, how in errands:
            verdict, told = errand.verdict, site.calls.of(errand.job_id)
            outcome = errand.ledger.outcome()
            if outcome is not None:
                verdict.doubled = outcome.status != how or len(told) != (how == "succeeded")
            ended[how] += 1
            row.add(verdict)
        row.notes.append(", ".join(f"{count} {how}" for how, count in sorted(ended.items())))

    def _errand(self, site: Site, seed: int) -> tuple[Errand, str]:
        """Launch a job, revoke it, and wait for how it ends."""
        seeded = self.random(seed)
        errand = Errand(site, seed, chunks=8, pause_s=0.15, setup_pause_s=0.05, join_pause_s=0.3).launch()
        time.sleep(seeded.uniform(0.0, 2.0))
        site.app.control.revoke(errand.job_id, terminate=seed % 3 == 0, signal="SIGKILL")
        verdict = errand.verdict
        try:
            value = errand.job.get(LONGEST_S)
        except JobCancelled:
            return errand, "cancelled"
        except JobTimeout:
            verdict.hung = True
            return errand, "open"
        except JobFailed as error:
            verdict.wrong = f"failed: {str(error).splitlines()[0]}"
            return errand, "failed"
        if value != errand.expected:
            verdict.wrong = f"the answer is {value!r:.200}, not {errand.expected!r:.200}"
        return errand, "succeeded"
