"""Jobs of no chunk, of one, and of ten thousand, and items that are empty or too large."""

from __future__ import annotations

import time

from .. import app as tasks
from ..fault import Fault, Plan, Row, add_results
from ..site import NO_SWEEP_S, Conditions, Site
from ..trial_job import TrialJob

MANY, SOME = 10_000, 300
EMPTY = [None, "", [], {}, b"", 0, False]


class Sizes(Fault):
    """Extreme numbers of chunks and sizes of items. A trial is one job."""

    name = "sizes"
    title = "N = 0, 1 and 10,000 chunks; empty items; an item over the size limit"
    gate = "right answer, or an early refusal that names the item"
    full = 6
    quick = 6
    conditions = Conditions(stall_s=NO_SWEEP_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        seed, values = plan.seed, tasks.ValuesTask
        started = time.monotonic()
        many = TrialJob(site, seed, chunks=SOME if plan.quick else MANY).launch(bound_s=1800.0)
        many.finish()
        row.notes.append(f"{many.chunks:,} chunks took {time.monotonic() - started:.0f} s")
        small = [
            TrialJob(site, seed, chunks=0),
            TrialJob(site, seed, chunks=1),
            TrialJob(site, seed, task=values, numbers=EMPTY, expected=EMPTY),
            TrialJob(site, seed, task=values, numbers=[], expected=[]),
        ]
        for trial_job in small:
            trial_job.launch().finish()
        items = ["a", "x" * 5000, "b"]
        oversized = TrialJob(
            site, seed, task=values, numbers=items, expected=items, options={"max_item_bytes": 1000}
        ).launch()
        oversized.finish()
        refused = (
            oversized.error is not None and oversized.error.step == "setup" and "items[1]" in oversized.error.reason
        )
        oversized.result.wrong = (
            "" if refused else f"the error does not name the item over the limit: {oversized.error}"
        )
        add_results([many, *small, oversized], row)
