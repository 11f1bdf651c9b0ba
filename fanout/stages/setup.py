"""Setup: runs the user's setup, writes its items into packs, and sends each batch as soon as its pack is stored."""

from __future__ import annotations

import logging
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing, nullcontext
from typing import Any

from storage import PackWriter, ReferenceSource

from ..abc import FIRST, Delivery
from ..cached_job import CachedJob
from ..errors import InvalidItem, JobNotFound
from ..logs import fields_of
from ..memory import COPIES, REMEDIES, MemoryLimitExceeded
from ..records.batch import Landed
from ..records.chunk_ref import ChunkLocation, ChunkRef
from ..records.failure import Failure
from ..records.ids import new_token
from ..records.keys import INDEXED_CHUNKS, SHARD_WIDTH
from ..records.ledger import Ledger
from ..records.models import IndexShard, Manifest, OutcomeStatus
from ..runtime import Runtime
from .attempts import Admission, Attempts, explain_overrun
from .barrier import completion_of
from .batch_writer import BatchWriter
from .chunking import chunk_sizes
from .heartbeat import Heartbeat
from .outcome import conclude, fail_if_overdue, fail_if_too_many_failed, start_join
from .resend import send_again
from .step import current_tally, in_step

_LOG = logging.getLogger(__name__)

FIRST_PART = 8
"""Divisor of `pack_bytes` for the first pack: the sooner it is full, the sooner the workers begin."""


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
    """Run setup. Afterwards every chunk is in the store and its message is sent.

    If there is a manifest already, the user's setup does not run again. The join of a complete job is started. After an
    earlier run that may have died, the chunks without a result are sent again. If there is an outcome already, it is
    delivered. If the user's setup raises, the job ends with that failure. Memory: see `Config.pack_bytes`, plus the
    memory of the user's setup.

    Args:
        runtime: Store, settings and dispatcher.
        job_id: The job; its intent must be in the store.
        launch_id: Launch of that job id; None for the latest.
        caller_parameters: Parameters that only this process has, by name, if setup runs in the caller.
        fresh: Whether this process has just created the job, which saves two requests for its outcome and manifest.
        generation: The job's generation.
        delivery: Earlier runs for the same message, as far as they are known.

    Raises:
        StorageError: The store does not answer. Setup may safely run again, as a resumed delivery.
        BrokerUnavailable: The broker takes no message. Setup may safely run again, as a resumed delivery.
    """
    asked_at = time.monotonic()
    has_outcome = runtime.begin(Ledger.has_outcome, job_id, launch_id, generation, early=not fresh)
    read_manifest = runtime.begin(Ledger.manifest, job_id, launch_id, generation, early=not fresh)
    try:
        job = runtime.job(job_id, launch_id, generation)
    except JobNotFound:
        _LOG.error(
            "job %s: dropped its setup, because the job is not in this worker's store %s: it was removed, or its "
            "caller uses another store than this worker",
            job_id,
            runtime.store.url,
            extra=fields_of(job_id, step="setup"),
        )
        return
    if not fresh:
        job.remember_ended(has_outcome(job.ledger), asked_at=asked_at)
    if job.cached_ended or fail_if_overdue(runtime, job):
        # The outcome of a job that was cancelled before its setup began is delivered by setup.
        start_join(runtime, job)
        return
    token = new_token()
    if not fresh and job.manifest(read_manifest) is not None:
        _continue_from_manifest(runtime, job, token, resend=not delivery.is_first)
    else:
        _run_attempt(runtime, job, token, caller_parameters, fresh=fresh, delivery=delivery)


def _run_attempt(
    runtime: Runtime,
    job: CachedJob,
    token: str,
    caller_parameters: Mapping[str, Any] | None,
    *,
    fresh: bool,
    delivery: Delivery,
) -> None:
    """Run the user's setup once, if its attempts are not used up, and act on what it made."""
    attempts = Attempts(job.ledger, "setup", by=token, message=delivery.message, now=runtime.now)
    stall_s = runtime.config.stall_s
    explain = explain_overrun("setup", delivery.overran_s)
    admission = attempts.admit(delivery, limit=job.options.max_attempts, stall_s=stall_s, explain=explain)
    if admission is Admission.LEAVE:
        return
    if admission is Admission.GIVE_UP:
        conclude(runtime, job, OutcomeStatus.FAILED, attempts.find_failure(step="setup"))
        return
    # Other callers see that setup runs by the intent, if that is new, or by a heartbeat.
    at_once = caller_parameters is not None and not fresh
    try:
        with (
            attempts.record_if_interrupted(),
            in_step(runtime, job, "setup", attempt=attempts.count, delivery=delivery),
            Heartbeat(runtime.timers, job.ledger, "setup", stall_s=stall_s, by=token, at_once=at_once) as heartbeat,
        ):
            run = _SetupRun(runtime, job, token, heartbeat)
            run.run(caller_parameters or {})
    except BaseException as error:
        if runtime.is_interruption(error):
            raise
        runtime.on_error(error)
        conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", error, attempts=attempts.count))
        return
    if not run.sent_after_manifest:
        _continue_from_manifest(runtime, job, token, resend=False)
    elif job.options.policy.tolerant:
        # No item has failed yet, but there may be fewer items than must succeed.
        manifest = job.manifest()
        assert manifest is not None
        fail_if_too_many_failed(runtime, job, manifest.setup_id, Landed(), manifest.items)


