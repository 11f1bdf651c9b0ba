"""Objects that are not what was written, or not there any more.

No workers: the stages run here, over the real store, so that an object can be damaged between two of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from fanout.engines.submission import Submission
from fanout.records.failure import Failure
from fanout.records.keys import INDEXED_CHUNKS, new_id
from fanout.records.models import OutcomeStatus
from fanout.runtime import Runtime
from fanout.sweep import sweep_job
from tests.unit.dispatcher import RecordingDispatcher

from .. import app as tasks
from ..errand import Verdict
from ..fault import Fault, Plan, Row, in_lanes
from ..site import Site

CHUNKS = 3
MANY = INDEXED_CHUNKS + 5
"""Chunks of a job that has an index; a smaller one has it in its manifest."""

KINDS = ("pack", "index", "result")
WAYS = ("flipped", "deleted")


class Bench:
    """A job whose messages are kept here."""

    def __init__(self, site: Site, seeded: random.Random, chunks: int) -> None:
        self.site = site
        self.seeded = seeded
        self.dispatcher = RecordingDispatcher()
        self.runtime = Runtime(site.runtime.store, site.runtime.config, self.dispatcher)
        self.job_id = new_id()
        self.numbers = self.seeded.sample(range(1000), chunks)

    def set_up(self) -> str:
        """Run setup; returns the attempt."""
        trace = str(self.site.traces / self.job_id)
        store, inline_bytes = self.runtime.store, self.runtime.config.inline_bytes
        values = {"numbers": self.numbers, "trace": trace}
        declared = tasks.TallyTask.declaration
        order = Submission.of(declared, values, store=store, inline_bytes=inline_bytes, options={"max_attempts": 2})
        job = self.runtime.launch(self.job_id, order.intent())
        self.ledger = job.ledger
        self.dispatcher.send_setup(self.job_id, job.intent)
        self.dispatcher.deliver(self.runtime)
        manifest = self.ledger.manifest()
        assert manifest is not None
        return manifest.setup_id

    def process(self) -> None:
        """Run all chunks, but not the join."""
        self.dispatcher.drain(self.runtime, until=lambda: bool(self.dispatcher.joins))

    def sweep(self) -> None:
        """Sweep, as if the job had been quiet for long."""
        impatient = replace(self.runtime.config, stall_s=1e-9)
        sweep_job(Runtime(self.runtime.store, impatient, self.dispatcher), self.job_id)

    def damage(self, key: str, way: str) -> None:
        """Flip one bit of an object, or delete it."""
        store = self.runtime.store
        if way == "deleted":
            store.delete([key])
            return
        body = bytearray(store.get(key))
        bit = self.seeded.randrange(8 * len(body))
        body[bit // 8] ^= 1 << bit % 8
        store.put(key, body)


class Damage(Fault):
    """A trial is one job with one damaged object; consecutive seeds take turns in what is damaged, and how."""

    name = "damage"
    title = (
        "One bit flipped in a pack, an index or a result, or the object deleted (stages run here, on the real store)"
    )
    gate = "300: all detected, the key named, or the result made again"
    full = 300
    quick = 12

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        again = 0
        for verdict, remade in in_lanes(lambda seed: self._trial(site, seed), plan.seeds, lanes=2):
            row.add(verdict)
            again += remade
        row.notes.append(
            f"{row.trials - row.wrong - again} × the error named the key, {again} × a deleted result was made again"
        )

    def _trial(self, site: Site, seed: int) -> tuple[Verdict, bool]:
        verdict = Verdict(seed)
        kind, way = KINDS[seed % 3], WAYS[seed // 3 % 2]
        bench = Bench(site, self.random(seed), MANY if kind == "index" else CHUNKS)
        setup_id = bench.set_up()
        chunk = bench.seeded.randrange(CHUNKS)
        keys = bench.ledger.keys
        key = {
            "pack": keys.pack(setup_id, 0),
            "index": keys.index(setup_id, 0),
            "result": keys.result(setup_id, chunk),
        }[kind]
        {"pack": self._pack, "index": self._index, "result": self._result}[kind](bench, lambda: bench.damage(key, way))
        outcome = bench.ledger.outcome()
        failure = Failure.read(outcome.failure) if outcome is not None else None
        if outcome is None:
            verdict.hung = True
        elif outcome.status == OutcomeStatus.SUCCEEDED:
            remade = (kind, way) == ("result", "deleted")
            right = bench.ledger.value(outcome) == tasks.answer_of(bench.numbers)
            if not (remade and right):
                verdict.wrong = f"{key} was {way}, and nobody noticed"
            return verdict, remade and right
        elif failure is None or key not in failure.reason:
            verdict.wrong = f"{key} was {way}, but the error does not name it: {failure and failure.reason}"
        return verdict, False

    def _pack(self, bench: Bench, damage: Callable[[], None]) -> None:
        damage()
        bench.dispatcher.drain(bench.runtime)

    def _index(self, bench: Bench, damage: Callable[[], None]) -> None:
        # The index is read when messages are lost: by the sweep that sends them again.
        bench.dispatcher.lose()
        damage()
        bench.sweep()
        bench.dispatcher.drain(bench.runtime)

    def _result(self, bench: Bench, damage: Callable[[], None]) -> None:
        bench.process()
        damage()
        bench.dispatcher.drain(bench.runtime)
        if bench.ledger.outcome() is None:
            # The join found the chunk missing, and left the job to a sweep.
            bench.sweep()
            bench.dispatcher.drain(bench.runtime)
