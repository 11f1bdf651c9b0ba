"""Messages that come more than once, and messages that never come."""

from __future__ import annotations

import abc
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from devstack import CeleryWorker

from ..crew import ARGS
from ..errand import Errand
from ..fault import Fault, Plan, Row, in_lanes, settled
from ..site import UNSWEPT_S, Conditions, Site

BATCH = 10
"""Jobs that lose messages at the same time."""


class Doubled(Fault):
    """Publishes each task message of each job more than once: setup, process, join and callback."""

    name = "messages-doubled"
    title = "Every message doubled, a tenth of them sent five times"
    gate = "100 jobs: one outcome each"
    full = 100
    quick = 6
    conditions = Conditions(stall_s=UNSWEPT_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        def errand(seed: int) -> Errand:
            made = Errand(site, seed, pause_s=0.02).launch()
            made.finish()
            return made

        with site.switched("copies"):
            errands = list(in_lanes(errand, plan.seeds, lanes=plan.lanes))
            site.await_quiet()
        settled(errands, row)
        row.require(row.extra > 0, "no step ran twice: nothing was doubled")


class Lost(Fault):
    """Jobs that lose messages, batch by batch; a sweep has to send them again."""

    chunks = 24
    full = 100
    quick = 4

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands: list[Errand] = []
        delays_s: list[float] = []
        for first in range(0, plan.trials, BATCH):
            seeds = plan.seeds[first : first + BATCH]
            batch = [Errand(site, seed, chunks=self.chunks, pause_s=0.1) for seed in seeds]
            with ThreadPoolExecutor(len(batch)) as pool:
                # Somebody waits for each job, and so sweeps it, while its messages are lost.
                self.lose(site, batch, lambda batch=batch, pool=pool: [pool.submit(carry, errand) for errand in batch])
            delays_s += [delay for errand in batch if (delay := resumed_after_s(errand)) is not None]
            errands += batch
        settled(errands, row)
        limit_s = 2 * site.stall_s
        row.require(bool(delays_s), "no job had lost a message")
        worst_s = max(delays_s, default=0.0)
        row.notes.append(
            f"{len(delays_s)} of {len(errands)} jobs were moved by a sweep, the slowest {worst_s:.1f} s after it had "
            f"come to a halt (sweep interval {site.stall_s:g} s)"
        )
        row.require(worst_s <= limit_s, f"a job was resumed after {worst_s:.1f} s, over {limit_s:g} s")

    @abc.abstractmethod
    def lose(self, site: Site, batch: Sequence[Errand], begin: Callable[[], object]) -> None:
        """Begin the jobs, and lose messages of theirs."""


def carry(errand: Errand) -> None:
    errand.launch().finish()


class Purged(Lost):
    """Drops all messages that wait in the queue, once the jobs are set up."""

    name = "messages-purged"
    title = "The queue purged in the middle of ten jobs"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"

    def lose(self, site: Site, batch: Sequence[Errand], begin: Callable[[], object]) -> None:
        begin()
        for errand in batch:
            errand.await_manifest()
        site.purge()


class Expired(Lost):
    """Lets the messages of process steps expire after a moment in the queue."""

    name = "messages-expired"
    title = "Messages of process steps expire after 50 ms in the queue"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"

    def lose(self, site: Site, batch: Sequence[Errand], begin: Callable[[], object]) -> None:
        with site.switched("ttl", "0.05"):
            begin()
            for errand in batch:
                errand.await_manifest()


class Unregistered(Lost):
    """Has a worker that lacks the tasks take part for a while: Celery drops what it does not know."""

    name = "task-unregistered"
    title = "A worker that lacks the task takes messages from the same queue, and drops them"
    gate = "100 jobs: one outcome each, resumed within two sweep intervals"
    quick = 3

    def lose(self, site: Site, batch: Sequence[Errand], begin: Callable[[], object]) -> None:
        stranger = CeleryWorker.start(
            "tests.campaign.stranger:app",
            directory=site.directory / "strangers",
            environment=site.crew.environment,
            pool="solo",
            concurrency=1,
            name=f"stranger-{uuid.uuid4().hex[:8]}",
            args=ARGS,
        )
        try:
            begin()
            deadline = time.monotonic() + 30
            while stranger.log().count("unregistered task") < len(batch) and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            stranger.kill()


def resumed_after_s(errand: Errand) -> float | None:
    """Seconds between the last thing a job wrote and the sweep that moved it first; None if none had to."""
    written = {
        found.key: found.modified.timestamp() for found in errand.ledger.objects() if "/heartbeats/" not in found.key
    }
    nudged_at = written.get(errand.ledger.keys.resend(0))
    if nudged_at is None:
        return None
    return nudged_at - max(at for at in written.values() if at < nudged_at)
