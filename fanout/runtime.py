"""The runtime of stages: a store, settings, a dispatcher for messages, and the cached jobs of a process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TypeVar

from storage import CountingStore, ObjectStore, PackReader

from .abc import CompletionListener, Dispatcher, PollingOnly
from .background.debouncer import Debouncer
from .background.early_requests import EarlyRequests
from .background.timers import Timers
from .cached_job import CachedJob
from .clock import StoreClock
from .config.settings import Config
from .declaration.definition import TASKS, Registry
from .errors import JobNotFound, is_transient
from .external.access import Access
from .records.chunk_ref import ChunkRef
from .records.index import delete_hints, launch_entries, write_entries
from .records.keys import JobKeys
from .records.ledger import Ledger, read_intent, write_intent
from .records.models import Intent
from .removal import remove_job
from .telemetry import Telemetry, load_telemetry

T = TypeVar("T")

CACHED_JOBS = 8
"""Most jobs that a process caches, each with its intent and parameters."""

REMOVAL_CHECK_S = 60.0
"""Shortest time between two checks of a process whether a cached job was removed."""

START_HINT = "see that the engine that launched it has free workers, and that they use the same store"
"""The remedy if no worker begins a job, where the engine has no commands for it."""


class Runtime:
    """A store, settings, a dispatcher, and the jobs that this process caches. Safe for threads.

    Args:
        store: The store of the jobs.
        config: Settings.
        dispatcher: Sends messages.
        tasks: The declared tasks.
        on_error: Called with each exception that a user's step raised, before it becomes a record.
        is_stop: Returns whether an exception tells this process to stop. Such an exception ends a stage, and is no
            failure of its step. Every other exception of a step is its failure, `SystemExit` included.
        on_removed: Called with the id of each job that this process removes, to delete what the engine keeps of it.
        listener: Returns, for a job id, the completion listener of a waiting caller.
        debouncer: Runs deferred work when this process is idle. Without it, work is not deferred.
        check_wait: Called with a job id before a caller waits. Raises where waiting is not allowed.
        access: The access of steps to external objects; if not given, that of a worker with these settings.
        telemetry: The observer of stages; if not given, that of this process.
        start_hint: The remedy if no worker begins a job, in words that follow "No worker has begun it: ".
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
        access: Access | None = None,
        telemetry: Telemetry | None = None,
        start_hint: str = START_HINT,
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
        self.access = access if access is not None else Access.of_worker(config)
        self.telemetry = telemetry if telemetry is not None else load_telemetry()
        self.start_hint = start_hint
        self.timers = Timers()
        self._early = EarlyRequests()
        self._clock = StoreClock(store)
        self._jobs: OrderedDict[tuple[str, str, int], CachedJob] = OrderedDict()
        self._early_counts: dict[tuple[str, str, int], CountingStore] = {}
        """Counts of requests for jobs that `job` has not returned yet; it takes them over."""
        self._lock = threading.Lock()

    def is_interruption(self, error: BaseException) -> bool:
        """Return whether an error interrupted a stage without being a failure of its step, so that it may run again."""
        return self._is_stop(error) or is_transient(error)

    def now(self) -> float:
        """Return the store's time, in seconds since the epoch; see `StoreClock.now`."""
        return self._clock.now()

    def ledger(self, job_id: str, generation: int = 0) -> Ledger:
        """Return the ledger of the launch that now counts for an id. One request; see `Ledger.of`."""
        return Ledger.of(self.store, job_id, generation)

    def job(self, job_id: str, launch_id: str | None = None, generation: int = 0) -> CachedJob:
        """Return one launch of a job, in one of its generations.

        Args:
            job_id: The job.
            launch_id: The launch, which may be cached: one request at first and once a minute, two for a generation
                after 0. None for the launch that counts now: one request each time.
            generation: The generation.

        Raises:
            JobNotFound: The store has no such job or generation, or the job id has been used again.
        """
        if launch_id is not None:
            key = (job_id, launch_id, generation)
            with self._lock:
                cached = self._jobs.get(key)
                if cached is not None and time.monotonic() - cached.verified_at < REMOVAL_CHECK_S:
                    self._jobs.move_to_end(key)
                    return cached
        counting = self._early_counts.pop((job_id, launch_id or "", generation), None) or CountingStore(self.store)
        intent = read_intent(counting, job_id)
        if launch_id not in (None, intent.launch_id):
            raise JobNotFound(job_id, self.store.url)
        return self.open(job_id, intent, generation, counting=counting)

    def cached(self, job_id: str, launch_id: str | None, generation: int = 0) -> CachedJob | None:
        """Return the job if it is cached, though it may have been removed. No request."""
        return self._jobs.get((job_id, launch_id or "", generation))

    def begin(
        self, read: Callable[[Ledger], T], job_id: str, launch_id: str | None, generation: int, *, early: bool = True
    ) -> Callable[[Ledger], T]:
        """Begin to read one of a job's records before `job` has returned the job; see `EarlyRequests`.

        Args:
            read: Makes the request.
            job_id: The job.
            launch_id: The launch; None for the one that counts now.
            generation: The generation.
            early: Whether the answer will be needed in any case.

        Returns:
            A function that returns the answer. It is `read` itself, which has not begun, if the answer may not be
            needed, if the launch is not known, or if the store is local: there a thread costs more than the request.
        """
        if not early or launch_id is None or self.store.is_local:
            return read
        counting = self._counting_for(job_id, launch_id, generation)
        answer = self._early.begin(partial(read, Ledger(counting, job_id, launch_id, generation)))
        return lambda ledger: answer()

    def begin_slice(self, ref: ChunkRef) -> PackReader:
        """Return a reader that has begun to read the slice of some chunks, unless it is large or the store is local."""
        packs = PackReader(self._counting_for(ref.job_id, ref.launch_id, ref.generation))
        if not self.store.is_local:
            keys = JobKeys(ref.job_id, ref.launch_id)
            packs.begin(keys.pack(ref.setup_id, ref.location.slice_.pack), ref.location.slice_, self._early.begin)
        return packs

    def _counting_for(self, job_id: str, launch_id: str, generation: int) -> ObjectStore:
        """Return the store that counts this process's requests for a job, also before the job is cached."""
        key = (job_id, launch_id, generation)
        cached = self._jobs.get(key)
        if cached is not None:
            return cached.ledger.store
        return self._early_counts.setdefault(key, CountingStore(self.store))

    def launch(self, job_id: str, intent: Intent) -> CachedJob:
        """Write a job's entries in the indexes, then its intent; return the launch that counts, cached.

        Two requests. One more for each tag, at once with the first. One more if the id had been launched before.
        """
        counting = CountingStore(self.store)
        entries = launch_entries(job_id, intent.launch_id, intent.tags)
        # Before the intent: no job is without an entry, whenever this process dies.
        write_entries(counting, entries)
        traced = replace(intent, trace=self.telemetry.current_trace(job_id))
        current = write_intent(counting, job_id, traced)
        if current.launch_id != intent.launch_id:
            delete_hints(counting, entries)
        job = self.open(job_id, current, counting=counting)
        job.launched_at = time.monotonic() if current.launch_id == intent.launch_id else None
        return job

    def remove(self, job_id: str, launch_id: str | None = None) -> int:
        """Delete a job from store, sinks and engine; see `removal.remove_job`."""
        removed = remove_job(self.store, job_id, launch_id, access=self.access)
        if removed:
            self._on_removed(job_id)
        return removed

    def open(
        self, job_id: str, intent: Intent, generation: int = 0, *, counting: CountingStore | None = None
    ) -> CachedJob:
        """Return the launch with an intent that was just read. No request; one for a generation after 0.

        Args:
            job_id: The job.
            intent: The intent.
            generation: The generation.
            counting: The store with which it was read, to count on from there; None to count from now on.
        """
        key = (job_id, intent.launch_id, generation)
        with self._lock:
            cached = self._jobs.get(key)
            if cached is not None:
                cached.verified_at = time.monotonic()
                return cached
        counting = counting or CountingStore(self.store)
        ledger = Ledger(counting, job_id, intent.launch_id, generation)
        job = CachedJob(ledger, intent, self.tasks, ledger.generation_start(), counting)
        with self._lock:
            current = self._jobs.setdefault(key, job)
            self._jobs.move_to_end(key)
            while len(self._jobs) > CACHED_JOBS:
                self._jobs.popitem(last=False)
        return current
