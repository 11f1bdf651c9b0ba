"""How the messages of a job run on its workers: what is shared out, and how often a worker checks for the end."""

from __future__ import annotations

from dataclasses import dataclass

from ..stages.batch_run import PART_S, SHARE_AFTER_S
from ..stages.heartbeat import TICK_S
from .shape import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The messages, results and checks of a job of a given shape, if all items take equally long.

    Attributes:
        messages: Number of messages for process, those of parts included.
        results: Number of objects with results.
        marked: Number of batches that are shared out, each with a marker beside its object.
        puts: Number of objects that workers write for results, those without a result and markers included.
        ticks: Number of heartbeats, each with a look for the job's end.
    """

    messages: int
    results: int
    marked: int
    puts: int
    ticks: int

    @classmethod
    def of(cls, shape: Shape, item_s: float) -> Work:
        """Return the work of a job.

        Args:
            shape: The job's shape.
            item_s: Seconds of process for an item.
        """
        chunk_s = shape.chunk_items * item_s
        messages = results = marked = puts = 0
        for chunks, count in shape.messages.items():
            done, parts = share_out(chunks, chunk_s)
            if not parts and done == chunks:
                messages, results, puts = messages + count, results + count, puts + count
                continue
            # The object of the batch, which holds no result if no chunk was done; the chunk at work; the parts.
            messages += count * (1 + parts)
            results += count * ((done > 0) + 1 + parts)
            puts += count * (3 + parts)
            marked += count
        return cls(
            messages=messages,
            results=results,
            marked=marked,
            puts=puts,
            ticks=shape.chunks * int(chunk_s // TICK_S),
        )


def share_out(chunks: int, chunk_s: float) -> tuple[int, int]:
    """Return how many chunks of a batch its worker has done when it shares it out, and into how many parts.

    All chunks and 0 for a batch that is quick enough, and for a single chunk.

    Args:
        chunks: Number of chunks of the batch.
        chunk_s: Seconds that each takes.
    """
    whole = (chunks, 0)
    if chunks == 1 or chunks * chunk_s <= SHARE_AFTER_S:
        return whole
    done = int(SHARE_AFTER_S // chunk_s)
    if done and (chunks - done) * chunk_s < PART_S:
        return whole
    size = max(1, int(done * PART_S / SHARE_AFTER_S))
    return done, -(-(chunks - done - 1) // size)
