"""Jobs of no chunk, one, or ten thousand; items that are empty, or too large."""

from __future__ import annotations

import time

from .. import app as tasks
from ..errand import Errand
from ..fault import Fault, Plan, Row, settled
from ..site import UNSWEPT_S, Conditions, Site

MANY, SOME = 10_000, 300
EMPTY = [None, "", [], {}, b"", 0, False]


class Sizes(Fault):
    """A trial is one job."""

    name = "sizes"
    title = "N = 0, 1 and 10,000 chunks; empty items; an item over the size limit"
    gate = "right answer, or an early refusal that names the item"
    full = 6
    quick = 6
    conditions = Conditions(stall_s=UNSWEPT_S)

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        seed, values = plan.seed, tasks.ValuesTask
        started = time.monotonic()
        many = Errand(site, seed, chunks=SOME if plan.quick else MANY).launch(bound_s=1800.0)
        many.finish()
        row.notes.append(f"{many.chunks:,} chunks took {time.monotonic() - started:.0f} s")
        small = [
            Errand(site, seed, chunks=0),
            Errand(site, seed, chunks=1),
            Errand(site, seed, task=values, numbers=EMPTY, expected=EMPTY),
            Errand(site, seed, task=values, numbers=[], expected=[]),
        ]
        for errand in small:
            errand.launch().finish()
        items = ["a", "x" * 5000, "b"]
        giant = Errand(
            site, seed, task=values, numbers=items, expected=items, options={"max_item_bytes": 1000}
        ).launch()
        giant.finish()
        refused = giant.error is not None and giant.error.step == "setup" and "items[1]" in giant.error.reason
        giant.verdict.wrong = "" if refused else f"an item over the limit was not refused by name: {giant.error}"
        settled([many, *small, giant], row)
