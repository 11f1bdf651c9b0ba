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
from ..records.chunk_ref import Handle
from ..records.failure import FailedItem, Failure
from ..records.keys import new_token, process_step
from ..records.models import ChunkResult, Ending
from ..records.run_stats import Effort
from ..runtime import OpenJob, Runtime
from .attempts import Admission, Tries, overran
from .combine import Delivery
from .completion import look_after
from .heartbeat import Watch
from .outcome import conclude, conclude_excess, overdue

_LOG = logging.getLogger("fanout")


def run_process(
    runtime: Runtime,
    handle: Handle,
    *,
    redelivered: bool = False,
    retried: bool = False,
    overran_s: float | None = None,
) -> None:
    """Run process on the chunk that `handle` names, unless that is done or pointless.

    One ranged read, one write-once write and at most one listing, when nothing is amiss. If an item raises, the chunk
    is sent again. In its last run of `max_attempts`, that ends the job; in a job that tolerates failures the item is
    marked instead and the others keep their results, at the cost of two listings.

    Args:
        runtime: Store, settings, carrier.
        handle: Names the chunk.
        redelivered: Whether the broker has delivered the message before.
        retried: Whether an earlier run for this message ended without being to blame.
        overran_s: The time limit at which an earlier run for this message was stopped, if one was.

    Raises:
        StorageError: The store does not answer; running the chunk again, `retried`, is safe.
    """
    try:
        job = runtime.job(handle.job_id, handle.launch_id, handle.round)
    except JobNotFound:
        _LOG.info("job %s is gone; chunk %d dropped", handle.job_id, handle.chunk)
        return
    if job.ended() or _lost_attempt(job, handle) or overdue(runtime, job):
        return
    delivery = Delivery(redelivered or overran_s is not None, retried, overran_s)
    with runtime.idle.work() if runtime.idle else nullcontext():
        _Run(runtime, job, handle, delivery).go()


def _lost_attempt(job: OpenJob, handle: Handle) -> bool:
    manifest = job.known_manifest()
    return manifest is not None and manifest.attempt != handle.attempt


