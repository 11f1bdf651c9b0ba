"""One run of one chunk: has its results computed, writes them in item order, and goes on from there."""

from __future__ import annotations

import time
from dataclasses import replace

from ..abc import FIRST, Delivery
from ..cached_job import CachedJob
from ..records.chunk_ref import ChunkRef
from ..records.failure import FailedItem, Failure
from ..records.ids import new_token
from ..records.keys import process_step
from ..records.models import ChunkResult, Manifest, OutcomeStatus
from ..records.run_stats import microseconds_since
from ..runtime import Runtime
from .attempts import Admission, Attempts, explain_overrun
from .completion import check_completion
from .computation import Computation
from .heartbeat import Heartbeat
from .outcome import conclude, fail_if_too_many_failed
from .step import begin_run, current_tally


def is_superseded(ref: ChunkRef, manifest: Manifest | None) -> bool:
    """Return whether another setup than the chunk's has written the manifest."""
    return manifest is not None and manifest.setup_id != ref.setup_id


class ChunkRun:
    """One run of one chunk.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        ref: The chunk.
        delivery: Earlier runs for the same message, as far as they are known.
        computation: The computation that is at the chunk, if the caller has begun it.
    """

    def __init__(
        self,
        runtime: Runtime,
        job: CachedJob,
        ref: ChunkRef,
        delivery: Delivery = FIRST,
        computation: Computation | None = None,
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._ref = ref
        self._delivery = delivery
        self._computation = computation
        self._token = new_token()
        self._step = process_step(ref.setup_id, ref.chunk)
        self._attempts = Attempts(
            job.ledger, self._step, by=self._token, message=delivery.message, now=runtime.now, known=ref.attempts
        )
        self._failures: list[FailedItem] = []
        self._traceback_text = ""
        self._fetched_us = 0
        """Microseconds in which this run has fetched parameters and items."""

    def run(self) -> None:
        """Run process on the chunk, unless it has a result or another worker runs it, and go on from its result."""
        ref, job = self._ref, self._job
        delivery = replace(self._delivery, resent=ref.resent)
        if not delivery.is_first:
            current = job.ledger.current_result(ref.setup_id, ref.chunk)
            if current is not None:
                self._follow(current)
                return
        admission = self._attempts.admit(
            delivery,
            limit=job.options.max_attempts,
            stall_s=self._runtime.config.stall_s,
            explain=explain_overrun("process", delivery.overran_s, chunk=ref.chunk),
        )
        if admission is Admission.LEAVE:
            return
        if admission is Admission.GIVE_UP:
            silent_s = None if delivery.is_lost else self._runtime.config.stall_s
            self._give_up(self._attempts.find_failure(step="process", chunk=ref.chunk, silent_s=silent_s))
            return
        try:
            with self._attempts.record_if_interrupted(), self._heartbeat():
                values = self._compute()
        except BaseException as error:
            if self._runtime.is_interruption(error):
                raise
            self.fail(error)
        else:
            if values is not None:
                self.finish(values)

    def finish(self, values: bytes) -> None:
        """Write the chunk's results, and go on from its current result."""
        with self._attempts.record_if_interrupted():
            current = self._write(values)
        self._follow(current)

    def _compute(self) -> bytes | None:
        """Return the encoded values of the chunk; None if the job has ended. See `Computation.compute`."""
        ref, job = self._ref, self._job
        position = begin_run(chunk=ref.chunk, attempt=self._attempts.count)
        began = time.monotonic()
        first_item = ref.location.first_item
        self._computation = Computation(job, first_item=first_item, tolerate=self._record_failed_item)
        items = job.items(ref.setup_id, ref.location.slice_)
        self._fetched_us = microseconds_since(began)
        skip = ref.location.skip
        return self._computation.compute(items[skip : skip + ref.location.items], first_item, position)

    def _heartbeat(self) -> Heartbeat:
        stall_s = self._runtime.config.stall_s
        return Heartbeat(
            self._runtime.timers,
            self._job.ledger,
            self._step,
            stall_s=stall_s,
            by=self._token,
            at_once=self._ref.resent,
        )

    @property
    def _is_last_attempt(self) -> bool:
        return self._attempts.count >= self._job.options.max_attempts

    def _record_failed_item(self, error: BaseException) -> bool:
        """Record that the current item failed, and return True; False if the failure is not tolerated.

        An item may fail in the last attempt of a job that tolerates that.
        """
        if not (self._job.options.policy.tolerant and self._is_last_attempt) or self._runtime.is_interruption(error):
            return False
        if not self._failures:
            self._runtime.on_error(error)
        failure = self._make_failure(error)
        self._traceback_text = self._traceback_text or failure.traceback_text
        current_tally().note_failure(error)
        assert failure.item is not None
        self._failures.append(FailedItem.of(failure, item=failure.item))
        return True

    def _make_failure(self, error: BaseException) -> Failure:
        at = self._computation
        step, item = (at.step, at.position.item) if at is not None else ("process", None)
        return Failure.of(step, error, chunk=self._ref.chunk, item=item, attempts=self._attempts.count)

    def _write(self, values: bytes, failure: Failure | None = None) -> ChunkResult:
        location = self._ref.location
        started_at = self._computation.started_at if self._computation is not None else time.time()
        result = ChunkResult(
            chunk=self._ref.chunk,
            first_item=location.first_item,
            items=location.items,
            values=values,
            stats=self._job.stats(started_at, fetched_us=self._fetched_us).to_row(),
            failure=failure,
            failures=list(self._failures) if failure is None else [],
            traceback_text=self._traceback_text,
            combined=self._job.intent.combines,
        )
        with self._job.time_write():
            current = self._job.ledger.write_result(self._ref.setup_id, result)
        tally = current_tally()
        tally.chunks += failure is None
        tally.chunks_failed += failure is not None
        tally.items += result.items - result.failed_count
        tally.items_failed += result.failed_count
        return current

    def fail(self, error: BaseException) -> None:
        """Record the error of process or combine. Have the chunk run again, or give it up after its last attempt."""
        self._runtime.on_error(error)
        current_tally().note_failure(error)
        failure = self._make_failure(error)
        self._attempts.record_failure(failure)
        if self._is_last_attempt:
            self._give_up(failure)
            return
        next_ref = replace(self._ref, attempts=self._attempts.number, resent=False)
        self._runtime.dispatcher.send_chunks(self._job.intent, [next_ref])

    def _give_up(self, failure: Failure) -> None:
        """Write that the chunk failed, and go on from that or from a result that another run has written meanwhile."""
        self._follow(self._write(b"", failure))

    def _follow(self, current: ChunkResult) -> None:
        """Go on from the chunk's current result: fail the job, or check whether the job is complete."""
        if current.failed_count and (is_superseded(self._ref, self._job.manifest()) or self._fail_job(current)):
            return
        check_completion(self._runtime, self._job, self._ref, self._delivery)

    def _fail_job(self, current: ChunkResult) -> bool:
        """End the job if it does not tolerate the failures of the chunk, and return whether that is so."""
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
