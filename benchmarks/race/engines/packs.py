"""fanout's data plane by itself: encode, pack and upload; fetch and decode."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from storage import ObjectStore, PackReader, PackWriter, Slice, decode, open_store

from ..entries import Entry
from ..volume import THREADS, chunks_of, threads
from ..works import Load
from . import Engine, Run


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine of uploads and of downloads of what was uploaded last."""
    store = open_store(os.environ["FANOUT_STORE"])
    slices: list[Slice] = []

    def prepared(load: Load) -> Run:
        return lambda timeout_s: _uploaded(load, store, slices) if load.work == "upload" else _downloaded(store, slices)

    yield prepared


def _uploaded(load: Load, store: ObjectStore, slices: list[Slice]) -> int:
    """Upload; returns the number of bytes that were encoded."""
    slices.clear()
    with PackWriter(store, _key, upload_concurrency=THREADS) as writer:
        for encoder in chunks_of(load):
            encoder.hand_over(writer.append)
            slices += writer.stored()
        slices += writer.close()
    return sum(piece.length for piece in slices)


def _downloaded(store: ObjectStore, slices: list[Slice]) -> int:
    """Read everything back; returns the number of documents' characters."""

    reader = PackReader(store)

    def characters(piece: Slice) -> int:
        key = _key(piece.pack)
        return sum(len(item["document"]) for item in decode(reader.read(key, piece), key=key))

    with threads() as pool:
        return sum(pool.map(characters, slices))


def _key(pack: int) -> str:
    return f"packs/{pack:06d}"
