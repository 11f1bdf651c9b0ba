"""Process: fetches one chunk, runs the user's process on each item, writes the results in item order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from storage import SequenceEncoder, encode

from ..errors import JobNotFound
from ..records.chunk_ref import ChunkRef
from ..records.failure import FailedItem, Failure
from ..records.keys import new_token, process_step
from ..records.models import ChunkResult, OutcomeStatus
from ..records.run_stats import RunStats
from ..runtime import CachedJob, Runtime
from .attempts import Admission, Attempts, overran
from .completion import check_completion
from .delivery import FIRST, Delivery
from .heartbeat import Heartbeat
from .outcome import conclude, fail_if_overdue, fail_if_too_many_failed

_LOG = logging.getLogger("fanout")


def run_process(
    runtime: Runtime,
    ref: ChunkRef,
    delivery: Delivery = FIRST,
) -> None:
    """Run process on the chunk that `ref` names, unless that is done or pointless.

    One ranged read, one write-once write and at most one listing, when nothing is amiss. If an item raises, the chunk
    is sent again. In its last run of `max_attempts`, that ends the job; in a job that tolerates failures the item is
    marked instead and the others keep their results, at the cost of two listings.

    Args:
        runtime: Store, settings, carrier.
        ref: Names the chunk.
        redelivered: Whether the broker has delivered the message before.
        retried: Whether an earlier run for this message ended without being to blame.
        overran_s: The time limit at which an earlier run for this message was stopped, if one was.

    Raises:
        StorageError: The store does not answer; running the chunk again, `retried`, is safe.
    """
    try:
        job = runtime.job(ref.job_id, ref.launch_id, ref.generation)
    except JobNotFound:
        _LOG.info("job %s is gone; chunk %d dropped", ref.job_id, ref.chunk)
        return
    if job.has_ended() or _lost_attempt(job, ref) or fail_if_overdue(runtime, job):
        return
    with runtime.debouncer.work() if runtime.debouncer else nullcontext():
        _Run(runtime, job, ref, delivery).go()


def _lost_attempt(job: CachedJob, ref: ChunkRef) -> bool:
    manifest = job.cached_manifest()
    return manifest is not None and manifest.setup_id != ref.setup_id


class _Run:
    """One run of one chunk."""

    def __init__(self, runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery) -> None:
        self._runtime = runtime
        self._job = job
        self._ref = ref
        self._delivery = delivery
        self._token = new_token()
        self._step = process_step(ref.setup_id, ref.chunk)
        self._attempts = Attempts(job.ledger, self._step, by=self._token, now=runtime.now, known=ref.attempts)
        self._item: int | None = None
        """The item that is being worked on, for the error that names it; None while combine is at work."""
        self._at = "process"
        """The step that is at work."""
        self._stopped = False
        """Whether the job ended before all items were worked on."""
        self._failures: list[FailedItem] = []
        self._traceback_text = ""

    def go(self) -> None:
        ref, job = self._ref, self._job
        delivery = replace(self._delivery, resent=ref.resent)
        if delivery != FIRST:
            current = job.ledger.current_result(ref.setup_id, ref.chunk)
            if current is not None:
                self._follow(current)
                return
        admission = self._attempts.admit(
            delivery,
            limit=job.options.max_attempts,
            stall_s=self._runtime.config.stall_s,
            why=overran("process", delivery.overran_s, chunk=ref.chunk),
        )
        if admission is Admission.LEAVE:
            return
        if admission is Admission.GIVE_UP:
            silent_s = None if delivery.is_lost else self._runtime.config.stall_s
            self._give_up(self._attempts.verdict(step="process", chunk=ref.chunk, silent_s=silent_s))
            return
        started_at = time.time()
        try:
            with (
                self._attempts.under_way(),
                Heartbeat(
                    self._runtime.timers,
                    job.ledger,
                    self._step,
                    stall_s=self._runtime.config.stall_s,
                    by=self._token,
                    at_once=ref.resent,
                ) as heartbeat,
            ):
                values = self._values(lambda: heartbeat.ended)
        except BaseException as error:
            if self._runtime.is_interruption(error):
                raise
            self._failed(error)
        else:
            if values is not None:
                with self._attempts.under_way():
                    current = self._write(values, RunStats.since(started_at))
                self._follow(current)

    def _values(self, ended: Callable[[], bool]) -> bytes | None:
        """The encoded list of results, or of the one that combine makes of them; None if the job ended meanwhile."""
        job = self._job
        binding, compression = job.declaration.binding, job.options.compression
        items = self._items(ended)
        if job.intent.combines:
            combined = binding.call_combine(self._good_results(items), job.parameter_values(binding.combine_parameters))
            values: bytes = encode(combined, path="combined", compression=compression)
        else:
            first = self._ref.location.first_item
            encoder = SequenceEncoder(path="results", first_index=first, compression=compression)
            for call in items:
                try:
                    encoder.add(call())
                except BaseException as error:
                    self._forgive(error)
                    encoder.add(None)
            values = encoder.finish()
        return None if self._stopped else values

    def _good_results(self, items: Iterator[Callable[[], Any]]) -> Iterator[Any]:
        for call in items:
            try:
                result = call()
            except BaseException as error:
                self._forgive(error)
                continue
            self._at, self._item = "combine", None
            yield result
        self._at, self._item = "combine", None

    def _items(self, ended: Callable[[], bool]) -> Iterator[Callable[[], Any]]:
        """A call of process for each item, in order, as long as the job has not ended."""
        location, binding = self._ref.location, self._job.declaration.binding
        parameters = self._job.parameter_values(binding.parameters_for(binding.process))
        items = self._job.items(self._ref.setup_id, location.slice_)
        for index, arguments in enumerate(items, start=location.first_item):
            if ended():
                self._stopped = True
                return
            self._at, self._item = "process", index
            yield partial(binding.call_process, parameters, arguments)

    @property
    def _is_last_attempt(self) -> bool:
        return self._attempts.count >= self._job.options.max_attempts

    def _forgive(self, error: BaseException) -> None:
        """Put a mark in the place of the item that just raised; raises that again if it must not be given up."""
        if not (self._job.options.policy.tolerant and self._is_last_attempt) or self._runtime.is_interruption(error):
            raise
        if not self._failures:
            self._runtime.on_error(error)
        failure = self._failure_of(error)
        self._traceback_text = self._traceback_text or failure.traceback_text
        assert self._item is not None
        self._failures.append(FailedItem.of(failure, item=self._item))

    def _failure_of(self, error: BaseException) -> Failure:
        return Failure.of(self._at, error, chunk=self._ref.chunk, item=self._item, attempts=self._attempts.count)

    def _write(self, values: bytes, stats: RunStats, failure: Failure | None = None) -> ChunkResult:
        location = self._ref.location
        result = ChunkResult(
            chunk=self._ref.chunk,
            first_item=location.first_item,
            items=location.items,
            values=values,
            stats=stats.to_row(),
            failure=failure,
            failures=list(self._failures) if failure is None else [],
            traceback_text=self._traceback_text,
            combined=self._job.intent.combines,
        )
        return self._job.ledger.write_result(self._ref.setup_id, result)

    def _failed(self, error: BaseException) -> None:
        self._runtime.on_error(error)
        failure = self._failure_of(error)
        self._attempts.raised(failure)
        if self._is_last_attempt:
            self._give_up(failure)
            return
        again = replace(self._ref, attempts=self._attempts.number, resent=False)
        self._runtime.dispatcher.send_chunks(self._job.intent, [again])

    def _give_up(self, failure: Failure) -> None:
        # Another message for this chunk may have given a result meanwhile; then that stands.
        self._follow(self._write(b"", RunStats.since(time.time()), failure))

    def _follow(self, current: ChunkResult) -> None:
        """Go on from the result that stands: fail the job, or look whether it is complete."""
        if current.failed_count and (self._lost() or self._fail_job(current)):
            return
        check_completion(self._runtime, self._job, self._ref, self._delivery, by=self._token)

    def _lost(self) -> bool:
        manifest = self._job.manifest()
        return manifest is not None and manifest.setup_id != self._ref.setup_id

    def _fail_job(self, current: ChunkResult) -> bool:
        """Whether the job failed with this chunk; if so it has been concluded."""
        if self._job.options.policy.tolerant:
            manifest, setup_id = self._job.manifest(), self._ref.setup_id
            landed = self._job.ledger.landed(setup_id)
            return fail_if_too_many_failed(
                self._runtime, self._job, setup_id, landed, manifest.items if manifest else None
            )
        failure = current.failed
        assert failure is not None
        conclude(self._runtime, self._job, OutcomeStatus.FAILED, failure)
        return True
