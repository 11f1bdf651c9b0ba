"""What a stage works with: a store, settings, and a carrier to send what comes next."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

from storage import ObjectStore, PackReader, ReferenceSource, Slice, decode

from .background.debouncer import Debouncer
from .background.timers import Timers
from .blame import is_transient
from .clock import StoreClock
from .config.settings import Config, Options
from .declaration.definition import TASKS, Declaration, Registry
from .errors import JobNotFound
from .records.chunk_ref import ChunkRef
from .records.ledger import Ledger, read_intent, write_intent
from .records.models import Generation, Intent, Manifest
from .records.parameters import Parameters
from .removal import remove_job

CACHED_JOBS = 8
"""Jobs whose intent and parameters a worker process keeps at hand."""

RENEWED_S = 60.0
"""A process looks at most this often whether a job that it has at hand was removed."""

ENDED_CHECK_S = 1.0
"""A worker looks at most this often whether a job has ended."""

MANIFEST_CHECK_S = 0.05
"""A worker that has the choice looks at most this often whether setup has ended."""


class Dispatcher(Protocol):
    """Takes messages to whoever runs the next step. What an engine has to provide.

    Each method may be called again with the same arguments after a crash; the receivers are idempotent. Each raises
    CarrierUnavailable if the message can't be sent.
    """

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        """Have setup run, again.

        Args:
            job_id: The job.
            intent: What it is to be.
            generation: The job's round; the receiver must be told.
            resent: Whether an earlier message was taken up; the receiver must be told.
        """

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Have process run on these chunks. Returns once they are safely on their way.

        Args:
            intent: What their job is to be.
            refs: The chunks.
        """

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Have join run, or only deliver an outcome that stands already.

        Args:
            job_id: The job.
            intent: What it is to be; the receiver must be told which launch it is.
            continuation: What setup wrote down for after the join, if it did.
            resent: Whether an earlier join is believed to be lost, so that its claim does not count.
            generation: The job's round; the receiver must be told.
        """


class CompletionListener(Protocol):
    """Tells who waits for a job that it may have ended.

    Attributes:
        notifies: Whether it tells at all, so that the store need not be asked often.
    """

    notifies: bool

    def wait(self, timeout_s: float) -> None:
        """Return when the job may have ended, at the latest after `timeout_s`."""


class PollingOnly:
    """The bell of an engine that has none: nothing but time passes."""

    notifies = False

    def wait(self, timeout_s: float) -> None:
        """Sleep."""
        time.sleep(timeout_s)


class CachedJob:
    """A job that this process works on, in one of its rounds: its records, with what never changes kept at hand.

    Attributes:
        options: How it is cut and tried, in this round.
        deadline_at: When this round fails if it has not ended; None for never.
        expires_at: When it no longer makes sense to start; None for never, and in a round that somebody asked for.
    """

    def __init__(self, ledger: Ledger, intent: Intent, tasks: Registry, start: Generation | None = None) -> None:
        self.ledger = ledger
        self.intent = intent
        self._tasks = tasks
        self.options = Options().updated(intent.options if start is None else start.options)
        self.deadline_at = intent.deadline_at if start is None else start.deadline_at
        self.expires_at = intent.expires_at if start is None else None
        self.parameters = Parameters(intent.inline, dict(intent.references))
        self._packs = PackReader(ledger.store)
        self._parameter_values: dict[str, Any] = {}
        self._manifest: Manifest | None = None
        self._asked_at = float("-inf")
        self.cached_ended = False
        """Whether this process knows that the job has ended; costs nothing to ask."""
        self._looked_at = float("-inf")
        self.renewed_at = time.monotonic()
        """When this process last saw that the job is still this one."""
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        return self.ledger.job_id

    @property
    def launch_id(self) -> str:
        return self.ledger.launch_id

    @property
    def generation(self) -> int:
        return self.ledger.generation

    @property
    def declaration(self) -> Declaration:
        """The job's task.

        Raises:
            UnknownTask: It is not declared in this process. A sweep or a cancellation does without.
        """
        return self._tasks.find(self.intent.task)

    def parameter_values(self, names: Sequence[str], *, sources: list[ReferenceSource] | None = None) -> dict[str, Any]:
        """The job's values for those of `names` that it has; fetched at most once.

        Args:
            names: What is wanted.
            sources: Is given those that were fetched now and whose elements a chunk may borrow.
        """
        with self._lock:
            missing = [name for name in names if name not in self._parameter_values]
            self._parameter_values |= self.parameters.load(missing, self.ledger.store, sources=sources)
            return {name: self._parameter_values[name] for name in names if name in self._parameter_values}

    def items(self, setup_id: str, slice_: Slice) -> list[dict[str, Any]]:
        """The items of a chunk. One request, or none where a neighbour was asked for before; one more if it borrows.

        Raises:
            ObjectNotFound: What holds them is missing.
            CorruptObject: It is damaged.
        """
        key = self.ledger.keys.pack(setup_id, slice_.pack)
        body = self._packs.read(key, slice_)
        items: list[dict[str, Any]] = decode(
            body, key=key, fetch_range=lambda reference: self.parameters.fetch_range(reference, self.ledger.store)
        )
        return items

    def cached_manifest(self) -> Manifest | None:
        """The manifest if this process has seen it. No request."""
        return self._manifest

    def recent_manifest(self) -> Manifest | None:
        """The manifest, if there was one when this process last looked: at most 20 requests a second."""
        now = time.monotonic()
        if self._manifest is None and now - self._asked_at >= MANIFEST_CHECK_S:
            self._asked_at = now
            return self.manifest()
        return self._manifest

    def manifest(self) -> Manifest | None:
        """The manifest, if there is one by now. One request until there is."""
        if self._manifest is None:
            self._manifest = self.ledger.manifest()
        return self._manifest

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Write the manifest, and know from now on the one that stands."""
        self._manifest = self.ledger.write_manifest(manifest)
        return self._manifest

    def ended(self) -> bool:
        """Whether the job has an outcome, as of the last look: at most one request a second."""
        now = time.monotonic()
        if not self.cached_ended and now - self._looked_at >= ENDED_CHECK_S:
            self.cached_ended = self.ledger.has_outcome()
            # Only now: a store that did not answer is asked again.
            self._looked_at = now
        return self.cached_ended


