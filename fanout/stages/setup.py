"""Setup: runs the user's setup and streams what it yields into packs, sending each chunk's handle as it lands."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, nullcontext
from typing import Any

from storage import PackWriter, ReferenceSource, SequenceEncoder, Slice

from ..errors import InvalidItem, JobNotFound
from ..records.chunk_ref import ChunkLocation, ChunkRef
from ..records.failure import Failure
from ..records.keys import INDEXED_CHUNKS, SHARD_WIDTH, new_token
from ..records.models import IndexShard, Manifest, OutcomeStatus
from ..records.run_stats import RunStats
from ..runtime import CachedJob, Runtime
from .attempts import Admission, Attempts, overran
from .barrier import completion_of
from .chunking import chunk_sizes
from .delivery import FIRST, Delivery
from .heartbeat import Heartbeat
from .outcome import conclude, fail_if_overdue, fail_if_too_many_failed, start_join
from .resend import send_again

_LOG = logging.getLogger("fanout")

FIRST_PART = 8
"""Part of a pack's size that the first pack has: the sooner it is full, the sooner the workers begin."""

LINGER_S = 0.2
"""Longest time that a finished chunk waits for its pack to fill, while setup yields slowly."""


def run_setup(
    runtime: Runtime,
    job_id: str,
    *,
    launch_id: str | None = None,
    caller_parameters: Mapping[str, Any] | None = None,
    fresh: bool = False,
    generation: int = 0,
    delivery: Delivery = FIRST,
) -> None:
    """Run setup; afterwards every chunk is in the store and its handle is on its way.

    A setup that finds a manifest adopts it, and if an earlier run may have died sends again the chunks that have
    no result; one that finds an outcome has it delivered. If the user's setup raises, the
    job ends with that failure. Memory: see `Config.pack_bytes`, plus what the user's setup holds.

    Args:
        runtime: Store, settings, carrier.
        job_id: The job; its intent must be in the store.
        launch_id: Which launch of that id is meant; None for the one that counts.
        caller_parameters: Parameters that only this process has, by name, if setup runs where the job was submitted.
        fresh: Whether this process has just made the job, so that it need not look how far that is.
        redelivered: Whether the broker has delivered the message before.
        retried: Whether an earlier run for this message ended without being to blame.
        resent: Whether a sweep sent the message, on the suspicion that a worker which had begun is gone.
        generation: The job's round.
        overran_s: The time limit at which an earlier run for this message was stopped, if one was.

    Raises:
        StorageError: The store does not answer; running setup again, `retried`, is safe.
        BrokerUnavailable: The broker does not take the handles; running setup again is safe.
    """
    try:
        job = runtime.job(job_id, launch_id, generation)
    except JobNotFound:
        _LOG.info("job %s is gone; its setup dropped", job_id)
        return
    if (not fresh and job.ledger.has_outcome()) or fail_if_overdue(runtime, job):
        # It may have been cancelled before its setup began; then the outcome has waited for us to be delivered.
        start_join(runtime, job)
        return
    token = new_token()
    if not fresh and job.manifest() is not None:
        _go_on(runtime, job, token, resend=delivery != FIRST)
    else:
        attempts = Attempts(job.ledger, "setup", by=token, now=runtime.now)
        limit, why = job.options.max_attempts, overran("setup", delivery.overran_s)
        admission = attempts.admit(
            delivery,
            limit=limit,
            stall_s=runtime.config.stall_s,
            why=why,
        )
        if admission is Admission.LEAVE:
            return
        if admission is Admission.GIVE_UP:
            conclude(runtime, job, OutcomeStatus.FAILED, attempts.verdict(step="setup"))
            return
        try:
            with (
                attempts.under_way(),
                Heartbeat(
                    runtime.timers,
                    job.ledger,
                    "setup",
                    stall_s=runtime.config.stall_s,
                    by=token,
                    # Other callers know one that is at it by its intent, if that is new, or by its beats.
                    at_once=caller_parameters is not None and not fresh,
                ) as heartbeat,
            ):
                run = _SetupRun(runtime, job, token, heartbeat)
                run.run(caller_parameters or {})
        except BaseException as error:
            if runtime.passes(error):
                raise
            runtime.on_error(error)
            conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", error, attempts=attempts.count))
            return
        if not run.is_followed:
            _go_on(runtime, job, token, resend=False)
        elif job.options.policy.tolerant:
            # Nothing has failed yet, but there may be fewer items than must succeed.
            manifest = job.manifest()
            assert manifest is not None
            fail_if_too_many_failed(runtime, job, manifest.setup_id, {}, manifest.items)


def _go_on(runtime: Runtime, job: CachedJob, token: str, *, resend: bool) -> None:
    """Go on from a manifest that stands, if one does: start the join, or send again what nobody may have sent.

    Nodes of the tree that are missing although all is there that they combine are at the right edge, where nobody could
    know before the manifest that it is all; or somebody is at them, whom a message more will not disturb.
    """
    manifest = job.manifest()
    if manifest is None:
        return
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines, by=token)
    if job.options.policy.tolerant and fail_if_too_many_failed(
        runtime, job, manifest.setup_id, completion.landed, manifest.items
    ):
        return
    # A manifest of an earlier round: its chunks were sent there, where nobody takes them any more.
    unsent = resend or (job.generation and manifest.setup_id != token)
    wanted = completion.due if unsent else completion.uncombined
    if not completion.due:
        start_join(runtime, job)
    elif wanted:
        send_again(runtime, job, manifest, wanted)


