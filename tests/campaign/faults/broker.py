"""Kills of the broker, and connections that are cut in the middle of a message."""

from __future__ import annotations

import time

from ..fault import Fault, Plan, Row, add_results, run_concurrently
from ..site import Conditions, Site
from ..trial_job import TrialJob


class BrokerKills(Fault):
    """SIGKILL of the broker's only process. A trial is one kill, in the middle of several jobs."""

    name = "broker-kill"
    title = "RabbitMQ killed (SIGKILL) in the middle of five jobs, and started again"
    gate = "20 kills: no chunk lost, every job right"
    full = 20
    quick = 1

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs: list[TrialJob] = []
        for seed in plan.seeds:
            seeded = self.random(seed)
            slow = [seeded.uniform(0.0, 0.1) for _ in range(5)]
            batch = [TrialJob(site, seed, pause_s=0.1, setup_pause_s=pause_s).launch() for pause_s in slow]
            time.sleep(seeded.uniform(0.0, 1.5))
            site.broker.kill()
            site.broker.restart()
            list(run_concurrently(lambda trial_job: trial_job.finish(), batch, concurrency=len(batch)))
            trial_jobs += batch
        add_results(trial_jobs, row)
        row.trials = plan.trials
        row.notes.append(f"{len(trial_jobs)} jobs, {sum(trial_job.chunks for trial_job in trial_jobs)} chunks")


class WireCuts(Fault):
    """Cuts of a publisher's connection after some bytes: between two messages, or within one."""

    name = "wire-cut"
    title = "Connection cut while publishing, after a random number of bytes"
    gate = "20 cuts: no chunk lost, every job right"
    full = 20
    quick = 2
    conditions = Conditions(cuttable=True)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs: list[TrialJob] = []
        for seed in plan.seeds:
            cut = site.wire.arm(after_bytes=self._choose_bytes(seed))
            trial_job = TrialJob(site, seed, chunks=320).launch()
            trial_jobs.append(trial_job)
            trial_job.finish()
            row.require(cut.is_set(), f"seed {seed}: no connection was cut, so the trial is void")
        add_results(trial_jobs, row)
        row.notes.append(f"{sum(trial_job.chunks for trial_job in trial_jobs)} chunks")

    def _choose_bytes(self, seed: int) -> int:
        """Return the bytes before the cut: a quarter of the cuts hit the caller's launch, the rest setup's 10 kB."""
        seeded = self.random(seed)
        return seeded.randrange(100, 800) if seed % 4 == 0 else seeded.randrange(1_500, 8_000)
