"""One schedule: a store, a broker, workers, sweepers and callers, all driven by one seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from fanout import Config
from fanout.background.debouncer import Debouncer
from fanout.engines.submission import Submission
from fanout.errors import BrokerUnavailable, JobFailed, JobNotFound, JobTimeout, RetryRefused, is_transient
from fanout.job import Job
from fanout.records.ids import new_id
from fanout.records.index import ALL_SWEPT_KEY, launch_entries, open_entries, write_entries
from fanout.records.keys import ResultKey, level_of
from fanout.records.ledger import Ledger, write_intent
from fanout.records.models import OutcomeStatus
from fanout.runtime import Runtime
from fanout.sweep import Move, sweep, sweep_job
from storage import StorageError

from .broker import Broker, Message, Worker, WorldDispatcher
from .engine import Engine
from .faults import Faults
from .invariants import Invariants, Violation
from .loop import EPOCH, Fiber, Killed, Loop, Process
from .shape import STALL_S, Shape
from .store import FaultyStore, TimedStore
from .task import SCRIPTS, TASKS, Script
from .threads import install

RESTARTS_S = 2.0
"""A dead process is replaced within this time."""

SUSPENDED_S = 6 * STALL_S
"""The longest suspension of a process."""

RETENTION_S = 100_000 * STALL_S


@dataclass(frozen=True, slots=True)
class Played:
    """The results of a schedule.

    Attributes:
        levels: Number of nodes of combined results by level.
        batches: Number of batches of several chunks that are `whole` or `shared`.
    """

    shape: Shape
    violation: Violation | None
    faults: Counter[str]
    faults_drawn: int
    outcomes: Counter[str]
    levels: Counter[int]
    batches: Counter[str]
    lasted_s: float
    trace: list[str]


def play(shape: Shape, *, traced: bool = False) -> Played:
    """Play one schedule. Equal shapes give equal results in each process."""
    return World(shape, traced=traced).play()


class World:
    """The parts of one schedule."""

    def __init__(self, shape: Shape, *, traced: bool = False) -> None:
        self.shape = shape
        self.rng = random.Random(f"schedule {shape.seed}")
        self.loop = Loop(self.rng, self._uncaught)
        self.faults = Faults(self.rng, shape.rates, skipped=frozenset(shape.skipped))
        self.invariants = Invariants(self)
        self.trace: list[str] = []
        self.job_ids: list[str] = []
        self.began_at = EPOCH
        self.faults_end_at = EPOCH + shape.faults_s
        self._traced = traced
        self._processes: list[Process] = []
        self._started_count = 0
        self._retriers = 0
        """Number of processes that may still retry a job."""
        self.generations: Counter[str] = Counter()
        """The latest generation of each job."""

    # Faults of processes

    def latency(self) -> float:
        return self.rng.random() * self.shape.latency_s

    def die(self) -> None:
        """Kill the current fiber's process."""
        process = self.loop.current().process
        self.invariants.on_interruption(process)
        process.dead = True
        self.loop.at(self.loop.now, lambda: self._replace_dead(process))
        raise Killed

    def suspend(self) -> None:
        """Suspend the current fiber's process for a time."""
        process = self.loop.current().process
        self.invariants.on_interruption(process)
        process.suspended_until = self.loop.now + self.rng.random() * SUSPENDED_S
        if self.rng.random() < 0.5:
            self.cut_off()
        self.loop.sleep(0)

    def cut_off(self) -> None:
        """Let the broker take the current fiber's worker for dead."""
        process = self.loop.current().process
        self.invariants.on_interruption(process)
        if isinstance(process, Worker):
            self.broker.return_message(process)

    def serve(self, worker: Worker, message: Message) -> None:
        """Let a worker serve a message."""
        worker.message, worker.sent, worker.taken_at = message, 0, self.loop.now
        worker.has_begun = worker.has_recorded_interruption = False
        worker.chunk = None
        worker.refusals = 0
        self.note("take", str(message), worker.name)
        self.invariants.on_take(worker, message)
        worker.served.add(message.job_id)
        worker.serving = self.loop.spawn(worker, self.engine.serve, worker, message)

    def note(self, event: str, subject: str = "", remark: str = "") -> None:
        """Add a line to the trace."""
        if not self._traced:
            return
        current = self.loop.current()
        process_name = current.process.name if isinstance(current, Fiber) else "-"
        for number, job_id in enumerate(self.job_ids):
            subject, remark = subject.replace(job_id, f"job{number}"), remark.replace(job_id, f"job{number}")
        self.trace.append(
            f"{self.loop.now - EPOCH:9.3f} {process_name:10} {event:9} {subject} {remark and f'  <- {remark}'}".rstrip()
        )

    def number(self, job_id: str) -> int:
        return self.job_ids.index(job_id)

    # The schedule

    def play(self) -> Played:
        """Play the schedule: first with faults, then without, until all jobs are delivered or the time limit."""
        width = self.shape.group_width
        with install(
            self.loop,
            GROUP_WIDTH=width,
            NEAR_END=1,
            SHARD_WIDTH=width,
            INDEXED_CHUNKS=width,
            SHARE_AFTER_S=self.shape.share_s,
            PART_S=2 * self.shape.share_s,
        ):
            self.objects = TimedStore(self)
            self.store = FaultyStore(self, self.objects)
            self.broker = Broker(self)
            self.engine = Engine(self)
            self._begin()
            try:
                self.loop.run(self._is_over)
                if self.invariants.violation is None:
                    self._end()
            finally:
                for process in self._processes:
                    self.loop.kill(process)
            nodes = (info.key for info in self.objects.list() if "/combined/" in info.key)
            levels = Counter(map(level_of, nodes))
            results = [ResultKey.read(info.key) for info in self.objects.list() if "/results/" in info.key]
            shared = {(key.index, key.count) for key in results if key.shared is not None}
            found = {(key.index, key.count) for key in results if key.count > 1 and key.shared is None}
            batches = Counter(whole=len(found - shared), shared=len(found & shared))
            outcomes = Counter(str(outcome.status) for job in self.job_ids if (outcome := self.latest(job).outcome()))
        SCRIPTS.clear()
        return Played(
            self.shape,
            self.invariants.violation,
            self.faults.injected,
            self.faults.drawn,
            outcomes,
            levels,
            batches,
            self.loop.now - EPOCH,
            self.trace,
        )

    def _begin(self) -> None:
        shape = self.shape
        self.loop.at(self.faults_end_at, self._stop_faults)
        # No sweep of all jobs is due, so that the others must find each job by its entry.
        write_entries(self.objects, [ALL_SWEPT_KEY])
        for number in range(shape.jobs):
            SCRIPTS[number] = Script(self, shape)
            self._launch(number)
        for _ in range(shape.workers):
            self._start_worker()
        for _ in range(shape.sweepers):
            self._start("sweeper", self._sweep)
        for job_id in self.job_ids:
            for _ in range(shape.callers):
                self._start("caller", partial(self._wait, job_id=job_id))
            if shape.retry_s is not None:
                self._retriers += 1
                self._start("retrier", partial(self._retry, job_id=job_id))
            if shape.cancel_s is not None:
                self._start("canceller", partial(self._cancel, job_id=job_id))
        if self.faults.occurs("queue purged"):
            self.faults.record("queue purged")
            self.loop.at(EPOCH + self.rng.random() * shape.faults_s, self._purge)

    def _launch(self, number: int) -> None:
        shape = self.shape
        config = Config(store=self.objects.url)
        submission = Submission.of(
            TASKS[shape.combines].declaration,
            {"number": number},
            store=self.objects,
            inline_bytes=config.inline_bytes,
            options={
                "chunk_items": shape.chunk_items,
                "max_attempts": shape.max_attempts,
                "deadline_s": shape.deadline_s,
                "tolerate": shape.tolerate,
            },
        )
        job_id = new_id()
        self.job_ids.append(job_id)
        expires_at = EPOCH + shape.expires_s if shape.expires_s is not None else None
        intent = submission.intent(
            launch="{}" if shape.launched else None, expires_at=expires_at, now=lambda: self.loop.now
        )
        write_entries(self.objects, launch_entries(job_id, intent.launch_id, intent.tags))
        write_intent(self.objects, job_id, intent)
        message = Message("setup", job_id, intent.launch_id, expires_at=expires_at, id=job_id)
        self._start("launcher", lambda runtime: self.broker.send(message), once=True)

    def _stop_faults(self) -> None:
        self.note("faults end")
        self.faults.over = True
        for process in self._processes:
            self.loop.resume(process)

    def _purge(self) -> None:
        self.note("purge", ", ".join(map(str, self.broker.waiting)))
        self.broker.purge()

    def _is_over(self) -> bool:
        if self.invariants.violation is not None:
            return True
        if self.loop.now > self._limit():
            return True
        return self._is_at_rest()

    def _limit(self) -> float:
        """Return the time by which each job must have ended. Intervals between resends double."""
        return self.faults_end_at + STALL_S * 2**10 + 100 * (self.faults_end_at - EPOCH)

    def _is_at_rest(self) -> bool:
        if self._retriers or len(self.broker.idle) < self.shape.workers or not self.broker.is_empty:
            return False
        return all(self.latest(job_id).keys.delivered in self.objects for job_id in self.job_ids)

    def _end(self) -> None:
        self.invariants.check()
        if self.invariants.violation is not None:
            return
        runtime = Runtime(self.objects, self._config(), WorldDispatcher(self))
        list(sweep(runtime))
        for entry in open_entries(self.objects):
            if entry.generation <= self.latest(entry.job_id).generation:
                self.invariants.violate("a delivered job leaves the index of open jobs", entry.key)
        for job_id in self.job_ids:
            if (move := sweep_job(runtime, job_id)) != Move.NONE:
                self.invariants.violate("a sweep does nothing for a delivered job", f"{job_id}: {move}")

    # Processes

    def _config(self) -> Config:
        return Config(
            store=self.objects.url, stall_s=STALL_S, retention_s=RETENTION_S, pack_bytes=32, upload_concurrency=2
        )

    def _runtime(self) -> Runtime:
        return Runtime(
            self.store,
            self._config(),
            WorldDispatcher(self),
            on_error=self._raised,
            is_stop=lambda error: isinstance(error, Killed),
            debouncer=Debouncer(),
        )

    def _raised(self, error: BaseException) -> None:
        process = self.loop.current().process
        self.note("raised", repr(error))
        assert isinstance(process, Worker)
        self.invariants.on_raise(process)

    def _start_worker(self) -> None:
        self._started_count += 1
        worker = Worker(f"worker{self._started_count}", self._runtime())
        worker.skew_s = self._skew()
        self._processes.append(worker)
        self.broker.offer(worker)

    def _start(self, name: str, body: Callable[[Runtime], object], *, once: bool = False) -> None:
        self._started_count += 1
        process = Process(f"{name}{self._started_count}")
        process.skew_s = self._skew()
        process.restart = None if once else lambda: self._start(name, body)
        self._processes.append(process)
        self.loop.spawn(process, self._live, body)

    def _skew(self) -> float:
        """Draw the seconds that a new process's clock is ahead of the store's."""
        skew_s = self.shape.skew_s
        return self.rng.uniform(-skew_s, skew_s) if skew_s else 0.0

    def _live(self, body: Callable[[Runtime], object]) -> None:
        with self._ignore_outages():
            body(self._runtime())

    def _replace_dead(self, process: Process) -> None:
        self.note("died", process.name)
        self.loop.kill(process)
        after_s = self.rng.random() * RESTARTS_S
        if isinstance(process, Worker):
            self.broker.return_message(process)
            self.loop.at(self.loop.now + after_s, self._start_worker)
        elif process.restart is not None:
            self.loop.at(self.loop.now + after_s, process.restart)

    def _sweep(self, runtime: Runtime) -> None:
        while True:
            # Without faults, sweep less and less often, because no fault can change a stuck job.
            quiet_s = max(STALL_S, (self.loop.now - self.faults_end_at) / 4)
            self.loop.sleep(quiet_s * self.rng.random())
            with self._ignore_outages():
                for job_id, move in sweep(runtime, everything=not self.faults.over and self.rng.random() < 0.2):
                    self.note("swept", job_id, move)

    def _wait(self, runtime: Runtime, job_id: str) -> None:
        """Wait for the job as a caller, and repeat after timeouts."""
        while True:
            with self._ignore_outages():
                try:
                    Job(job_id, runtime).get(timeout=5 * STALL_S)
                    ended = OutcomeStatus.SUCCEEDED
                except JobTimeout:
                    continue
                except JobFailed:
                    ended = OutcomeStatus.FAILED
                outcome = self.latest(job_id).outcome()
                if self.shape.retry_s is None and (
                    outcome is None or (outcome.status == OutcomeStatus.SUCCEEDED) != (ended == OutcomeStatus.SUCCEEDED)
                ):
                    self.invariants.violate("a caller receives the outcome", f"{job_id}: {ended} and not {outcome}")
                return

    def _retry(self, runtime: Runtime, job_id: str) -> None:
        """Retry the job if it has failed, or if items have failed."""
        assert self.shape.retry_s is not None
        while self.loop.now < self.faults_end_at:
            self.loop.sleep(self.shape.retry_s * self.rng.random())
            with self._ignore_outages():
                try:
                    job = Job(job_id, runtime)
                    if job.ready and Job(job_id, runtime).retry():
                        self.note("retried", job_id)
                except RetryRefused:
                    break
        self._retriers -= 1

    def _cancel(self, runtime: Runtime, job_id: str) -> None:
        assert self.shape.cancel_s is not None
        self.loop.sleep(self.shape.cancel_s)
        if Job(job_id, runtime).cancel():
            self.invariants.cancelled.add(job_id)

    @contextmanager
    def _ignore_outages(self) -> Iterator[None]:
        """Ignore a store or broker that does not respond. The caller acts again later."""
        try:
            yield
        except (StorageError, BrokerUnavailable, JobNotFound) as error:
            if not is_transient(error) and not isinstance(error, JobNotFound):
                raise
            self.note("outage", repr(error))

    def _uncaught(self, fiber: Fiber, error: BaseException) -> None:
        self.invariants.violate("a stage raises nothing but outages", f"{fiber.process.name}: {error!r}")
        if self._traced:
            import traceback

            self.trace += traceback.format_exception(error)

    def latest(self, job_id: str) -> Ledger:
        """Return the ledger of the job's latest generation."""
        return Ledger.of(self.objects, job_id, self.generations[job_id])

    def generation_of(self, process: Process) -> int:
        """Return the generation of a worker's current message."""
        assert isinstance(process, Worker)
        assert process.message is not None
        return process.message.generation
