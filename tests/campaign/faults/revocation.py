"""Revocation of a job's Celery task."""

from __future__ import annotations

import time
from collections import Counter

from fanout import JobCancelled, JobFailed, JobTimeout

from ..fault import Fault, Plan, Row, run_concurrently
from ..site import Site
from ..trial_job import TrialJob

LONGEST_S = 60.0
"""Time within which a revoked job has an outcome."""


class Revoked(Fault):
    """`revoke` at a random moment, with `terminate` for every third job. A trial is a job."""

    name = "revoked"
    title = "The job's Celery task is revoked at a random moment"
    gate = "100: one outcome each, and callbacks for those that succeeded only"
    full = 100
    quick = 6

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs = list(
            run_concurrently(lambda seed: self._run_trial_job(site, seed), plan.seeds, concurrency=plan.concurrency)
        )
        site.wait_until_idle()
        endings: Counter[str] = Counter()
        for trial_job, ending in trial_jobs:
            result, received = trial_job.result, site.calls.received(trial_job.job_id)
            outcome = trial_job.ledger.outcome()
            if outcome is not None:
                result.doubled = outcome.status != ending or len(received) != (ending == "succeeded")
            endings[ending] += 1
            row.add(result)
        row.notes.append(", ".join(f"{count} {ending}" for ending, count in sorted(endings.items())))

    def _run_trial_job(self, site: Site, seed: int) -> tuple[TrialJob, str]:
        """Launch a job, revoke it, and return it with the way it ended."""
        seeded = self.random(seed)
        trial_job = TrialJob(site, seed, chunks=8, pause_s=0.15, setup_pause_s=0.05, join_pause_s=0.3).launch()
        time.sleep(seeded.uniform(0.0, 2.0))
        site.app.control.revoke(trial_job.job_id, terminate=seed % 3 == 0, signal="SIGKILL")
        result = trial_job.result
        try:
            value = trial_job.job.get(LONGEST_S)
        except JobCancelled:
            return trial_job, "cancelled"
        except JobTimeout:
            result.hung = True
            return trial_job, "open"
        except JobFailed as error:
            result.wrong = f"failed: {str(error).splitlines()[0]}"
            return trial_job, "failed"
        if value != trial_job.expected:
            result.wrong = f"the answer is {value!r:.200}, not {trial_job.expected!r:.200}"
        return trial_job, "succeeded"
