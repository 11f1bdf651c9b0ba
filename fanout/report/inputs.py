"""Where the items of a job's chunks lie, and since when."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from functools import partial
from itertools import chain

from ..records.batch import ResultEntry
from ..records.ledger import Ledger
from ..records.models import Manifest
from ..results import read_ahead


class Inputs:
    """The items of a job's chunks, as the index of setup locates them. Memory: 24 bytes for each batch of setup.

    One request per 1,024 chunks.

    Args:
        ledger: The job's records.
        manifest: The manifest.
        written_at: Key of each pack -> when it was written, by the store's clock.
    """

    def __init__(self, ledger: Ledger, manifest: Manifest, written_at: dict[str, float]) -> None:
        self._first_chunks, self._bytes, self._ready_at = array("q"), array("d"), array("d")
        shards = [partial(ledger.shard, manifest, shard) for shard in range(len(manifest.shards) or 1)]
        for first, at in chain.from_iterable(shard.batches.items() for shard in read_ahead(shards)):
            self._first_chunks.append(first)
            self._bytes.append(at.slice_.length / len(at.sizes))
            self._ready_at.append(written_at.get(ledger.keys.pack(manifest.setup_id, at.slice_.pack), 0.0))

    def __len__(self) -> int:
        """Return the number of batches that setup made."""
        return len(self._first_chunks)

    def bytes_of(self, entry: ResultEntry) -> int:
        """Return the size of the items whose results an object holds. The chunks of a batch count alike."""
        return round(self._bytes[self._find(entry)] * entry.count)

    def ready_at(self, entry: ResultEntry) -> float | None:
        """Return when these items were in the store, in seconds since the epoch; None if their pack is gone."""
        return self._ready_at[self._find(entry)] or None

    def _find(self, entry: ResultEntry) -> int:
        return bisect_right(self._first_chunks, entry.index) - 1
