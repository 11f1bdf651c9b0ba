"""Messages for what a job lacks according to the store: its setup, some of its chunks, or its join."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from storage import CorruptObject, ObjectNotFound

from ..cached_job import CachedJob
from ..records.batch import Share
from ..records.chunk_ref import ChunkRef
from ..records.failure import Failure
from ..records.keys import SHARD_WIDTH
from ..records.models import Manifest, OutcomeStatus
from ..runtime import Runtime
from .barrier import completion_of
from .outcome import conclude, start_join


def send_missing(runtime: Runtime, job: CachedJob) -> None:
    """Begin a generation: send the messages that the job needs to go on. Nothing was sent in this generation before.

    One request for the manifest, one per 1,000 chunks, and those of `send_again`. Calling it twice is harmless.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job, in its new generation.
    """
    manifest = job.manifest()
    if manifest is None:
        runtime.dispatcher.send_setup(job.id, job.intent, generation=job.generation)
        return
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines)
    if completion.due:
        # A chunk with a result is marked as resent, so that its worker finds the result and makes the missing node.
        for chunks, resent in ((completion.missing, False), (list(completion.uncombined), True)):
            if chunks:
                send_again(runtime, job, manifest, chunks, resent=resent)
    else:
        start_join(runtime, job)


def send_again(
    runtime: Runtime, job: CachedJob, manifest: Manifest, chunks: Sequence[int], *, resent: bool = True
) -> bool:
    """Send messages for chunks again. A worker that receives one first checks whether the chunk is done or running.

    Chunks of one batch share a message, as far as the last listing by the job's ledger shows no other. The messages for
    one index object are sent before the next one is read.

    Requests: one listing per 1,000 recorded attempts, and one request for each index object and each shared batch that
    holds one of the chunks. Memory: one index object and its messages, and about 100 bytes for each chunk with a
    recorded attempt.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job, in its current generation.
        manifest: The job's manifest.
        chunks: Indices of the chunks, ascending.
        resent: Whether to mark the messages as resent, because earlier ones of this generation may still be queued.

    Returns:
        False if an index object is missing or damaged. Then the job has failed, for its chunks cannot be found.
    """
    ledger, setup_id = job.ledger, manifest.setup_id
    attempts = ledger.last_attempts(setup_id)
    for shard, wanted in by_shard(chunks):
        try:
            record = ledger.shard(manifest, shard)
        except (CorruptObject, ObjectNotFound) as error:
            conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", error))
            return False
        refs = [
            part
            for chunk, location in record.batches.items()
            for part in find_parts(
                ChunkRef(job.id, job.launch_id, setup_id, chunk, location, resent=resent, generation=job.generation),
                wanted,
                share_of=lambda ref: ledger.share(setup_id, ref.chunk, ref.count),
                attempts_of=attempts.__getitem__,
            )
        ]
        runtime.dispatcher.send_chunks(job.intent, refs)
    return True


def by_shard(chunks: Iterable[int]) -> Iterator[tuple[int, frozenset[int]]]:
    """Yield the number of each index shard that holds some of the chunks, with these chunks.

    Args:
        chunks: Indices of chunks, ascending.
    """
    for shard, members in groupby(chunks, lambda chunk: chunk // SHARD_WIDTH):
        yield shard, frozenset(members)


def find_parts(
    ref: ChunkRef,
    wanted: Collection[int],
    *,
    share_of: Callable[[ChunkRef], Share | None],
    attempts_of: Callable[[int], int],
) -> Iterator[ChunkRef]:
    """Yield the parts of a batch that have a message of their own and hold one of the wanted chunks, in chunk order.

    A part whose share is unknown goes as a whole. Its worker follows the share, if there is one by then.

    Args:
        ref: The batch, or a single chunk.
        wanted: Indices of chunks.
        share_of: Returns how a batch was shared out; None if it is not known to be.
        attempts_of: Returns the number of a chunk's last recorded attempt.
    """
    if not any(chunk in wanted for chunk in ref.chunks):
        return
    if ref.count == 1:
        yield replace(ref, attempts=attempts_of(ref.chunk))
        return
    share = share_of(ref)
    if share is None or any(chunk in wanted for chunk in ref.chunks[: share.done]):
        yield ref
        share = share or Share(ref.count, ())
    for part in ref.parts(share.parts, start=share.done):
        yield from find_parts(part, wanted, share_of=share_of, attempts_of=attempts_of)
