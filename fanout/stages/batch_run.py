"""One run of a batch: of several consecutive chunks that share a message, a read and a write.

A batch is quick, or it is shared out: a batch that lasts, in which a chunk raises, or whose message comes again falls
into parts, which are batches or single chunks with messages and objects of their own. So a chunk that matters by itself
is always a single chunk, with the attempts, the tolerance and the blame of one.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from dataclasses import replace

from ..abc import Delivery
from ..cached_job import CachedJob
from ..external.context import StepContext, current_step
from ..records.batch import BatchResult
from ..records.chunk_ref import ChunkRef
from ..records.ids import new_token
from ..records.keys import GROUP_WIDTH, process_step
from ..records.models import Note
from ..records.run_stats import microseconds_since
from ..runtime import Runtime
from .chunk_run import ChunkRun
from .combine import combine_batch
from .completion import check_completion
from .computation import Computation
from .heartbeat import Heartbeat
from .resend import find_parts
from .step import begin_run

SHARE_AFTER_S = 0.02
"""Seconds after which a run looks whether its batch lasts. A message with a chunk costs a tenth of that."""

PART_S = 0.1
"""Seconds that a part should take. A run that has less than that ahead of it keeps its batch."""

RESULT_BYTES = 2**20
"""Size of the results in memory at which the rest of a batch is shared out."""


class BatchRun:
    """One run of one batch.

    One write-once object decides the fate of a batch: it holds the results of all of its chunks, or of the first few
    and how the others were shared out. A worker writes it first and sends the messages of the parts afterwards. A
    worker that finds another one in its place follows that, and drops what it has itself. If a worker dies between the
    object and the messages, the batch's own message comes again, and its next run sends what is missing.

    A run that shares out because it lasts is in the middle of a chunk. It goes on with this chunk, which is a part of
    its own from then on, while other workers have the others.

    A batch leaves no attempts. If its worker dies, any of its chunks may be to blame, so none is: they run once more,
    each by itself. So a chunk that kills its worker within `SHARE_AFTER_S` has one run more than `max_attempts`.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        ref: The batch.
        delivery: Earlier runs for the same message, as far as they are known.
    """

    def __init__(self, runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery) -> None:
        self._runtime = runtime
        self._job = job
        self._ref = ref
        self._delivery = replace(delivery, resent=ref.resent)
        self._token = new_token()
        self._started_at = time.time()
        self._began = time.monotonic()
        self._context: StepContext | None = None
        """The context of this run, for the thread that shares out."""
        self._lock = threading.Lock()
        self._values: list[bytes] = []
        """The encoded results of the chunks that are done."""
        self._took_us: list[int] = []
        """Microseconds of each of these chunks."""
        self._fetched_us = 0
        self._is_closed = False
        """Whether `_values` is complete: all chunks are done, or the others are shared out."""
        self._heartbeat: Heartbeat | None = None
        """The heartbeat of the current chunk, once the others are shared out. A quick batch needs none."""
        self._sharing: threading.Thread | None = None
        self._decided = threading.Event()
        """Set when that thread has ended."""
        self._is_over = threading.Event()
        """Set when the last chunk of this run is done."""
        self._fate: BatchResult | None = None
        self._error: Exception | None = None
        """The error of the store or the broker in the thread that shares out."""

    def run(self) -> None:
        """Run the batch, unless its fate is decided; then do what its worker may have left undone."""
        self._context = current_step()
        # A retry may leave its chunks one attempt. This must be a run of the chunk by itself, which is recorded.
        is_last_attempt = self._job.options.max_attempts == 1
        if is_last_attempt or not self._delivery.is_first:
            fate = self._job.ledger.batch_result(self._ref.setup_id, self._ref.chunk, self._ref.count)
            if fate is None and (self._delivery.is_lost or self._delivery.resent or is_last_attempt):
                self._close()
                fate = self._share_out([1] * self._ref.count)
                if fate.by == self._token:
                    return
            if fate is not None:
                self._follow(fate)
                return
        # A part has the size that its sender found right.
        share_after_s = 2 * PART_S if self._ref.location.skip else SHARE_AFTER_S
        timer = self._runtime.timers.set(share_after_s, self._start_sharing)
        try:
            self._run_chunks()
        finally:
            self._is_over.set()
            if not timer.cancel() and self._sharing is not None:
                # no limit: it ends with the limits of the store and the broker
                self._sharing.join()
            if self._heartbeat is not None:
                self._heartbeat.__exit__(None, None, None)
        if self._error is not None:
            raise self._error

    def _run_chunks(self) -> None:
        """Run one chunk after the other, until all are done or the others are shared out."""
        job, ref = self._job, self._ref
        try:
            items = job.items(ref.setup_id, ref.location.slice_)
            computation = Computation(job, first_item=ref.location.first_item)
        except BaseException as error:
            self._fail(None, error)
            return
        self._fetched_us = done_us = microseconds_since(self._began)
        start, first_item, size_bytes = ref.location.skip, ref.location.first_item, 0
        for chunk, size in zip(ref.chunks, ref.location.sizes, strict=True):
            try:
                values = computation.compute(items[start : start + size], first_item, begin_run(chunk=chunk))
            except BaseException as error:
                self._fail(computation, error)
                return
            if values is None:
                return
            before_us, done_us = done_us, microseconds_since(self._began)
            if not self._add(values, done_us - before_us):
                if self._own_fate() is not None:
                    self._make_run(computation).finish(values)
                return
            start, first_item, size_bytes = start + size, first_item + size, size_bytes + len(values)
            # If the thread has closed the batch meanwhile, this run goes on with the next chunk.
            if size_bytes > RESULT_BYTES and chunk != ref.chunks[-1] and self._close():
                self._share_out(self._cut(ref.chunks[-1] - chunk))
                break
        self._finish()

    def _add(self, values: bytes, took_us: int) -> bool:
        """Add the results of the current chunk. Returns False if the batch is closed, and the chunk a part of it."""
        with self._lock:
            if not self._is_closed:
                self._values.append(values)
                self._took_us.append(took_us)
            return not self._is_closed

    def _make_run(self, computation: Computation | None) -> ChunkRun:
        """Return a run of the current chunk by itself, from what this run has computed of it."""
        return ChunkRun(self._runtime, self._job, self._ref.part(len(self._values)), computation=computation)

    def _finish(self) -> None:
        """Write the results of all chunks, unless a part of them was shared out; go on from the batch's fate."""
        if self._close():
            job, values = self._job, self._values
            if job.intent.combines:
                combined = combine_batch(self._runtime, job, self._ref.chunks, values)
                if combined is None:
                    return
                values = [combined]
            result = self._make_result([], values=values)
            with self._job.time_write():
                self._fate = self._job.ledger.write_batch_result(self._ref.setup_id, self._ref.count, result)
            self._count_done()
        fate = self._own_fate()
        if fate is not None and not fate.parts:
            check_completion(self._runtime, self._job, self._ref, self._delivery)

    def _close(self) -> bool:
        """Let no chunk be added any more. Returns False if the batch was closed before."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        return not was_closed

    def _fail(self, computation: Computation | None, error: BaseException) -> None:
        """Keep what came before a chunk that raised, have that chunk run again by itself, and share out the others.

        Raises the error again if it interrupted this run.
        """
        if self._runtime.is_interruption(error):
            raise error
        run = self._make_run(computation)
        decides = self._close()
        if decides:
            self._decide([1, *self._cut(self._ref.count - len(self._values) - 1)], begun=True)
        if self._own_fate() is not None:
            # Recorded first: if the broker takes none of the messages, the next run knows of this one.
            run.fail(error)
            if decides:
                self._send_parts()

    def _own_fate(self) -> BatchResult | None:
        """Return the batch's fate if this run has decided it; else follow the other run's.

        Waits for the thread that shares out if that is about to decide.

        Raises:
            StorageError: The store did not answer that thread.
        """
        if self._fate is None:
            # no limit: that thread ends with the limits of the store and the broker
            self._decided.wait()
        if self._fate is None:
            assert self._error is not None
            raise self._error
        if self._fate.by == self._token:
            return self._fate
        self._follow(self._fate)
        return None

    # Sharing out

    def _start_sharing(self) -> None:
        """Start the thread that shares out. The timers' own thread must not wait for the store."""
        self._sharing = threading.Thread(target=self._share_while_running, name="fanout-share", daemon=True)
        self._sharing.start()

    def _share_while_running(self) -> None:
        if self._remaining_s() < PART_S and self._is_over.wait(2 * PART_S):
            return
        with self._lock:
            begun = self._ref.count - len(self._values) if not self._is_closed else 0
            # Nothing is left to share out if all chunks are done.
            self._is_closed = self._is_closed or begun > 0
        if not begun:
            return
        try:
            self._heartbeat = self._begin_heartbeat()
            self._share_out([1, *self._cut(begun - 1)], begun=True)
        except Exception as error:
            self._error = error
        finally:
            self._decided.set()

    def _begin_heartbeat(self) -> Heartbeat:
        """Begin the heartbeat of the chunk that this run is at."""
        step = process_step(self._ref.setup_id, self._ref.chunk + len(self._values))
        stall_s = self._runtime.config.stall_s
        signs = self._context.signs if self._context is not None else None
        ledger, timers = self._job.ledger, self._runtime.timers
        return Heartbeat(timers, ledger, step, stall_s=stall_s, by=self._token, signs=signs).__enter__()

    def _remaining_s(self) -> float:
        """Return how long the other chunks will take, if they take as long as those that are done."""
        with self._lock:
            done = len(self._values)
        return (time.monotonic() - self._began) * (self._ref.count - done) / done if done else math.inf

    def _cut(self, chunks: int) -> list[int]:
        """Return the sizes of the parts for so many chunks: as many as this run would get done in `PART_S`."""
        took_s = max(time.monotonic() - self._began, SHARE_AFTER_S)
        size = max(1, int(len(self._values) * PART_S / took_s))
        return [min(size, chunks - start) for start in range(0, chunks, size)]

    def _share_out(self, parts: Sequence[int], *, begun: bool = False) -> BatchResult:
        """Decide the batch's fate, and send the messages of its parts; see `_decide`."""
        fate = self._decide(parts, begun=begun)
        if fate.by == self._token:
            self._send_parts()
        return fate

    def _decide(self, parts: Sequence[int], *, begun: bool = False) -> BatchResult:
        """Write the batch's fate; return the current one, which may be another run's. Two requests.

        The batch must be closed.

        Args:
            parts: Number of chunks of each part of the chunks that are not done.
            begun: Whether this run goes on with the first part, so that no message is sent for it.
        """
        ledger, ref = self._job.ledger, self._ref
        result = self._make_result(parts, begun=begun)
        ledger.mark_shared(ref.setup_id, ref.chunk, ref.count, done=result.done, note=Note(by=self._token))
        self._fate = ledger.write_batch_result(ref.setup_id, ref.count, result)
        self._count_done()
        return self._fate

    def _count_done(self) -> None:
        """Count the chunks whose results the batch's object holds."""
        if self._context is not None and self._fate is not None and self._fate.by == self._token:
            self._context.tally.chunks += len(self._values)
            self._context.tally.items += sum(self._ref.location.sizes[: len(self._values)])

    def _send_parts(self) -> None:
        """Send the messages of the parts that this run does not go on with."""
        assert self._fate is not None
        parts = list(self._ref.parts(self._fate.parts, start=self._fate.done))[self._fate.begun :]
        if parts:
            self._runtime.dispatcher.send_chunks(self._job.intent, [replace(part, resent=False) for part in parts])

    def _make_result(
        self, parts: Sequence[int], *, begun: bool = False, values: list[bytes] | None = None
    ) -> BatchResult:
        return BatchResult(
            chunk=self._ref.chunk,
            done=len(self._values),
            values=self._values if values is None else values,
            stats=self._job.stats(self._started_at, fetched_us=self._fetched_us, took_us=tuple(self._took_us)).to_row(),
            parts=list(parts),
            begun=begun,
            by=self._token,
        )

    def _follow(self, fate: BatchResult) -> None:
        """Do what the run that decided the batch's fate may have left undone.

        A redelivered message goes on with the chunk that its earlier run was at. Other parts without a result are sent
        again.
        """
        job, ref = self._job, self._ref
        landed = job.ledger.landed(ref.setup_id, ref.chunk // GROUP_WIDTH)
        missing = [chunk for chunk in ref.chunks if chunk not in landed]
        begun = ref.part(fate.done) if fate.begun and (self._delivery.is_lost or self._delivery.goes_on) else None
        parts = find_parts(
            replace(ref, resent=True),
            [chunk for chunk in missing if begun is None or chunk != begun.chunk],
            share_of=lambda part: job.ledger.share(ref.setup_id, part.chunk, part.count),
            attempts_of=lambda chunk: job.ledger.attempts(process_step(ref.setup_id, chunk)).last,
        )
        messages = list(parts)
        if messages:
            self._runtime.dispatcher.send_chunks(job.intent, messages)
        if begun is not None and begun.chunk in missing:
            ChunkRun(self._runtime, job, replace(begun, resent=False), self._delivery).run()
        elif not missing:
            check_completion(self._runtime, job, ref, self._delivery)
