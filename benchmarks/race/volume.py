"""What the store's benchmark moves: chunks of documents, cut and packed as setup would."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from storage import SequenceEncoder

from ..text import documents
from .works import Load

THREADS = 4
"""Requests at once, in each direction and for every entry; fanout's default for uploads."""
CHUNK_DOCUMENTS = 100
PACK_CHUNKS = 8
"""Chunks of 1 MB that fill a pack of 8 MiB."""


def chunks_of(load: Load) -> Iterator[SequenceEncoder]:
    """The load's documents in chunks of 100: what encodes them, each time that it has a chunk to be taken."""
    encoder = SequenceEncoder()
    for document in documents(load.size_bytes):
        encoder.add({"document": document})
        if len(encoder) == CHUNK_DOCUMENTS:
            yield encoder
    if len(encoder):
        yield encoder


def packs_of(load: Load) -> Iterator[list[bytes]]:
    """The chunks, pack by pack."""
    pack: list[bytes] = []
    for encoder in chunks_of(load):
        pack.append(encoder.finish())
        if len(pack) == PACK_CHUNKS:
            yield pack
            pack = []
    if pack:
        yield pack


def threads() -> ThreadPoolExecutor:
    """As many threads as there may be requests."""
    return ThreadPoolExecutor(THREADS)
