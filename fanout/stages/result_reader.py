"""What is read of a job's results: of one chunk, of all of them for join, or of what combine made of them."""

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
    """A chunk whose result is wanted has failed."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        super().__init__(failure)


def chunk_values(
    ledger: Ledger, setup_id: str, chunk: int, *, failed: int | None = None, tolerant: bool = False
) -> list[Any]:
    """The results of one chunk, with a `FailedItem` in the place of each that failed. One request.

    Of a chunk whose results are combined: the one value, if any item gave one, and then the failed items.

    Args:
        ledger: The job's records.
        setup_id: The setup attempt that counts.
        chunk: Index of the chunk.
        failed: How many of its items failed; None if nobody knows, which costs another request.
        tolerant: Whether items may fail.

    Raises:
        ChunkFailed: Items failed that may not.
        CorruptObject: It is missing or damaged, although a listing showed it.
    """
    result = ledger.current_result(setup_id, chunk) if failed is None else ledger.result(setup_id, chunk, failed)
    key = ledger.keys.bad_result(setup_id, chunk, failed) if failed else ledger.keys.result(setup_id, chunk)
    if result is None:
        raise CorruptObject(f"{key} was listed but is not there: was it deleted?", key=key)
    if result.failed is not None:
        if not tolerant:
            raise ChunkFailed(result.failed)
        return list(result.failed_items)
    values: list[Any] = decode(result.values, key=key)
    if result.combined:
        return [*values, *result.failed_items]
    if len(values) != result.items:
        raise CorruptObject(f"{key} holds {len(values)} results for {result.items} items", key=key)
    for mark in result.failed_items:
        values[mark.item - result.first_item] = mark
    return values


def node_values(ledger: Ledger, setup_id: str, level: int, index: int, *, failed: int) -> list[Any]:
    """The one value of a node; none if all items below it failed. One request.

    Raises:
        CorruptObject: It is missing or damaged, although a listing showed it.
    """
    keys = ledger.keys
    key = keys.bad_node(setup_id, level, index, failed) if failed else keys.node(setup_id, level, index)
    node = ledger.node(setup_id, level, index, failed)
    if node is None:
        raise CorruptObject(f"{key} was listed but is not there: was it deleted?", key=key)
    values: list[Any] = decode(node.values, key=key)
    return values


def combined_values(ledger: Ledger, setup_id: str, level: int, entries: dict[int, int]) -> Results:
    """The combined values of some entries of a level of the tree, lazily and in order; those without one left out.

    Reading holds at most 8 of them. One request each; where items failed, one more for each entry that has some.

    Args:
        ledger: The job's records.
        setup_id: The setup attempt that counts.
        level: The level; 0 for the results of chunks.
        entries: Index of a chunk or node -> how many items below it failed.
    """

    def fetch(entry: int) -> list[Any]:
        failed = entries[entry]
        if level:
            return node_values(ledger, setup_id, level, entry, failed=failed)
        values = chunk_values(ledger, setup_id, entry, failed=failed, tolerant=True)
        return [value for value in values if not isinstance(value, FailedItem)]

    # All of its items may have failed; only reading it tells.
    there = [entry for entry, failed in entries.items() if not failed or fetch(entry)]
    starts = list(range(len(there)))
    return Results(len(there), len(there), lambda place: fetch(there[place]), lambda: starts, sum(entries.values()))


def join_results(ledger: Ledger, manifest: Manifest, completion: Completion, *, combines: bool) -> Results:
    """What the join of a complete job is given, lazily.

    Args:
        ledger: The job's records.
        manifest: What setup made.
        completion: What the job's results are, and how many items failed.
        combines: Whether they are combined.
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
