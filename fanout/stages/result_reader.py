"""The results of a job, as they are read: of one chunk, of one node, or of all chunks for the join."""

from __future__ import annotations

from typing import Any

from storage import CorruptObject, decode

from ..errors import FanoutError
from ..records.failure import FailedItem, Failure
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


def chunk_values(
    ledger: Ledger, setup_id: str, chunk: int, *, failed: int | None = None, tolerant: bool = False
) -> list[Any]:
    """Return the results of one chunk in item order, with a `FailedItem` in the place of each that failed. One request.

    For a chunk whose results are combined, return the one value, unless all items failed, and then the failed items.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunk.
        chunk: Index of the chunk.
        failed: Number of its items that failed; None if unknown, which costs one request more.
        tolerant: Whether to return a chunk that failed as a whole.

    Raises:
        ChunkFailed: The chunk failed as a whole, and that is not tolerated.
        CorruptObject: The result is missing or damaged, although a listing showed it.
    """
    result = ledger.current_result(setup_id, chunk) if failed is None else ledger.result(setup_id, chunk, failed)
    key = ledger.keys.bad_result(setup_id, chunk, failed) if failed else ledger.keys.result(setup_id, chunk)
    if result is None:
        raise CorruptObject(f"{key} was listed but does not exist: was it deleted?", key=key)
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


def node_values(ledger: Ledger, setup_id: str, level: int, index: int, *, failed: int) -> list[Any]:
    """Return a list of the one value of a node; an empty list if all items below it failed. One request.

    Raises:
        CorruptObject: The node is missing or damaged, although a listing showed it.
    """
    keys = ledger.keys
    key = keys.bad_node(setup_id, level, index, failed) if failed else keys.node(setup_id, level, index)
    node = ledger.node(setup_id, level, index, failed)
    if node is None:
        raise CorruptObject(f"{key} was listed but does not exist: was it deleted?", key=key)
    values: list[Any] = decode(node.values, key=key)
    return values


def combined_values(ledger: Ledger, setup_id: str, level: int, entries: dict[int, int]) -> Results:
    """Return the combined values of some entries of a level of the tree, in order, without entries that have none.

    The values are read lazily, at most 8 at a time. One request for each value. This call makes one request for each
    entry below which items failed.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunks.
        level: The level of the tree; 0 for the results of chunks.
        entries: Index of a chunk or node -> number of items below it that failed.
    """

    def fetch(entry: int) -> list[Any]:
        failed = entries[entry]
        if level:
            return node_values(ledger, setup_id, level, entry, failed=failed)
        values = chunk_values(ledger, setup_id, entry, failed=failed, tolerant=True)
        return [value for value in values if not isinstance(value, FailedItem)]

    # Only reading an entry with failed items tells whether others gave a value.
    existing = [entry for entry, failed in entries.items() if not failed or fetch(entry)]
    first_items = list(range(len(existing)))
    return Results(
        len(existing),
        len(existing),
        lambda index: fetch(existing[index]),
        lambda: first_items,
        failed=sum(entries.values()),
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
    landed = completion.landed

    def first_items() -> list[int]:
        shards = (ledger.shard(manifest, shard) for shard in range(len(manifest.shards) or 1))
        return [location.first_item for shard in shards for location in shard.locations]

    return Results(
        manifest.chunks,
        manifest.items,
        lambda chunk: chunk_values(ledger, manifest.setup_id, chunk, failed=landed[chunk], tolerant=True),
        first_items,
        failed=sum(landed.values()),
    )
