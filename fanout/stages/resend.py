"""Sends what a job lacks, as the store shows it: its setup, some of its chunks, or its join."""

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
    """Begin a round: send what is missing of a job of which nothing was sent yet in the round that it is open in.

    One request for the manifest, one for 1,000 chunks, and those of `send_again`. Sending it twice is harmless.
    """
    manifest = job.manifest()
    if manifest is None:
        runtime.dispatcher.send_setup(job.id, job.intent, generation=job.generation)
        return
    completion = completion_of(job.ledger, manifest, combines=job.intent.combines, by=new_token())
    if completion.due:
        # Whoever gets one of the others finds that its result stands, and goes on from there.
        for chunks, resent in ((completion.missing, False), (completion.uncombined, True)):
            if chunks:
                send_again(runtime, job, manifest, chunks, resent=resent)
    else:
        start_join(runtime, job)


def send_again(
    runtime: Runtime, job: CachedJob, manifest: Manifest, chunks: Collection[int], *, resent: bool = True
) -> bool:
    """Send these chunks, marked as nudged: whoever gets one looks first whether it is done or being worked on.

    One listing of the tries on record, and one request for each index object that holds one of the chunks.

    Args:
        runtime: Store, settings, carrier.
        job: The job, in its round.
        manifest: What setup made.
        chunks: Their indices.
        resent: Whether earlier messages of this round may still be under way.

    Returns:
        False if an index object is damaged or gone: the job has been concluded, for nothing else says where its chunks
        lie.
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