def _continue_from_manifest(runtime: Runtime, job: CachedJob, token: str, *, resend: bool) -> None:
    """Start the join of a complete job, or send chunks again. Does nothing while there is no manifest.

    Chunks below missing nodes that could be combined are always sent again. These nodes are at the right edge of the
    tree, where no worker could know before the manifest that their groups are full. If a worker is combining them
    already, another message does no harm.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        token: Token of this run.
        resend: Whether to send all chunks again that have no result, because earlier messages may be lost.
    """
    manifest = job.manifest()
    if manifest is None:
        return
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines)
    if job.options.policy.tolerant and fail_if_too_many_failed(
        runtime, job, manifest.setup_id, completion.landed, manifest.items
    ):
        return
    # The messages of an earlier generation's setup belong to that generation, in which no worker runs them any more.
    resend_all = resend or (job.generation and manifest.setup_id != token)
    chunks = completion.due if resend_all else list(completion.uncombined)
    if not completion.due:
        start_join(runtime, job)
    elif chunks:
        send_again(runtime, job, manifest, chunks)


class _SetupRun:
    """One run of the user's setup. Runs at the same time write to different keys; the first manifest decides."""

    def __init__(self, runtime: Runtime, job: CachedJob, setup_id: str, heartbeat: Heartbeat) -> None:
        self._runtime = runtime
        self._job = job
        self._setup_id = setup_id
        self._heartbeat = heartbeat
        self._binding = job.declaration.binding
        self._sources: list[ReferenceSource] = []
        self._shard: list[Any] = []
        self._shards: list[str] = []
        self._chunks = 0
        self._indexed_chunks = 0
        """Number of chunks in index shards that are written."""
        self.sent_after_manifest = False
        """Whether all chunks were sent after the manifest was written, so that their workers notice the end."""

    def run(self, caller_parameters: Mapping[str, Any]) -> None:
        job, config = self._job, self._runtime.config
        started_at = time.time()
        parameters = job.parameter_values(self._binding.parameters_for(self._binding.setup), sources=self._sources)
        returned = self._binding.call_setup({**parameters, **caller_parameters})
        if not isinstance(returned, Iterable) or isinstance(returned, str | bytes | Mapping):
            raise InvalidItem(
                f"{self._binding.owner}.setup: must return or yield dicts of arguments for process, "
                f"not {type(returned).__name__}"
            )
        with PackWriter(
            job.ledger.store,
            lambda pack: job.ledger.keys.pack(self._setup_id, pack),
            pack_bytes=config.pack_bytes,
            upload_concurrency=config.upload_concurrency,
            first_bytes=max(1, config.pack_bytes // FIRST_PART),
        ) as packs:
            writer = BatchWriter(
                packs,
                self._binding,
                job.options,
                sizes=chunk_sizes(job.options, returned, combines=self._binding.combine is not None),
                # The caller's own parameters go to setup alone.
                bound=frozenset(self._binding.parameters_for(self._binding.process)) & job.parameters.names(),
                # The runs of a batch are not recorded, so the only attempt of a chunk must be a run by itself.
                batch_chunks=self._runtime.dispatcher.batch_chunks if job.options.max_attempts > 1 else 1,
                sources=self._sources,
            )
            with closing(returned) if isinstance(returned, Generator) else nullcontext():
                for stored in writer.write(returned):
                    self._send(self._take_refs(stored))
                    if self._has_ended():
                        break
            rest = self._take_refs(writer.locate(packs.close()))
        is_all = self._chunks == sum(ref.count for ref in rest)
        if not is_all:
            self._send(rest)
        if self._has_ended():
            return
        manifest = self._make_manifest(writer, started_at)
        current_tally().items = manifest.items
        if job.write_manifest(manifest).setup_id != self._setup_id:
            text = "job %s: setup %s was not the first to finish; dropped"
            _LOG.info(text, job.id, self._setup_id, extra=fields_of(job.id, step="setup"))
        elif is_all and rest:
            self._send(rest)
            self.sent_after_manifest = True

    def _make_manifest(self, writer: BatchWriter, started_at: float) -> Manifest:
        rows: list[Any] = []
        if self._chunks < INDEXED_CHUNKS:
            rows, self._shard = [location.to_row() for location in self._shard], []
        self._write_shard()
        return Manifest(
            setup_id=self._setup_id,
            chunks=self._chunks,
            items=writer.items,
            input_bytes=writer.input_bytes,
            shards=self._shards,
            stats=self._job.stats(started_at).to_row(),
            rows=rows,
        )

    def _has_ended(self) -> bool:
        """Return whether this process knows that the job has ended. No request."""
        return self._heartbeat.ended or self._job.cached_ended

    def _send(self, refs: list[ChunkRef]) -> None:
        if refs:
            self._runtime.dispatcher.send_chunks(self._job.intent, refs)

    def _take_refs(self, locations: Iterable[ChunkLocation]) -> list[ChunkRef]:
        """Return the references to batches that were stored, in order, and add them to the index."""
        refs, job = [], self._job
        limit_bytes = job.options.memory_limit_bytes
        for location in locations:
            needed_bytes = COPIES * location.slice_.length
            if limit_bytes is not None and needed_bytes > limit_bytes:
                raise MemoryLimitExceeded(self._binding.owner, "worker", needed_bytes, limit_bytes, REMEDIES["worker"])
            refs.append(
                ChunkRef(job.id, job.launch_id, self._setup_id, self._chunks, location, generation=job.generation)
            )
            self._chunks += len(location.sizes)
            self._shard.append(location)
            if self._chunks - self._indexed_chunks == SHARD_WIDTH:
                self._write_shard()
        return refs

    def _write_shard(self) -> None:
        if self._shard:
            record = IndexShard(first_chunk=self._indexed_chunks, rows=self._shard)
            self._shards.append(self._job.ledger.write_shard(self._setup_id, len(self._shards), record))
            self._shard, self._indexed_chunks = [], self._chunks
