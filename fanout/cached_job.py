"""A job as a process caches it: its records that never change, and how far this process has seen it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from storage import CountingStore, PackReader, ReferenceSource, Slice, decode

from .config.settings import Options
from .declaration.definition import Declaration, Registry
from .records.ledger import Ledger
from .records.models import Generation, Intent, Manifest
from .records.parameters import Parameters
from .records.run_stats import RunStats, StoreUsage, microseconds_since

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
        launched_at: Monotonic time at which this process launched the job; None if another process did.
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
        self.launched_at: float | None = None
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
        self.stored_us = microseconds_since(began)

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
