"""The invariants, checked while a schedule is played. `final_checks` has those of its end."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from fanout.cached_job import ENDED_CHECK_S
from fanout.records.index import OPEN_PREFIX, open_key
from fanout.records.keys import JOBS_PREFIX, JobKeys, launch_of, split_generation
from fanout.records.ledger import Ledger
from fanout.records.models import Outcome

from .broker import Message, Worker
from .final_checks import FinalChecks
from .loop import Fiber, Process
from .task import SCRIPTS

if TYPE_CHECKING:
    from .world import World

OVERWRITTEN = {"heartbeats", "attempts"}
"""Records that a job may overwrite. All others must stay as they were first written."""


INDEXED = re.compile(r"(?:_open|_ended/[^/]+|_tags/[^/]+)/([^/]+)/")
"""The beginning of the key of an entry of an index."""


class Violation(Exception):
    """The violation of an invariant.

    Attributes:
        invariant: The invariant, in a few words.
    """

    def __init__(self, invariant: str, details: str) -> None:
        self.invariant = invariant
        super().__init__(f"{invariant}: {details}")


def parse_job_id(key: str) -> str:
    """Return the id of the job that an object belongs to, also if it is an entry of an index."""
    indexed = INDEXED.match(key)
    if indexed is not None:
        return indexed[1]
    return key.removeprefix(JOBS_PREFIX).partition("/")[0]


class Invariants:
    """The observer of one schedule."""

    def __init__(self, world: World) -> None:
        self.violation: Violation | None = None
        self.deliveries: Counter[tuple[str, int]] = Counter()
        """Number of deliveries by job and generation."""
        self.failed_runs: Counter[tuple[str, ...]] = Counter()
        """Number of a step's runs that raised, or that may have died."""
        self.cancelled: set[str] = set()
        self._world = world
        self._interrupted: set[tuple[str, int]] = set()
        """Jobs and generations in which a worker was interrupted in a join."""
        self.unrecorded: Counter[tuple[str, ...]] = Counter()
        self._copies: Counter[tuple[str, ...]] = Counter()
        """Number of messages for a step, without redeliveries."""
        self._joining: defaultdict[tuple[str, int], set[Process]] = defaultdict(set)

    def violate(self, invariant: str, details: str) -> None:
        """Record a violation. Only the first one counts."""
        self._world.note("VIOLATION", invariant, details)
        if self.violation is None:
            self.violation = Violation(invariant, details)

    # While a schedule is played

    def on_request(self, process: Process, verb: str, key: str) -> None:
        """Handle a storage request of a process."""
        if not verb.startswith("put") and verb != "delete":
            return
        if isinstance(process, Worker) and process.message is not None:
            if parse_job_id(key) not in process.served:
                self.violate("a worker writes nothing of another job", f"{verb} {key} for {process.message.job_id}")
            kind = split_generation(launch_of(key)[1])[1].partition("/")[0]
            process.has_begun |= kind in ("attempts", "claims") and key not in self._world.objects

    def on_write(self, key: str, before: bytes | None, after: bytes) -> None:
        """Handle the write of an object."""
        job_id = parse_job_id(key)
        number, name = split_generation(launch_of(key)[1])
        kind = name.partition("/")[0]
        overwritten = kind in OVERWRITTEN or ".shared-" in key
        if before is not None and before != after and not overwritten:
            self.violate("a record that is written once stays unchanged", key)
        if kind == "start":
            self._world.generations[job_id] = max(self._world.generations[job_id], number)
            if open_key(job_id, launch_of(key)[0], number) not in self._world.objects:
                self.violate("an open job is in the index of open jobs", f"{key} begins without an entry")
        fiber = self._world.loop.current()
        if key.endswith(".interrupted") and isinstance(fiber, Fiber) and isinstance(fiber.process, Worker):
            fiber.process.has_recorded_interruption = True

    def on_delete(self, key: str) -> None:
        """Handle the deletion of an object."""
        if not key.startswith(OPEN_PREFIX):
            return
        job_id, launch_id, generation = key.removeprefix(OPEN_PREFIX).split("/")
        is_latest = int(generation) == self._world.generations[job_id]
        if is_latest and JobKeys(job_id, launch_id, int(generation)).delivered not in self._world.objects:
            self.violate("an open job is in the index of open jobs", f"{key} is deleted before the delivery")

    def on_take(self, worker: Worker, message: Message) -> None:
        """Handle the start of a worker on a message."""
        self._count(self.unrecorded, message, message.leaves_no_record)

    def on_interruption(self, process: Process) -> None:
        """Handle the death of a process, or a moment at which other processes may take it for dead."""
        if isinstance(process, Worker) and process.message is not None:
            self._count(self.failed_runs, process.message)
            # A run that is recorded as interrupted is no attempt, even if its worker died before the requeue.
            self._count(self.unrecorded, process.message, process.has_recorded_interruption)
            if process.message.step == "join":
                self._interrupted.add((process.message.job_id, process.message.generation))

    def on_post(self, message: Message, copies: int) -> None:
        """Handle a message that the broker takes, with that number of copies."""
        # A deferred message replaces itself.
        self._count(self._copies, message, copies - (message.retries > 0))

    def on_refusal(self, process: Process) -> None:
        """Handle a storage request without a response."""
        if isinstance(process, Worker):
            process.refusals += 1

    def on_reschedule(self, worker: Worker, message: Message) -> None:
        """Handle a run that a storage failure interrupted.

        If the record of the interruption failed, too, a run that had begun looks like a death.
        """
        self._count(self.unrecorded, message, worker.has_recorded_interruption)
        unrecorded = worker.has_begun and worker.refusals > 1 and not worker.has_recorded_interruption
        self._count(self.failed_runs, message, unrecorded)

    def on_requeue(self, worker: Worker, message: Message) -> None:
        """Handle a worker that requeues its message because the broker refused a message of the stage."""
        self._count(self.unrecorded, message)
        # The broker redelivers the message as if its worker had died.
        # An attempt that a copy of the message began looks like one of this message.
        unrecorded = worker.refusals > 0 and not worker.has_recorded_interruption
        copied = self._copies[message.works[0]] > 1
        self._count(self.failed_runs, message, message.step == "setup" and (unrecorded or copied))

    def on_raise(self, worker: Worker) -> None:
        """Handle an exception of a step."""
        assert worker.message is not None
        ref = worker.message.ref
        if ref is not None and worker.chunk is not None and worker.chunk in ref.chunks:
            self.failed_runs[worker.message.works[worker.chunk - ref.chunk]] += 1
        else:
            self._count(self.failed_runs, worker.message)

    @staticmethod
    def _count(counter: Counter[tuple[str, ...]], message: Message, number: int = 1) -> None:
        """Add a number to the count of each step that a message is for."""
        for work in message.works:
            counter[work] += number

    def on_send(self, process: Process, message: Message) -> None:
        """Handle a message that a stage sends."""
        if not isinstance(process, Worker) or process.message is None:
            return
        if self._world.loop.current() is not process.serving:
            if message.step != "join" and not process.message.is_batch:
                self.violate("deferred work sends joins at most", str(message))
            return
        process.sent += 1
        script = SCRIPTS[self._world.number(message.job_id)]
        # Setup may send its own chunks, and then those of the setup that finished first.
        ref = process.message.ref
        chunks = ref.count if ref is not None else 0
        limits = {"setup": 2 * script.count(script.runs["setup"]) + 2, "process": chunks + (chunks > 1), "join": 0}
        if process.sent > limits[process.message.step]:
            self.violate("a message causes few others", f"{process.message} sent {process.sent}, the last {message}")

    def on_process(self, process: Process, chunk: int) -> None:
        """Handle the start of process on an item of a chunk."""
        assert isinstance(process, Worker)
        process.chunk = chunk
        assert process.message is not None
        message = process.message
        ended_at = self._world.objects.written_at(
            Ledger.of(self._world.objects, message.job_id, message.generation).keys.outcome
        )
        if ended_at is not None and ended_at < process.taken_at - ENDED_CHECK_S:
            self.violate("no worker begins a chunk of a job that has ended", str(process.message))

    def on_join(self, process: Process) -> None:
        """Handle the start of join."""
        assert isinstance(process, Worker)
        assert process.message is not None
        job = (process.message.job_id, process.message.generation)
        others = {other for other in self._joining[job] if not other.dead}
        if others and job not in self._interrupted:
            self.violate("join runs once at a time", f"{job} on {process.name} while on {others}")
        self._joining[job].add(process)

    def on_combined_join(self, values: int) -> None:
        """Handle the number of combined values that join receives."""
        if values > self._world.shape.group_width:
            self.violate("join receives few combined values", str(values))

    def on_done(self, worker: Worker, message: Message) -> None:
        """Handle the end of a worker's work on a message."""
        self._joining[message.job_id, message.generation].discard(worker)

    def on_delivery(self, worker: Worker, message: Message, outcome: Outcome) -> None:
        """Handle the delivery of an outcome to callbacks."""
        job_id, job = message.job_id, (message.job_id, message.generation)
        self.deliveries[job] += 1
        self._world.note("delivered", job_id, outcome.status)
        completion = Ledger.of(self._world.objects, *job).outcome()
        if completion is None or completion.to_bytes() != outcome.to_bytes():
            self.violate("the delivered outcome is the recorded one", f"{job_id}: {outcome} and not {completion}")
        if self.deliveries[job] > 1 and job not in self._interrupted:
            self.violate("callbacks fire once while no worker is lost", str(job))
        if message.continuation is None and self._world.shape.launched and self._world.shape.expires_s is None:
            self.violate("the callbacks of the join receive the outcome", job_id)

    def check(self) -> None:
        """Check the invariants of the end."""
        FinalChecks(self._world, self).check()
