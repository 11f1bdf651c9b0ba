"""The results of a job, as they are read: of one chunk, batch or node, or of all chunks for the join."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import accumulate, chain
from typing import Any

from storage import CorruptObject, decode

from ..errors import FanoutError
from ..records.batch import Landed, ResultEntry
from ..records.failure import FailedItem, Failure
from ..records.keys import SHARD_WIDTH
from ..records.ledger import Ledger
from ..records.models import Manifest
from ..results import Results
from .barrier import Completion


class ChunkFailed(FanoutError):
    """The chunk that was to be read has failed.

    Attributes:
        failure: Why.
    """

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure)


def entry_values(ledger: Ledger, setup_id: str, entry: ResultEntry, *, tolerant: bool = False) -> list[Any]:
    """Return the results in one object, in item order, with a `FailedItem` for each that failed. One request.

    For chunks whose results are combined, return the one value of each, unless all items failed, and then the failed
    items.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunks.
        entry: The object.
        tolerant: Whether to return a chunk that failed as a whole.

    Raises:
        ChunkFailed: The chunk failed as a whole, and that is not tolerated.
        CorruptObject: The object is missing or damaged, although a listing showed it.
    """
    if entry.width > 1:
        return _batch_values(ledger, setup_id, entry)
    chunk, failed = entry.index, entry.failed
    result = ledger.result(setup_id, chunk, failed)
    key = ledger.keys.bad_result(setup_id, chunk, failed) if failed else ledger.keys.result(setup_id, chunk)
    if result is None:
        raise _missing(key)
    if result.failed is not None:
        if not tolerant:
            raise ChunkFailed(result.failed)
        return list(result.failed_items)
    values: list[Any] = decode(result.values, key=key)
    if result.combined:
        return [*values, *result.failed_items]
    if len(values) != result.items:
        raise CorruptObject(f"{key} holds {len(values)} results for {result.items} items", key=key)
    for failed_item in result.failed_items:
        values[failed_item.item - result.first_item] = failed_item
    return values


def _batch_values(ledger: Ledger, setup_id: str, entry: ResultEntry) -> list[Any]:
    key = ledger.keys.batch_result(setup_id, entry.index, entry.width)
    result = ledger.batch_result(setup_id, entry.index, entry.width)
    if result is None:
        raise _missing(key)
    if result.done != entry.count:
        raise CorruptObject(f"{key} holds the results of {result.done} chunks, not of {entry.count}", key=key)
    return [value for values in result.values for value in decode(values, key=key)]


def entry_items(
    values: Sequence[Any], entry: ResultEntry, first_items: FirstItems, *, combines: bool
) -> list[tuple[int, Any]]:
    """Return the results in one object, each with the index of its item; of a combined value, of its first item.

    Args:
        values: The results; see `entry_values`.
        entry: The object.
        first_items: The first items of the job's chunks, with those of this object loaded.
        combines: Whether the results are combined.
    """
    if not combines:
        return list(enumerate(values, first_items.of(entry.index)))
    return [
        (value.item, value) if isinstance(value, FailedItem) else (first_items.of(entry.index + position), value)
        for position, value in enumerate(values)
    ]


class FirstItems:
    """The index of each chunk's first item. Memory: some bytes for each chunk that was loaded.

    Args:
        ledger: The job's records.
        manifest: The job's manifest.
    """

    def __init__(self, ledger: Ledger, manifest: Manifest) -> None:
        self._ledger = ledger
        self._manifest = manifest
        self._shards: dict[int, array[int]] = {}

    def load(self, chunk: int) -> None:
        """Make the first item of a chunk, and of all chunks beside it, known. One request per 1,024 chunks."""
        shard = chunk // SHARD_WIDTH
        if shard in self._shards:
            return
        locations = self._ledger.shard(self._manifest, shard).batches.values()
        self._shards[shard] = array(
            "q", chain.from_iterable(accumulate(at.sizes[:-1], initial=at.first_item) for at in locations)
        )

    def of(self, chunk: int) -> int:
        """Return the index of a chunk's first item over the whole job. The chunk must be loaded."""
        shard, position = divmod(chunk, SHARD_WIDTH)
        return self._shards[shard][position]


def _missing(key: str) -> CorruptObject:
    return CorruptObject(f"{key} was listed but does not exist: was it deleted?", key=key)


def node_values(ledger: Ledger, setup_id: str, level: int, index: int, *, failed: int) -> list[Any]:
    """Return a list of the one value of a node; an empty list if all items below it failed. One request.

    Raises:
        CorruptObject: The node is missing or damaged, although a listing showed it.
    """
    keys = ledger.keys
    key = keys.bad_node(setup_id, level, index, failed) if failed else keys.node(setup_id, level, index)
    node = ledger.node(setup_id, level, index, failed)
    if node is None:
        raise _missing(key)
    values: list[Any] = decode(node.values, key=key)
    return values


def combined_values(ledger: Ledger, setup_id: str, level: int, landed: Landed) -> Results:
    """Return the combined values of some entries of a level of the tree, in order, without entries that have none.

    The values are read lazily, at most 8 objects at a time. One request for each object. This call makes one request
    for each entry below which items failed.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunks.
        level: The level of the tree; 0 for the results of chunks.
        landed: The entries.
    """

    def fetch(entry: ResultEntry) -> list[Any]:
        if level:
            return node_values(ledger, setup_id, level, entry.index, failed=entry.failed)
        values = entry_values(ledger, setup_id, entry, tolerant=True)
        return [value for value in values if not isinstance(value, FailedItem)]

    # Only reading an entry with failed items tells whether others gave a value.
    existing = [entry for entry in landed.entries if not entry.failed or fetch(entry)]
    first_values = list(accumulate((entry.combined_values for entry in existing), initial=0))
    return Results(
        len(existing),
        first_values.pop(),
        lambda index: fetch(existing[index]),
        lambda: first_values,
        failed=landed.failed_count,
    )


def join_results(ledger: Ledger, manifest: Manifest, completion: Completion, *, combines: bool) -> Results:
    """Return the results of a complete job for its join. They are read lazily.

    Args:
        ledger: The job's records.
        manifest: The job's manifest.
        completion: The results that exist, and how many items of each failed.
        combines: Whether the results are combined.
    """
    if combines:
        return combined_values(ledger, manifest.setup_id, completion.level, completion.top)
    entries = completion.landed.entries

    def first_items() -> list[int]:
        shards = (ledger.shard(manifest, shard) for shard in range(len(manifest.shards) or 1))
        sizes = (size for shard in shards for location in shard.batches.values() for size in location.sizes)
        first_items = list(accumulate(sizes, initial=0))
        return [first_items[entry.index] for entry in entries]

    return Results(
        len(entries),
        manifest.items,
        lambda index: entry_values(ledger, manifest.setup_id, entries[index], tolerant=True),
        first_items,
        failed=completion.landed.failed_count,
    )
