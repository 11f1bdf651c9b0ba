"""After a chunk: is its group full, is the job complete? In a job with `combine` full groups are combined on the way.

Combined results form a tree. Whoever writes the last result of a group of chunks combines the group's values into a
node; whoever writes the last node of a group of these combines them into a node of the next level; and so on, up to
the level whose at most 32 values the join is given. All of that happens in the message of the chunk that came last, so
when its worker dies the broker delivers it again, and its next run finds the chunk's result and climbs on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from storage import encode

from ..records.chunk_ref import ChunkRef
from ..records.failure import Failure, add_note
from ..records.keys import GROUP_WIDTH, combine_step
from ..records.models import Node, OutcomeStatus
from ..records.run_stats import RunStats
from ..runtime import CachedJob, Runtime
from . import barrier
from .attempts import Admission, Attempts, overran
from .delivery import Delivery
from .heartbeat import Heartbeat
from .outcome import conclude
from .result_reader import combined_values


def complete_after(runtime: Runtime, job: CachedJob, ref: ChunkRef, delivery: Delivery, *, by: str) -> bool:
    """Whether the job is complete, as far as the worker that just finished a chunk can tell.

    In a job with `combine` it makes the nodes above the chunk that are due. That takes one listing a level; and for
    each node that it makes a look, a record that it begins, a fetch of each of at most 32 values, and a write. It holds
    8 of the values at a time, or all of them for a combine that takes a list.

    A group of 32 is full whether or not there is a manifest, so most nodes are made while setup still works. At the
    right edge, where groups may be narrower, they wait for the manifest: setup looks after it has written that.

    Args:
        runtime: Store, settings, carrier.
        job: The job.
        ref: Names the chunk, whose result stands.
        delivery: What is known of earlier runs for the same message.
        by: Token of the run.

    Raises:
        StorageError: The store does not answer; looking again, `retried`, is safe.
    """
    if not job.intent.combines:
        return barrier.complete_after(job.ledger, ref.setup_id, ref.chunk, job.manifest, by=by)
    entry, level = ref.chunk, 0
    while True:
        # Asked for before the listing: if there is none yet, whoever writes it will see what we have written.
        manifest = job.manifest()
        if manifest is not None and manifest.setup_id != ref.setup_id:
            return False
        levels = barrier.levels_of(manifest.chunks) if manifest is not None else None
        if levels is not None and level == len(levels):
            # The group that we have just combined, when nobody could know, is all there is.
            return True
        group, ledger = entry // GROUP_WIDTH, job.ledger
        entries = ledger.nodes(ref.setup_id, level, group) if level else ledger.landed(ref.setup_id, group)
        if len(entries) < (barrier.width_of(group, levels[level]) if levels is not None else GROUP_WIDTH):
            return False
        if levels is not None and level == len(levels) - 1:
            return True
        node = _Node(runtime, job, ref, level + 1, group, entries)
        if not node.is_there() and not node.make(delivery):
            return False
        entry, level = group, level + 1


class _Node:
    """A node of combined results that is due: all is there that it combines."""

    def __init__(
        self, runtime: Runtime, job: CachedJob, ref: ChunkRef, level: int, index: int, entries: dict[int, int]
    ) -> None:
        self._runtime = runtime
        self._job = job
        self._setup_id = ref.setup_id
        self._level = level
        self._index = index
        self._entries = entries
        self._step = combine_step(ref.setup_id, level, index)
        self._by = str(ref.chunk)
        """The chunk, and not the run: then a redelivered message knows its own tries."""
        self._stopped = False
        """Whether the job ended before all values were read."""
        self._attempts = Attempts(job.ledger, self._step, by=self._by, now=runtime.now)

    def is_there(self) -> bool:
        return self._index in self._job.ledger.nodes(self._setup_id, self._level, self._index // GROUP_WIDTH)

    def make(self, delivery: Delivery) -> bool:
        """Combine the values and write the node; False if that is somebody else's to do, or ended the job."""
        admission = self._admit(delivery)
        if admission is Admission.LEAVE:
            return False
        if admission is Admission.GIVE_UP:
            silent_s = None if delivery.is_lost else self._runtime.config.stall_s
            verdict = self._attempts.verdict(step="combine", silent_s=silent_s)
            self._conclude(replace(verdict, reason=f"{self._what}: {verdict.reason}"))
            return False
        started_at = time.time()
        try:
            stall_s = self._runtime.config.stall_s
            with (
                self._attempts.under_way(),
                Heartbeat(
                    self._runtime.timers, self._job.ledger, self._step, stall_s=stall_s, by=self._by
                ) as heartbeat,
            ):
                values = self._combined(lambda: heartbeat.ended)
        except BaseException as error:
            if self._runtime.is_interruption(error):
                raise
            add_note(error, self._what)
            self._runtime.on_error(error)
            self._conclude(Failure.of("combine", error, attempts=self._attempts.count))
            return False
        if values is None:
            return False
        node = Node(
            level=self._level,
            index=self._index,
            failed=sum(self._entries.values()),
            values=values,
            stats=RunStats.since(started_at).to_row(),
        )
        with self._attempts.under_way():
            self._job.ledger.write_node(self._setup_id, node)
        return True

    def _admit(self, delivery: Delivery) -> Admission:
        """Whether to combine, or to leave it to another worker that is at it.

        The last few chunks of a group may all see it full. One of them begins; the message of each of the others is
        done, for if that one dies its own message comes back. So every run is on record, the first one, too.
        """
        attempts, ledger = self._attempts, self._job.ledger
        if attempts.begin():
            return Admission.RUN
        limit, stall_s = self._job.options.max_attempts, self._runtime.config.stall_s
        last = ledger.attempt(self._step, ledger.attempts(self._step).last)
        if last is not None and last.by == self._by and (delivery.is_lost or delivery.goes_on):
            why = overran("combine", delivery.overran_s)
            return attempts.admit(replace(delivery, resent=False), limit=limit, why=why)
        return attempts.admit(Delivery(resent=True), limit=limit, stall_s=stall_s)

    def _combined(self, ended: Callable[[], bool]) -> bytes | None:
        """The encoded list of the one value, or of none; None if the job ended while we worked."""
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

    def _conclude(self, failure: Failure) -> None:
        conclude(self._runtime, self._job, OutcomeStatus.FAILED, failure)

    @property
    def _what(self) -> str:
        """Which chunks' results it combines."""
        width = GROUP_WIDTH**self._level
        first, end = self._index * width, (self._index + 1) * width
        manifest = self._job.cached_manifest()
        if manifest is not None:
            end = min(end, manifest.chunks)
        return f"combining the results of chunks {first} to {end - 1}"
