"""Chunks whose messages may be lost are sent again."""

from __future__ import annotations

from collections.abc import Collection

from ..handle import Handle
from ..keys import SHARD_WIDTH
from ..records import Manifest
from ..runtime import OpenJob, Runtime


def send_again(runtime: Runtime, job: OpenJob, manifest: Manifest, chunks: Collection[int]) -> None:
    """Send these chunks, marked as nudged: whoever gets one looks first whether it is done or being worked on.

    One listing of the tries on record, and one request for each index object that holds one of the chunks.
    """
    tries = job.ledger.tries_by_chunk(manifest.attempt)
    for shard in sorted({chunk // SHARD_WIDTH for chunk in chunks}):
        record = job.ledger.shard(manifest, shard)
        places = dict(enumerate(record.places, start=record.first_chunk))
        handles = [
            Handle(job.id, manifest.attempt, chunk, places[chunk], tries=tries[chunk], nudged=True)
            for chunk in chunks
            if chunk in places
        ]
        runtime.carrier.send_chunks(job.intent.task, handles)