class _Run:
    """One run of one chunk."""

    def __init__(self, runtime: Runtime, job: OpenJob, handle: Handle, delivery: Delivery) -> None:
        self._runtime = runtime
        self._job = job
        self._handle = handle
        self._delivery = delivery
        self._token = new_token()
        self._step = process_step(handle.attempt, handle.chunk)
        self._tries = Tries(job.ledger, self._step, by=self._token, now=runtime.now, known=handle.tries)
        self._item: int | None = None
        """The item that is being worked on, for the error that names it; None while combine is at work."""
        self._at = "process"
        """The step that is at work."""
        self._stopped = False
        """Whether the job ended before all items were worked on."""
        self._marks: list[FailedItem] = []
        self._traceback_text = ""

    def go(self) -> None:
        handle, job = self._handle, self._job
        redelivered, retried = self._delivery.redelivered, self._delivery.retried
        if redelivered or retried or handle.nudged:
            standing = job.ledger.standing(handle.attempt, handle.chunk)
            if standing is not None:
                self._follow(standing)
                return
        admission = self._tries.admit(
            redelivered=redelivered,
            nudged=handle.nudged,
            retried=retried,
            limit=job.options.max_attempts,
            stall_s=self._runtime.config.stall_s,
            why=overran("process", self._delivery.overran_s, chunk=handle.chunk),
        )
        if admission is Admission.LEAVE:
            return
        if admission is Admission.GIVE_UP:
            silent_s = None if redelivered else self._runtime.config.stall_s
            self._give_up(self._tries.verdict(step="process", chunk=handle.chunk, silent_s=silent_s))
            return
        started_at = time.time()
        try:
            with (
                self._tries.under_way(),
                Watch(
                    self._runtime.alarms,
                    job.ledger,
                    self._step,
                    stall_s=self._runtime.config.stall_s,
                    by=self._token,
                    at_once=handle.nudged,
                ) as watch,
            ):
                values = self._values(lambda: watch.ended)
        except BaseException as error:
            if self._runtime.passes(error):
                raise
            self._failed(error)
        else:
            if values is not None:
                with self._tries.under_way():
                    standing = self._write(values, Effort.since(started_at))
                self._follow(standing)

    def _values(self, ended: Callable[[], bool]) -> bytes | None:
        """The encoded list of results, or of the one that combine makes of them; None if the job ended meanwhile."""
        job = self._job
        binding, compression = job.declaration.binding, job.options.compression
        items = self._items(ended)
        if job.intent.combines:
            combined = binding.call_combine(self._good_results(items), job.parameters(binding.combine_parameters))
            values: bytes = encode(combined, path="combined", compression=compression)
        else:
            first = self._handle.place.first_item
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
        place, binding = self._handle.place, self._job.declaration.binding
        parameters = self._job.parameters(binding.parameters_for(binding.process))
        items = self._job.items(self._handle.attempt, place.piece)
        for index, arguments in enumerate(items, start=place.first_item):
            if ended():
                self._stopped = True
                return
            self._at, self._item = "process", index
            yield partial(binding.call_process, parameters, arguments)

    @property
    def _last_try(self) -> bool:
        return self._tries.count >= self._job.options.max_attempts

    def _forgive(self, error: BaseException) -> None:
        """Put a mark in the place of the item that just raised; raises that again if it must not be given up."""
        if not (self._job.options.policy.tolerant and self._last_try) or self._runtime.passes(error):
            raise
        if not self._marks:
            self._runtime.on_error(error)
        failure = self._failure_of(error)
        self._traceback_text = self._traceback_text or failure.traceback_text
        assert self._item is not None
        self._marks.append(FailedItem.of(failure, item=self._item))

    def _failure_of(self, error: BaseException) -> Failure:
        return Failure.of(self._at, error, chunk=self._handle.chunk, item=self._item, tries=self._tries.count)

    def _write(self, values: bytes, effort: Effort, failure: Failure | None = None) -> ChunkResult:
        place = self._handle.place
        result = ChunkResult(
            chunk=self._handle.chunk,
            first_item=place.first_item,
            items=place.items,
            values=values,
            effort=effort.to_row(),
            failure=failure,
            marks=list(self._marks) if failure is None else [],
            traceback_text=self._traceback_text,
            combined=self._job.intent.combines,
        )
        return self._job.ledger.write_result(self._handle.attempt, result)

    def _failed(self, error: BaseException) -> None:
        self._runtime.on_error(error)
        failure = self._failure_of(error)
        self._tries.raised(failure)
        if self._last_try:
            self._give_up(failure)
            return
        again = replace(self._handle, tries=self._tries.number, nudged=False)
        self._runtime.carrier.send_chunks(self._job.intent, [again])

    def _give_up(self, failure: Failure) -> None:
        # Another message for this chunk may have given a result meanwhile; then that stands.
        self._follow(self._write(b"", Effort.since(time.time()), failure))

    def _follow(self, standing: ChunkResult) -> None:
        """Go on from the result that stands: fail the job, or look whether it is complete."""
        if standing.failed_count and (self._lost() or self._fatal(standing)):
            return
        look_after(self._runtime, self._job, self._handle, self._delivery, by=self._token)

    def _lost(self) -> bool:
        manifest = self._job.manifest()
        return manifest is not None and manifest.attempt != self._handle.attempt

    def _fatal(self, standing: ChunkResult) -> bool:
        """Whether the job failed with this chunk; if so it has been concluded."""
        if self._job.options.policy.tolerant:
            manifest, attempt = self._job.manifest(), self._handle.attempt
            landed = self._job.ledger.landed(attempt)
            return conclude_excess(self._runtime, self._job, attempt, landed, manifest.items if manifest else None)
        failure = standing.failed
        assert failure is not None
        conclude(self._runtime, self._job, Ending.FAILED, failure)
        return True
