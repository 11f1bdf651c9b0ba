"""A store that says no, loses answers, breaks off in the middle, cuts connections, or stops altogether."""

from __future__ import annotations

import time
from collections import Counter

from ..errand import Errand
from ..fault import Fault, Plan, Row, in_lanes, settled
from ..gateway import StoreFaults
from ..site import Conditions, Site

STALL_S = 5.0
"""Longer than most of the client's own pauses between its tries, or a sweep would repeat what is under way."""

CLIENTS = ("obstore", "boto3")


class StoreFault(Fault):
    """A fault of the store, as one S3 client meets it.

    Args:
        client: One of `CLIENTS`.
        quick: Trials of a quick run, if not the fault's own.
    """

    def __init__(self, client: str, *, quick: int | None = None) -> None:
        self.name = f"{self.name}-{client}"
        self.title = f"{self.title} ({client})"
        self.conditions = Conditions(faulty=True, stall_s=STALL_S, client=client)
        if quick is not None:
            self.quick = quick


class FaultyStore(StoreFault):
    """Jobs on a store whose requests fail at random, while callers and workers alike know nothing of it."""

    faults: StoreFaults
    patient = False
    bound_s = 180.0

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        site.gateway.set(self.faults, seed=plan.seed)
        try:
            errands = self.carry_on(site, plan)
        finally:
            counts = Counter(site.gateway.counts)
            site.gateway.set(StoreFaults(), seed=plan.seed)
        site.await_quiet()
        settled(errands, row)
        requests = counts.pop("requests", 0)
        met = ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()))
        row.notes.append(f"{len(errands)} jobs; of {requests:,} requests {met}")
        row.require(sum(counts.values()) > 0, "no request met a fault")
        self.judge(row, counts, plan)

    def carry_on(self, site: Site, plan: Plan) -> list[Errand]:
        return list(in_lanes(lambda seed: self.errand(site, seed), plan.seeds, lanes=plan.lanes))

    def errand(self, site: Site, seed: int) -> Errand:
        errand = Errand(site, seed, patient=self.patient).launch(bound_s=self.bound_s)
        errand.finish()
        return errand

    def judge(self, row: Row, counts: Counter[str], plan: Plan) -> None:
        """What has to hold besides."""


class Unavailable5(FaultyStore):
    """One request in twenty is answered with 503."""

    name = "store-503-5"
    title = "The store answers 5 % of requests with 503"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(unavailable=0.05)


class Unavailable20(FaultyStore):
    """One request in five is answered with 503."""

    name = "store-503-20"
    title = "The store answers 20 % of requests with 503"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(unavailable=0.2)


class Unavailable50(FaultyStore):
    """Every other request is answered with 503; a caller whose own request fails asks again."""

    name = "store-503-50"
    title = "The store answers 50 % of requests with 503"
    gate = "0 wrong"
    full = 40
    quick = 3
    faults = StoreFaults(unavailable=0.5)
    patient = True
    bound_s = 600.0


class Denied(FaultyStore):
    """One request in twenty is denied, as if a token had expired; a caller whose own request is denied asks again."""

    name = "store-denied"
    title = "The store denies 5 % of requests (ExpiredToken)"
    gate = "0 wrong, one outcome each"
    full = 100
    quick = 5
    faults = StoreFaults(denied=0.05)
    patient = True
    bound_s = 300.0


class DroppedAnswers(FaultyStore):
    """PUTs succeed, but a fifth of the answers never arrive: the client meets its own write when it tries again.

    A trial is a lost answer.
    """

    name = "store-dropped"
    title = "Answers to successful PUTs lost"
    gate = "500 lost answers: 0 false errors"
    full = 500
    quick = 20
    faults = StoreFaults(dropped=0.2)

    def carry_on(self, site: Site, plan: Plan) -> list[Errand]:
        errands: list[Errand] = []
        seed = plan.seed
        while site.gateway.counts["dropped"] < plan.trials:
            errands += in_lanes(lambda seed: self.errand(site, seed), range(seed, seed + plan.lanes), lanes=plan.lanes)
            seed += plan.lanes
        return errands

    def judge(self, row: Row, counts: Counter[str], plan: Plan) -> None:
        row.trials = counts["dropped"]


class Truncated(FaultyStore):
    """One in five bodies ends in the middle."""

    name = "store-truncated"
    title = "20 % of bodies read from the store end in the middle"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(truncated=0.2)


class Resets(FaultyStore):
    """One in ten connections is reset before the request is done."""

    name = "store-resets"
    title = "10 % of requests meet a reset connection"
    gate = "all jobs succeed"
    full = 100
    quick = 5
    faults = StoreFaults(resets=0.1)


class Stopped(StoreFault):
    """The store's process stands still; connections are taken and nothing answers. A trial is a stop."""

    name = "store-stopped"
    title = "The store stopped (SIGSTOP) for 60 s in the middle of six jobs"
    gate = "all jobs succeed"
    full = 3
    quick = 1

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands: list[Errand] = []
        stop_s = 5.0 if plan.quick else 60.0
        for seed in plan.seeds:
            batch = [Errand(site, seed, pause_s=0.1, setup_pause_s=0.05).launch(bound_s=300.0) for _ in range(6)]
            time.sleep(self.random(seed).uniform(0.2, 1.5))
            site.store.suspend()
            try:
                time.sleep(stop_s)
            finally:
                site.store.resume()
            list(in_lanes(lambda errand: errand.finish(), batch, lanes=len(batch)))
            errands += batch
        site.await_quiet()
        settled(errands, row)
        row.trials = plan.trials
        row.notes.append(f"{len(errands)} jobs; stopped for {stop_s:g} s each time")


def store_faults(client: str, *, brief: bool = False) -> list[Fault]:
    """All of them for a client; of the second one a quick run does only those that are the client's own business."""
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
