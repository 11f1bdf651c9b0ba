"""A large job: its assumptions, and what follows from them by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from fanout.records.keys import GROUP_WIDTH, SHARD_WIDTH
from fanout.results import WINDOW
from fanout.stages.batch_run import SHARE_AFTER_S as SHARE_AFTER_S
from fanout.stages.heartbeat import TICK_S as TICK_S

PAGE_KEYS = 1000
"""Keys in a page of a listing."""
Message = tuple[int, int]
"""First chunk, and number of chunks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job without `combine`, and the machinery that runs it. Input is small, and no process dies.

    Attributes:
        chunks: Number of chunks.
        workers: Number of worker processes.
        chunk_s: Seconds that the user's code takes for a chunk.
        batch: Chunks in a message of setup's; 1 where each chunk has over 256 kB.
        prefixes: Number of S3's partitions that the job's keys lie on, evenly.
        request_s: Seconds of a GET, HEAD or PUT.
        page_s: Seconds of a page of a listing.
        setup_message_s: Seconds in which setup sends a message.
        setup_chunk_s: Seconds in which setup encodes and packs a chunk.
        loop_s: Seconds of a worker's CPU for a message, beside the user's code.
        broker_rate: Messages that the broker delivers per second.
        reads_shared: Whether a process that lists results reads the object of each batch that was shared out, once and
            one after another, to know how many chunks it holds.
    """

    chunks: int = 1_000_000
    workers: int = 1000
    chunk_s: float = 1.0
    batch: int = GROUP_WIDTH
    prefixes: int = 1
    request_s: float = 0.05
    page_s: float = 0.1
    setup_message_s: float = 0.001
    setup_chunk_s: float = 0.00005
    loop_s: float = 0.002
    broker_rate: float = 10_000.0
    reads_shared: bool = False

    @property
    def work_s(self) -> float:
        """Seconds of the user's code alone, on all workers."""
        return self.chunks * self.chunk_s / self.workers

    @property
    def ticks(self) -> int:
        """Heartbeats of a chunk, each with one look for the job's end."""
        return int(self.chunk_s // TICK_S)

    @property
    def index_shards(self) -> int:
        """Objects that hold the places of the chunks."""
        return -(-self.chunks // SHARD_WIDTH)

    @property
    def batches_a_group(self) -> int:
        """Messages of setup's for a full group."""
        return -(-GROUP_WIDTH // self.batch)

    def is_shared_out(self, chunks: int) -> bool:
        """Return whether a batch of so many chunks lasts too long."""
        return chunks > 1 and chunks * self.chunk_s > SHARE_AFTER_S

    @property
    def done_in_time(self) -> int:
        """Chunks that a worker has done when it shares out a batch."""
        return int(SHARE_AFTER_S // self.chunk_s) if self.chunk_s else GROUP_WIDTH

    def parts(self, first: int, count: int) -> list[Message]:
        """Return what a worker hands to others of a batch that it shares out: parts of the size that it has done.

        It keeps the chunk after those that it has done.
        """
        size = max(1, self.done_in_time)
        starts = range(first + self.done_in_time + 1, first + count, size)
        return [(start, min(size, first + count - start)) for start in starts]

    @property
    def objects_a_chunk(self) -> float:
        """Objects in `results/` for each chunk: one for a batch, or those of a batch that is shared out.

        These are its own, its marker, that of the chunk at which its worker was, and one for each part.
        """
        objects = 3 + len(self.parts(0, self.batch)) if self.is_shared_out(self.batch) else 1
        return objects / self.batch

    def first_batch(self, number: int) -> Message:
        """Return the first chunk and the number of chunks of a message of setup's; (_, 0) behind the last one.

        A batch ends at the end of its group.
        """
        group, place = divmod(number, self.batches_a_group)
        first = group * GROUP_WIDTH + place * self.batch
        return first, max(0, min(first + self.batch, (group + 1) * GROUP_WIDTH, self.chunks) - first)

    def sent_s(self, number: int) -> float:
        """Return when setup sends a message. Packs wait for nothing: setup sends as fast as it can."""
        first, count = self.first_batch(number)
        return (number + 1) * self.setup_message_s + (first + count) * self.setup_chunk_s

    def join_s(self, results: int, shared: int) -> float:
        """Return the seconds from the join's message to the outcome: a listing of all results, and their reads.

        Args:
            results: Number of objects with results.
            shared: Number of batches that were shared out; each has a marker beside its object.
        """
        pages = -(-(results + shared) // PAGE_KEYS)
        reads = -(-results // WINDOW) + (shared if self.reads_shared else 0)
        return pages * self.page_s + reads * self.request_s
