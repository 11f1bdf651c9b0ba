"""Damaged and deleted objects.

No workers run. The stages run in this process on the real store, so that a trial can damage an object between two.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from fanout.engines.stub import StubDispatcher
from fanout.engines.submission import Submission
from fanout.records.failure import Failure
from fanout.records.ids import new_id
from fanout.records.keys import INDEXED_CHUNKS
from fanout.records.models import OutcomeStatus
from fanout.runtime import Runtime
from fanout.sweep import sweep_job
from storage import open_store

from .. import app as tasks
from ..fault import Fault, Plan, Row, run_concurrently
from ..site import Site
from ..trial_job import TrialResult

CHUNKS = 3
MANY = INDEXED_CHUNKS + 5
"""Chunks of a job with index objects. The manifest of a smaller job holds the index."""

KINDS = ("pack", "index", "result")
WAYS = ("flipped", "deleted")


class InProcessJob:
    """A job whose stages run in this process, with a dispatcher that records its messages."""

    def __init__(self, site: Site, seeded: random.Random, chunks: int) -> None:
        self.site = site
        self.seeded = seeded
        self.dispatcher = StubDispatcher(batch_chunks=1)
        self.runtime = Runtime(site.runtime.store, site.runtime.config, self.dispatcher)
        self.job_id = new_id()
        self.numbers = self.seeded.sample(range(1000), chunks)

    def set_up(self) -> str:
        """Run setup and return the setup id."""
        trace = str(self.site.traces / self.job_id)
        store, inline_bytes = self.runtime.store, self.runtime.config.inline_bytes
        values = {"numbers": self.numbers, "trace": trace}
        declared = tasks.SquaresTask.declaration
        submission = Submission.of(
            declared, values, store=store, inline_bytes=inline_bytes, options={"max_attempts": 2}
        )
        launched = self.runtime.launch(self.job_id, submission.intent())
        self.ledger = launched.ledger
        self.dispatcher.send_setup(self.job_id, launched.intent)
        self.dispatcher.deliver(self.runtime)
        manifest = self.ledger.manifest()
        assert manifest is not None
        return manifest.setup_id

    def process(self) -> None:
        """Run all chunks, without the join."""
        self.dispatcher.drain(self.runtime, until=lambda: bool(self.dispatcher.joins))

    def sweep(self) -> None:
        """Sweep as if the job had stalled."""
        config = replace(self.runtime.config, stall_s=1e-9)
        sweep_job(Runtime(self.runtime.store, config, self.dispatcher), self.job_id)

    def damage(self, key: str, way: str) -> None:
        """Flip one bit of an object as it is stored, or delete it."""
        store = open_store(self.runtime.store.url)
        if way == "deleted":
            store.delete([key])
            return
        body = bytearray(store.get(key))
        bit = self.seeded.randrange(8 * len(body))
        body[bit // 8] ^= 1 << bit % 8
        store.put(key, body)


class Damage(Fault):
    """One damaged object per job. Kind of object and way of damage follow from the seed."""

    name = "damage"
    title = (
        "One bit flipped in a pack, an index or a result, or the object deleted (stages run here, on the real store)"
    )
    gate = "300: all detected, the key named, or the result made again"
    full = 300
    quick = 12

    def run(self, site: Site, plan: Plan, row: Row) -> None:
        total_remade = 0
        for result, remade in run_concurrently(lambda seed: self._trial(site, seed), plan.seeds, concurrency=2):
            row.add(result)
            total_remade += remade
        row.notes.append(
            f"{row.trials - row.wrong - total_remade} × the error named the key, "
            f"{total_remade} × a deleted result was made again"
        )

    def _trial(self, site: Site, seed: int) -> tuple[TrialResult, bool]:
        result = TrialResult(seed)
        kind, way = KINDS[seed % 3], WAYS[seed // 3 % 2]
        job = InProcessJob(site, self.random(seed), MANY if kind == "index" else CHUNKS)
        setup_id = job.set_up()
        chunk = job.seeded.randrange(CHUNKS)
        keys = job.ledger.keys
        key = {
            "pack": keys.pack(setup_id, 0),
            "index": keys.index(setup_id, 0),
            "result": keys.result(setup_id, chunk),
        }[kind]
        {"pack": self._pack, "index": self._index, "result": self._result}[kind](job, lambda: job.damage(key, way))
        outcome = job.ledger.outcome()
        failure = Failure.read(outcome.failure) if outcome is not None else None
        if outcome is None:
            result.hung = True
        elif outcome.status == OutcomeStatus.SUCCEEDED:
            remade = (kind, way) == ("result", "deleted")
            right = job.ledger.value(outcome) == tasks.expected_answer(job.numbers)
            if not (remade and right):
                result.wrong = f"{key} was {way}, and the damage was not noticed"
            return result, remade and right
        elif failure is None or key not in failure.reason:
            result.wrong = f"{key} was {way}, but the error does not name it: {failure and failure.reason}"
        return result, False

    def _pack(self, job: InProcessJob, damage: Callable[[], None]) -> None:
        damage()
        job.dispatcher.drain(job.runtime)

    def _index(self, job: InProcessJob, damage: Callable[[], None]) -> None:
        # Only a sweep that resends lost messages reads the index.
        job.dispatcher.lose()
        damage()
        job.sweep()
        job.dispatcher.drain(job.runtime)

    def _result(self, job: InProcessJob, damage: Callable[[], None]) -> None:
        job.process()
        damage()
        job.dispatcher.drain(job.runtime)
        if job.ledger.outcome() is None:
            # The join found the result missing and left the job to a sweep.
            job.sweep()
            job.dispatcher.drain(job.runtime)
