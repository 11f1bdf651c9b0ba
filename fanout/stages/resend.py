"""Messages for what a job lacks according to the store: its setup, some of its chunks, or its join."""

from __future__ import annotations

from collections.abc import Collection

from storage import CorruptObject, ObjectNotFound

from ..records.chunk_ref import ChunkRef
from ..records.failure import Failure
from ..records.keys import SHARD_WIDTH, new_token
from ..records.models import Manifest, OutcomeStatus
from ..runtime import CachedJob, Runtime
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
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines, by=new_token())
    if completion.due:
        # A chunk with a result is marked as resent, so that its worker finds the result and makes the missing node.
        for chunks, resent in ((completion.missing, False), (completion.uncombined, True)):
            if chunks:
                send_again(runtime, job, manifest, chunks, resent=resent)
    else:
        start_join(runtime, job)


def send_again(
    runtime: Runtime, job: CachedJob, manifest: Manifest, chunks: Collection[int], *, resent: bool = True
) -> bool:
    """Send messages for chunks again. A worker that receives one first checks whether the chunk is done or running.

    One listing per 1,000 recorded attempts, and one request for each index object that holds one of the chunks.

    Args:
        runtime: Store, settings and dispatcher.
        job: The job, in its current generation.
        manifest: The job's manifest.
        chunks: Indices of the chunks.
        resent: Whether to mark the messages as resent, because earlier ones of this generation may still be queued.

    Returns:
        False if an index object is missing or damaged. Then the job has failed, for its chunks cannot be found.
    """
    attempts = job.ledger.last_attempts(manifest.setup_id)
    for shard in sorted({chunk // SHARD_WIDTH for chunk in chunks}):
        try:
            record = job.ledger.shard(manifest, shard)
        except (CorruptObject, ObjectNotFound) as error:
            conclude(runtime, job, OutcomeStatus.FAILED, Failure.of("setup", error))
            return False
        locations = dict(enumerate(record.locations, start=record.first_chunk))
        refs = [
            ChunkRef(
                job.id,
                job.launch_id,
                manifest.setup_id,
                chunk,
                locations[chunk],
                attempts=attempts[chunk],
                resent=resent,
                generation=job.generation,
            )
            for chunk in chunks
            if chunk in locations
        ]
        runtime.dispatcher.send_chunks(job.intent, refs)
    return True
