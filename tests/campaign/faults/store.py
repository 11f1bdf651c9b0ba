"""A store that refuses requests, loses responses, truncates bodies, resets connections, or is suspended."""

from __future__ import annotations

import time
from collections import Counter

from ..fault import Fault, Plan, Row, add_results, run_concurrently
from ..gateway import StoreFaults
from ..site import Conditions, Site
from ..trial_job import TrialJob

STALL_S = 5.0
"""Longer than most pauses between the client's retries. Otherwise a sweep would resend messages of running steps."""

CLIENTS = ("obstore", "boto3")


class StoreFault(Fault):
    """A fault of the store, with one S3 client.

    Args:
        client: One of `CLIENTS`.
        quick: Trials of a quick run, instead of the fault's default.
    """

    def __init__(self, client: str, *, quick: int | None = None) -> None:
        self.name = f"{self.name}-{client}"
        self.title = f"{self.title} ({client})"
        self.conditions = Conditions(faulty=True, stall_s=STALL_S, client=client)
        if quick is not None:
            self.quick = quick


class FaultyStore(StoreFault):
    """Jobs on a store whose requests fail at random, for callers and workers."""

    faults: StoreFaults
    retry_storage_errors = False
    bound_s = 180.0

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        site.gateway.set(self.faults, seed=plan.seed)
        try:
            trial_jobs = self.run_trial_jobs(site, plan)
        finally:
            counts = Counter(site.gateway.counts)
            site.gateway.set(StoreFaults(), seed=plan.seed)
        site.wait_until_idle()
        add_results(trial_jobs, row)
        requests = counts.pop("requests", 0)
        injected = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        row.notes.append(f"{len(trial_jobs)} jobs; of {requests:,} requests {injected}")
        row.require(sum(counts.values()) > 0, "no fault was injected")
        self.judge(row, counts, plan)

    def run_trial_jobs(self, site: Site, plan: Plan) -> list[TrialJob]:
        return list(
            run_concurrently(lambda seed: self.run_trial_job(site, seed), plan.seeds, concurrency=plan.concurrency)
        )

    def run_trial_job(self, site: Site, seed: int) -> TrialJob:
        trial_job = TrialJob(site, seed, retry_storage_errors=self.retry_storage_errors).launch(bound_s=self.bound_s)
        trial_job.finish()
        return trial_job

    def judge(self, row: Row, counts: Counter[str], plan: Plan) -> None:
        """Check further conditions of the fault."""


class Unavailable5(FaultyStore):
    """503 as the response to one request in twenty."""

    name = "store-503-5"
    title = "The store answers 5 % of requests with 503"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(unavailable=0.05)


class Unavailable20(FaultyStore):
    """503 as the response to one request in five."""

    name = "store-503-20"
    title = "The store answers 20 % of requests with 503"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(unavailable=0.2)


class Unavailable50(FaultyStore):
    """503 as the response to every other request. The caller repeats its own failed requests."""

    name = "store-503-50"
    title = "The store answers 50 % of requests with 503"
    gate = "0 wrong"
    full = 40
    quick = 3
    faults = StoreFaults(unavailable=0.5)
    retry_storage_errors = True
    bound_s = 600.0


class Denied(FaultyStore):
    """Denial of one request in twenty, as after a token's expiry. The caller repeats its own denied requests."""

    name = "store-denied"
    title = "The store denies 5 % of requests (ExpiredToken)"
    gate = "0 wrong, one outcome each"
    full = 100
    quick = 5
    faults = StoreFaults(denied=0.05)
    retry_storage_errors = True
    bound_s = 300.0


class DroppedAnswers(FaultyStore):
    """Lost responses to a fifth of the successful PUTs. The client finds its own object when it retries.

    A trial is a lost response.
    """

    name = "store-dropped"
    title = "Answers to successful PUTs lost"
    gate = "500 lost answers: 0 false errors"
    full = 500
    quick = 20
    faults = StoreFaults(dropped=0.2)

    def run_trial_jobs(self, site: Site, plan: Plan) -> list[TrialJob]:
        trial_jobs: list[TrialJob] = []
        seed = plan.seed
        while site.gateway.counts["dropped"] < plan.trials:
            trial_jobs += run_concurrently(
                lambda seed: self.run_trial_job(site, seed),
                range(seed, seed + plan.concurrency),
                concurrency=plan.concurrency,
            )
            seed += plan.concurrency
        return trial_jobs

    def judge(self, row: Row, counts: Counter[str], plan: Plan) -> None:
        row.trials = counts["dropped"]


class Truncated(FaultyStore):
    """One response body in five that ends in the middle."""

    name = "store-truncated"
    title = "20 % of bodies read from the store end in the middle"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(truncated=0.2)


class Resets(FaultyStore):
    """A connection reset before one request in ten."""

    name = "store-resets"
    title = "10 % of requests meet a reset connection"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(resets=0.1)


class Stopped(StoreFault):
    """A suspended store process: it accepts connections and does not respond. A trial is one stop."""

    name = "store-stopped"
    title = "The store stopped (SIGSTOP) for 60 s in the middle of six jobs"
    gate = "all jobs succeed"
    full = 3
    quick = 1

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        trial_jobs: list[TrialJob] = []
        stop_s = 5.0 if plan.quick else 60.0
        for seed in plan.seeds:
            batch = [TrialJob(site, seed, pause_s=0.1, setup_pause_s=0.05).launch(bound_s=300.0) for _ in range(6)]
            time.sleep(self.random(seed).uniform(0.2, 1.5))
            site.store.suspend()
            try:
                time.sleep(stop_s)
            finally:
                site.store.resume()
            list(run_concurrently(lambda trial_job: trial_job.finish(), batch, concurrency=len(batch)))
            trial_jobs += batch
        site.wait_until_idle()
        add_results(trial_jobs, row)
        row.trials = plan.trials
        row.notes.append(f"{len(trial_jobs)} jobs; stopped for {stop_s:g} s each time")


def store_faults(client: str, *, brief: bool = False) -> list[Fault]:
    """Return the store's faults for a client; `brief` keeps quick runs to the faults that depend on the client."""
    return [
        Unavailable5(client, quick=0 if brief else None),
        Unavailable20(client, quick=3 if brief else None),
        Unavailable50(client, quick=0 if brief else None),
        Denied(client, quick=0 if brief else None),
        DroppedAnswers(client),
        Truncated(client, quick=3 if brief else None),
        Resets(client, quick=3 if brief else None),
        Stopped(client, quick=0 if brief else None),
    ]
