"""Combine: makes one value of the values of a full group. The values form a tree, in a job whose task has a `combine`.

The worker that writes the last result of a group of chunks combines the group's values into a node. The worker that
writes the last node of a group combines these into a node of the next level, and so on. The last level has at most 32
nodes, whose values the join is given. All of that happens in the message of the chunk that came last. If its worker
dies, the broker redelivers the message, and the next run finds the chunk's result and goes on with the nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from storage import decode, encode

from ..abc import Delivery
from ..cached_job import CachedJob
from ..external.context import Tally
from ..records.batch import Landed
from ..records.chunk_ref import ChunkRef
from ..records.failure import Failure, add_note
from ..records.keys import GROUP_WIDTH, combine_step
from ..records.models import Node, OutcomeStatus
from ..runtime import Runtime
from . import barrier
from .attempts import Admission, Attempts, explain_overrun
from .heartbeat import Heartbeat
from .outcome import conclude
from .result_reader import combined_values
from .step import begin_run, current_tally, describe_stage


def combine_ready_nodes(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery) -> bool:
    """Combine the nodes above some chunks that are ready, and return whether the job is complete.

    A node is ready if all entries below it exist. One listing per level. For each node one listing, one request to
    record the attempt, one to read each of at most 32 values, and one write. Memory: 8 of the values at a time, or all
    of them for a `combine` that takes a list.

    A group of 32 is full whether or not there is a manifest, so most nodes are made while setup still runs. At the
    right edge of the tree groups may be narrower, and wait for the manifest. Setup has them checked after writing it.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        ref: Chunks of one group, whose results exist.
        delivery: Earlier runs for the same message, as far as they are known.

    Raises:
        StorageError: The store does not answer. The check may safely run again, as a resumed delivery.
    """
    entry, level = ref.chunk, 0
    while True:
        # Before the listing: if there is no manifest yet, setup will see all results that this worker has written.
        manifest = job.manifest()
        if manifest is not None and manifest.setup_id != ref.setup_id:
            return False
        levels = barrier.levels_of(manifest.chunks) if manifest is not None else None
        if levels is not None and level == len(levels):
            # Without a manifest this worker has combined a group that is all there is.
            return True
        group, ledger = entry // GROUP_WIDTH, job.ledger
        entries = ledger.nodes(ref.setup_id, level, group) if level else ledger.landed(ref.setup_id, group)
        if len(entries) < (barrier.width_of(group, levels[level]) if levels is not None else GROUP_WIDTH):
            return False
        if levels is not None and level == len(levels) - 1:
            return True
        node = _Node(runtime, job, ref, delivery, level + 1, group, entries)
        if not node.exists() and not node.make():
            return False
        entry, level = group, level + 1


def combine_batch(runtime: Runtime, job: CachedJob, chunks: range, encoded: Sequence[bytes]) -> bytes | None:
    """Return the one encoded value of the results of a batch; None if combine raised, which ends the job.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job.
        chunks: The chunks of the batch.
        encoded: Their encoded values.
    """
    begin_run(step="combine")
    binding = job.declaration.binding
    values = (value for part in encoded for value in decode(part))
    try:
        combined = binding.call_combine(values, job.parameter_values(binding.combine_parameters))
        return encode(combined, path="combined", compression=job.options.compression)
    except BaseException as error:
        if runtime.is_interruption(error):
            raise
        current_tally().note_failure(error)
        _fail_to_combine(runtime, job, error, chunks)
        return None


def _fail_to_combine(
    runtime: Runtime, job: CachedJob, error: BaseException, chunks: range, *, attempts: int = 1
) -> None:
    """End the job, because combine has raised over the results of several chunks. The failure names the chunks."""
    add_note(error, _describe(chunks))
    runtime.on_error(error)
    conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("combine", error, attempts=attempts))


def _describe(chunks: range) -> str:
    return f"combining the results of chunks {chunks[0]} to {chunks[-1]}"


class _Node:
    """A node that is ready to be combined: all entries below it exist."""

    def __init__(
        self,
        runtime: Runtime,
        job: CachedJob,
        ref: ChunkRef,
        delivery: Delivery,
        level: int,
        index: int,
        entries: Landed,
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._setup_id = ref.setup_id
        self._delivery = delivery
        self._level = level
        self._index = index
        self._entries = entries
        self._step = combine_step(ref.setup_id, level, index)
        self._by = str(ref.chunk)
        """The first chunk instead of the run, so that a redelivered message recognises its own attempts."""
        self._stopped = False
        """Whether the job ended before all values were read."""
        self._attempts = Attempts(job.ledger, self._step, by=self._by, message=delivery.message, now=runtime.now)

    def exists(self) -> bool:
        return self._index in self._job.ledger.nodes(self._setup_id, self._level, self._index // GROUP_WIDTH)

    def make(self) -> bool:
        """Combine the values and write the node. Returns False if another worker does, or if the job has ended."""
        admission = self._admit()
        if admission is Admission.LEAVE:
            return False
        if admission is Admission.GIVE_UP:
            silent_s = None if self._delivery.is_lost else self._runtime.config.stall_s
            failure = self._attempts.find_failure(step="combine", silent_s=silent_s)
            failure = replace(failure, reason=f"{_describe(self._chunks)}: {failure.reason}")
            conclude(self._runtime, self._job, OutcomeStatus.FAILED, failure)
            return False
        started_at = time.time()
        stage = describe_stage(self._job, "combine", attempt=self._attempts.count, delivery=self._delivery)
        try:
            stall_s = self._runtime.config.stall_s
            with (
                self._attempts.record_if_interrupted(),
                self._runtime.telemetry.running(stage, Tally()),
                Heartbeat(
                    self._runtime.timers, self._job.ledger, self._step, stall_s=stall_s, by=self._by
                ) as heartbeat,
            ):
                values = self._combine(lambda: heartbeat.ended)
        except BaseException as error:
            if self._runtime.is_interruption(error):
                raise
            _fail_to_combine(self._runtime, self._job, error, self._chunks, attempts=self._attempts.count)
            return False
        if values is None:
            return False
        node = Node(
            level=self._level,
            index=self._index,
            failed=self._entries.failed_count,
            values=values,
            stats=self._job.stats(started_at).to_row(),
        )
        with self._attempts.record_if_interrupted():
            self._job.ledger.write_node(self._setup_id, node)
        return True

    def _admit(self) -> Admission:
        """Decide whether this worker combines the node, or leaves it to another one.

        The workers of the last few chunks of a group may all see it full. One of them starts, and the others are done
        with their messages: if the first dies, the broker redelivers its message. So every attempt has a record.
        """
        attempts, ledger, delivery = self._attempts, self._job.ledger, self._delivery
        if attempts.begin():
            return Admission.RUN
        limit, stall_s = self._job.options.max_attempts, self._runtime.config.stall_s
        last = ledger.attempt(self._step, ledger.attempts(self._step).last)
        is_own = last is not None and last.by == self._by and delivery.may_follow(last.message)
        if is_own and (delivery.is_lost or delivery.goes_on):
            explain = explain_overrun("combine", delivery.overran_s)
            return attempts.admit(replace(delivery, resent=False), limit=limit, explain=explain)
        return attempts.admit(Delivery(resent=True), limit=limit, stall_s=stall_s)

    def _combine(self, ended: Callable[[], bool]) -> bytes | None:
        """Return the encoded list of the one value, or of none if all items failed; None if the job has ended."""
        begin_run(step="combine", attempt=self._attempts.count)
        job = self._job
        binding = job.declaration.binding
        values = combined_values(job.ledger, self._setup_id, self._level - 1, self._entries)
        parameters = job.parameter_values(binding.combine_parameters)
        combined = binding.call_combine(self._read(values.chunks(), ended), parameters)
        return None if self._stopped else encode(combined, path="combined", compression=job.options.compression)

    def _read(self, lists: Iterator[list[Any]], ended: Callable[[], bool]) -> Iterator[Any]:
        for values in lists:
            if ended():
                self._stopped = True
                return
            yield from values

    @property
    def _chunks(self) -> range:
        """The chunks whose results the node combines."""
        width = GROUP_WIDTH**self._level
        first, end = self._index * width, (self._index + 1) * width
        manifest = self._job.cached_manifest()
        if manifest is not None:
            end = min(end, manifest.chunks)
        return range(first, end)