class _SetupRun:
    """One run of the user's setup. Two that run at once write apart; the first manifest says which counts."""

    def __init__(self, runtime: Runtime, job: CachedJob, setup_id: str, heartbeat: Heartbeat) -> None:
        self._runtime = runtime
        self._job = job
        self._setup_id = setup_id
        self._watch = heartbeat
        self._binding = job.declaration.binding
        self._sources: list[ReferenceSource] = []
        self._encoder = SequenceEncoder(path="items", compression=job.options.compression, sources=self._sources)
        self._waiting: deque[tuple[int, int]] = deque()
        self._shard: list[Any] = []
        self._shards: list[str] = []
        self._chunks_sent = 0
        self._input_bytes = 0
        self._items = 0
        self._flushed_at = time.monotonic()
        self.is_followed = False
        """Whether it will be noticed when the last chunk is done: the manifest stood before the first was sent."""

    def run(self, caller_parameters: Mapping[str, Any]) -> None:
        job, config = self._job, self._runtime.config
        started_at = time.time()
        parameters = job.parameter_values(self._binding.parameters_for(self._binding.setup), sources=self._sources)
        produced = self._binding.call_setup({**parameters, **caller_parameters})
        if not isinstance(produced, Iterable) or isinstance(produced, str | bytes | Mapping):
            raise InvalidItem(
                f"{self._binding.owner}.setup: must return or yield dicts of arguments for process, "
                f"not {type(produced).__name__}"
            )
        with PackWriter(
            job.ledger.store,
            lambda pack: job.ledger.keys.pack(self._setup_id, pack),
            pack_bytes=config.pack_bytes,
            upload_concurrency=config.upload_concurrency,
            first_bytes=max(1, config.pack_bytes // FIRST_PART),
        ) as writer:
            with closing(produced) if isinstance(produced, Generator) else nullcontext():
                self._cut(produced, writer)
            rest = self._refs(writer.close())
        early = self._chunks_sent == len(rest)
        if not early:
            self._send(rest)
        if self._ended():
            return
        manifest = self._manifest(started_at)
        if job.write_manifest(manifest).setup_id != self._setup_id:
            _LOG.info("job %s: setup attempt %s was not the first to finish; dropped", job.id, self._setup_id)
        elif early and rest:
            self._send(rest)
            self.is_followed = True

    def _manifest(self, started_at: float) -> Manifest:
        rows: list[Any] = []
        if self._chunks_sent < INDEXED_CHUNKS:
            rows, self._shard = [location.to_row() for location in self._shard], []
        self._write_shard()
        return Manifest(
            setup_id=self._setup_id,
            chunks=self._chunks_sent,
            items=self._items,
            input_bytes=self._input_bytes,
            shards=self._shards,
            stats=RunStats.since(started_at).to_row(),
            rows=rows,
        )

    def _cut(self, produced: Iterable[Any], writer: PackWriter) -> None:
        """Cut what setup yields into chunks."""
        options = self._job.options
        # What process is given besides the item; what the caller kept goes to setup alone.
        bound = frozenset(self._binding.parameters_for(self._binding.process)) & self._job.parameters.names()
        sizes = chunk_sizes(options, produced)
        size = next(sizes)
        encoder = self._encoder
        for item in produced:
            self._binding.check_item(self._items, item, bound)
            before = encoder.size_bytes
            encoder.add(item)
            self._check_size(encoder.size_bytes - before)
            self._items += 1
            if len(encoder) >= size or encoder.size_bytes >= options.chunk_bytes:
                self._close_chunk(writer)
                size = next(sizes)
                if self._ended():
                    return
        if len(encoder):
            self._close_chunk(writer)

    def _check_size(self, size_bytes: int) -> None:
        limit = self._job.options.max_item_bytes
        if size_bytes > limit:
            raise InvalidItem(
                f"{self._binding.owner}.setup: items[{self._items}] takes {size_bytes:,} bytes, over the limit of "
                f"{limit:,}: yield smaller items, put a reference to the data into the item, or raise item_bytes"
            )

    def _ended(self) -> bool:
        """Whether the job has ended while setup was at work, as far as is known without asking."""
        return self._watch.ended or self._job.cached_ended

    def _close_chunk(self, writer: PackWriter) -> None:
        count = len(self._encoder)
        self._waiting.append((self._items - count, count))
        self._input_bytes += self._encoder.referenced_bytes
        self._encoder.hand_over(writer.append)
        now = time.monotonic()
        if now - self._flushed_at >= LINGER_S:
            writer.flush()
            self._flushed_at = now
        self._send(self._refs(writer.stored()))

    def _send(self, refs: list[ChunkRef]) -> None:
        if refs:
            self._runtime.dispatcher.send_chunks(self._job.intent, refs)

    def _refs(self, pieces: Iterable[Slice]) -> list[ChunkRef]:
        """The handles of chunks that have become durable, in order."""
        refs, job = [], self._job
        for slice_ in pieces:
            location = ChunkLocation(slice_, *self._waiting.popleft())
            refs.append(
                ChunkRef(job.id, job.launch_id, self._setup_id, self._chunks_sent, location, generation=job.generation)
            )
            self._chunks_sent += 1
            self._input_bytes += slice_.length
            self._shard.append(location)
            if len(self._shard) == SHARD_WIDTH:
                self._write_shard()
        return refs

    def _write_shard(self) -> None:
        if self._shard:
            record = IndexShard(first_chunk=self._chunks_sent - len(self._shard), rows=self._shard)
            self._shards.append(self._job.ledger.write_shard(self._setup_id, len(self._shards), record))
            self._shard = []
