"""A broker that dies and comes back, and a connection that is cut in the middle of a message."""

from __future__ import annotations

import time

from ..errand import Errand
from ..fault import Fault, Plan, Row, in_lanes, settled
from ..site import Conditions, Site


class BrokerKills(Fault):
    """SIGKILL of the broker's only process; a trial is a kill, in the middle of several jobs."""

    name = "broker-kill"
    title = "RabbitMQ killed (SIGKILL) in the middle of five jobs, and started again"
    gate = "20 kills: no chunk lost, every job right"
    full = 20
    quick = 1

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands: list[Errand] = []
        for seed in plan.seeds:
            seeded = self.random(seed)
            slow = [seeded.uniform(0.0, 0.1) for _ in range(5)]
            batch = [Errand(site, seed, pause_s=0.1, setup_pause_s=pause_s).launch() for pause_s in slow]
            time.sleep(seeded.uniform(0.0, 1.5))
            site.broker.kill()
            site.broker.restart()
            list(in_lanes(lambda errand: errand.finish(), batch, lanes=len(batch)))
            errands += batch
        settled(errands, row)
        row.trials = plan.trials
        row.notes.append(f"{len(errands)} jobs, {sum(errand.chunks for errand in errands)} chunks")


class WireCuts(Fault):
    """Cuts the connection of whoever publishes, after so many bytes: between two messages, or within one."""

    name = "wire-cut"
    title = "Connection cut while publishing, after a random number of bytes"
    gate = "20 cuts: no chunk lost, every job right"
    full = 20
    quick = 2
    conditions = Conditions(cuttable=True)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        errands: list[Errand] = []
        for seed in plan.seeds:
            cut = site.wire.arm(after_bytes=self._place(seed))
            errand = Errand(site, seed, chunks=40).launch()
            errands.append(errand)
            errand.finish()
            row.require(cut.is_set(), f"seed {seed}: nothing was cut: the trial is void")
        settled(errands, row)
        row.notes.append(f"{sum(errand.chunks for errand in errands)} chunks")

    def _place(self, seed: int) -> int:
        """Bytes before the cut: one in four within the caller's launch, the others within setup's 33 kB of handles."""
        seeded = self.random(seed)
        return seeded.randrange(100, 800) if seed % 4 == 0 else seeded.randrange(1_500, 30_000)
