"""The runtime of stages: a store, settings, a dispatcher for messages, and the cached jobs of a process."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from storage import CountingStore, ObjectStore, PackReader, ReferenceSource, Slice, decode

from .abc import CompletionListener, Dispatcher, PollingOnly
from .background.debouncer import Debouncer
from .background.early_requests import EarlyRequests
from .background.timers import Timers
from .clock import StoreClock
from .config.settings import Config, Options
from .declaration.definition import TASKS, Declaration, Registry
from .errors import JobNotFound, is_transient
from .external.access import Access
from .records.chunk_ref import ChunkRef
from .records.keys import JobKeys
from .records.ledger import Ledger, read_intent, write_intent
from .records.models import Generation, Intent, Manifest
from .records.parameters import Parameters
from .records.run_stats import RunStats, StoreUsage
from .removal import remove_job
from .telemetry import Telemetry, load_telemetry

T = TypeVar("T")

CACHED_JOBS = 8
"""Most jobs that a process caches, each with its intent and parameters."""

REMOVAL_CHECK_S = 60.0
"""Shortest time between two checks of a process whether a cached job was removed."""

ENDED_CHECK_S = 1.0
"""Shortest time between two checks of a worker whether a job has ended."""

MANIFEST_CHECK_S = 0.05
"""Shortest time between two checks of a worker whether setup has ended, if the worker may wait."""


class CachedJob:
    """A job in one of its generations, with the records cached that never change.

    Args:
        ledger: Its records.
        intent: Its intent.
        tasks: The declared tasks.
        start: The start of the generation; None for generation 0.
        counting: The store of the ledger, if it counts this process's requests for the job.

    Attributes:
        ledger: Its records.
        intent: Its intent.
        options: Its options in this generation.
        deadline_at: When this generation fails if it has not ended; None for never.
        expires_at: When the message of setup expires; None for never, and after a retry.
        parameters: Its parameters.
        cached_ended: Whether this process has seen that the job ended. Reading it makes no request.
        done: A chunk before which this process has seen every chunk of the manifest's setup done, in this generation.
        verified_at: Monotonic time at which this process last saw that the job was not removed.
        stored_us: Microseconds that this process's last write of a result took; None if there was none.
    """

    def __init__(
        self,
        ledger: Ledger,
        intent: Intent,
        tasks: Registry,
        start: Generation | None = None,
        counting: CountingStore | None = None,
    ) -> None:
        self.ledger = ledger
        self.intent = intent
        self._tasks = tasks
        self.options = Options().replace(intent.options if start is None else start.options)
        self.deadline_at = intent.deadline_at if start is None else start.deadline_at
        self.expires_at = intent.expires_at if start is None else None
        self.parameters = Parameters(intent.inline, dict(intent.references))
        self._packs = PackReader(ledger.store)
        self._parameter_values: dict[str, Any] = {}
        self._loaded: set[str] = set()
        """Names of parameters that were loaded, if the job has them."""
        self._manifest: Manifest | None = None
        self._manifest_checked_at = float("-inf")
        self.cached_ended = False
        self.done = 0
        self._ended_checked_at = float("-inf")
        self.verified_at = time.monotonic()
        self.stored_us: int | None = None
        self._counting = counting
        self._counted_since = time.time()
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """The job id."""
        return self.ledger.job_id

    @property
    def launch_id(self) -> str:
        """The id of the launch."""
        return self.ledger.launch_id

    @property
    def generation(self) -> int:
        """The generation."""
        return self.ledger.generation

    @property
    def declaration(self) -> Declaration:
        """The job's task.

        Raises:
            UnknownTask: This process has not declared it. A sweep and a cancellation do not need it.
        """
        return self._tasks.find(self.intent.task)

    def use(self, packs: PackReader) -> None:
        """Read items with a reader that may have a read under way."""
        self._packs = packs

    def parameter_values(self, names: Sequence[str], *, sources: list[ReferenceSource] | None = None) -> dict[str, Any]:
        """Return the values of those of `names` that the job has. Fetches each at most once.

        Args:
            names: Names of parameters.
            sources: A list that gets the parameters fetched now whose byte ranges a chunk may refer to; None for none.
        """
        with self._lock:
            missing = [name for name in names if name not in self._loaded]
            if missing:
                self._parameter_values |= self.parameters.load(missing, self.ledger.store, sources=sources)
                self._loaded.update(missing)
            return {name: self._parameter_values[name] for name in names if name in self._parameter_values}

    def items(self, setup_id: str, slice_: Slice) -> list[dict[str, Any]]:
        """Return the items of a chunk.

        One request, or none if it was read along with a chunk beside it. One more if it refers to a byte range of a
        parameter.

        Raises:
            ObjectNotFound: The pack is missing.
            CorruptObject: The pack or a parameter is damaged.
        """
        key = self.ledger.keys.pack(setup_id, slice_.pack)
        body = self._packs.read(key, slice_)
        items: list[dict[str, Any]] = decode(
            body, key=key, fetch_range=lambda reference: self.parameters.fetch_range(reference, self.ledger.store)
        )
        return items

    def stats(self, started_at: float, *, fetched_us: int = 0, took_us: Sequence[int] = ()) -> RunStats:
        """Return the cost of a run of this process that ends now; see `RunStats`. No request."""
        usage = None
        if (counting := self._counting) is not None:
            usage = StoreUsage(
                self._counted_since,
                **counting.requests,
                uploaded_bytes=counting.bytes_in,
                downloaded_bytes=counting.bytes_out,
            )
        return RunStats.since(started_at, fetched_us=fetched_us, stored_us=self.stored_us, usage=usage, took_us=took_us)

    @contextmanager
    def time_write(self) -> Iterator[None]:
        """Remember how long the write of a result within the block takes, for the stats of the next run."""
        began = time.monotonic()
        yield
        self.stored_us = int(1e6 * (time.monotonic() - began))

    def cached_manifest(self) -> Manifest | None:
        """Return the manifest if this process has seen it. No request."""
        return self._manifest

    def poll_manifest(self) -> Manifest | None:
        """Return the manifest if it existed at the last check. At most 20 requests per second."""
        now = time.monotonic()
        if self._manifest is None and now - self._manifest_checked_at >= MANIFEST_CHECK_S:
            self._manifest_checked_at = now
            return self.manifest()
        return self._manifest

    def manifest(self, read: Callable[[Ledger], Manifest | None] = lambda ledger: ledger.manifest()) -> Manifest | None:
        """Return the manifest if it exists. One request per call until it does, made by `read`."""
        if self._manifest is None:
            self._manifest = read(self.ledger)
        return self._manifest

    def write_manifest(self, manifest: Manifest) -> Manifest:
        """Write the manifest; cache and return the one that the store holds."""
        self._manifest = self.ledger.write_manifest(manifest)
        return self._manifest

    def has_ended(self) -> bool:
        """Return whether the job had an outcome at the last check. At most one request per second."""
        now = time.monotonic()
        if not self.cached_ended and now - self._ended_checked_at >= ENDED_CHECK_S:
            # After the request, so that the next call repeats one that failed.
            self.remember_ended(self.ledger.has_outcome(), asked_at=now)
        return self.cached_ended

    def remember_ended(self, ended: bool, *, asked_at: float) -> None:
        """Remember the answer to a request whether the job has an outcome, so that `has_ended` need not repeat it.

        Args:
            ended: The answer.
            asked_at: Monotonic time at which the request began.
        """
        self.cached_ended = self.cached_ended or ended
        self._ended_checked_at = max(self._ended_checked_at, asked_at)


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
        """Write a job's intent, and return the launch that counts, cached. One request."""
        counting = CountingStore(self.store)
        traced = replace(intent, trace=self.telemetry.current_trace(job_id))
        return self.open(job_id, write_intent(counting, job_id, traced), counting=counting)

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