class Runtime:
    """A store, settings and a carrier, and the jobs that this process has at hand. Safe for threads.

    Args:
        store: Where the jobs lie.
        config: Settings.
        dispatcher: Sends what comes next.
        tasks: The declared tasks.
        on_error: Called with each exception that a user's step raised, before it becomes a record.
        is_stop: Whether an exception tells this process to stop, wherever it is: it ends a stage, and says nothing of
            the step. Whatever else a step raises, a `SystemExit` of its own included, is its failure.
        on_removed: Called with the id of each job that this process removes, for what the engine keeps of it.
        listener: Gives, for a job's id, what its caller may wait by between two looks at the store.
        debouncer: Does what can wait until this process has nothing better to do; without it, nothing waits.
        check_wait: Called with a job's id before its caller waits; raises where that is not allowed.
    """

    def __init__(
        self,
        store: ObjectStore,
        config: Config,
        dispatcher: Dispatcher,
        *,
        tasks: Registry = TASKS,
        on_error: Callable[[BaseException], None] | None = None,
        is_stop: Callable[[BaseException], bool] = lambda error: isinstance(error, KeyboardInterrupt),
        on_removed: Callable[[str], None] | None = None,
        listener: Callable[[str], AbstractContextManager[CompletionListener]] | None = None,
        debouncer: Debouncer | None = None,
        check_wait: Callable[[str], None] | None = None,
    ) -> None:
        self.store = store
        self.config = config
        self.dispatcher = dispatcher
        self.tasks = tasks
        self.on_error = on_error or (lambda error: None)
        self._is_stop = is_stop
        self._on_removed = on_removed or (lambda job_id: None)
        self.listener = listener or (lambda job_id: nullcontext(PollingOnly()))
        self.debouncer = debouncer
        self.check_wait = check_wait or (lambda job_id: None)
        self.timers = Timers()
        self._clock = StoreClock(store)
        self._jobs: OrderedDict[tuple[str, str, int], CachedJob] = OrderedDict()
        self._lock = threading.Lock()

    def passes(self, error: BaseException) -> bool:
        """Whether an error that ended a stage says nothing of the step, so that the stage may run again as it is."""
        return self._is_stop(error) or is_transient(error)

    def now(self) -> float:
        """The store's time, in seconds since the epoch: what all times in records are; see `StoreClock.now`."""
        return self._clock.now()

    def ledger(self, job_id: str, generation: int = 0) -> Ledger:
        """The records of the launch that counts for that id now. One request; see `Ledger.of`."""
        return Ledger.of(self.store, job_id, generation)

    def job(self, job_id: str, launch_id: str | None = None, generation: int = 0) -> CachedJob:
        """One launch of a job, in one of its rounds.

        Args:
            job_id: The job.
            launch_id: The launch that is meant. It is kept at hand: one request the first time and once a minute, two
                for a later round. None for the one that counts now: one request each time.
            generation: The round.

        Raises:
            JobNotFound: The store has no such job, it has no such round, or its id has been used again.
        """
        if launch_id is not None:
            known = (job_id, launch_id, generation)
            with self._lock:
                found = self._jobs.get(known)
                if found is not None and time.monotonic() - found.renewed_at < RENEWED_S:
                    self._jobs.move_to_end(known)
                    return found
        intent = read_intent(self.store, job_id)
        if launch_id not in (None, intent.launch_id):
            raise JobNotFound(job_id, self.store.url)
        return self.open(job_id, intent, generation)

    def launch(self, job_id: str, intent: Intent) -> CachedJob:
        """Write a job's intent. One request; the launch that counts is then at hand."""
        return self.open(job_id, write_intent(self.store, job_id, intent))

    def remove(self, job_id: str, launch_id: str | None = None) -> int:
        """Delete everything that the store, and the engine, hold of a job; see `removal.remove_job`."""
        removed = remove_job(self.store, job_id, launch_id)
        if removed:
            self._on_removed(job_id)
        return removed

    def open(self, job_id: str, intent: Intent, generation: int = 0) -> CachedJob:
        """The launch of that id whose intent is known. No request; one for a later round."""
        known = (job_id, intent.launch_id, generation)
        with self._lock:
            found = self._jobs.get(known)
            if found is not None:
                found.renewed_at = time.monotonic()
                return found
        ledger = Ledger(self.store, job_id, intent.launch_id, generation)
        opened = CachedJob(ledger, intent, self.tasks, ledger.generation_start())
        with self._lock:
            current = self._jobs.setdefault(known, opened)
            self._jobs.move_to_end(known)
            while len(self._jobs) > CACHED_JOBS:
                self._jobs.popitem(last=False)
        return current
