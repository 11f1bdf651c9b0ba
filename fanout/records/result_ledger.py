"""The records of a job's results: of chunks, of batches, and of nodes of combined results."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from itertools import islice

from storage import ObjectInfo, ObjectStore

from ..logs import fields_of
from . import keys
from .batch import BatchResult, Landed, ResultEntry, ResultPage, Share
from .models import ChunkResult, Node, Note
from .record_io import read_record, write_record
from .run_ledger import RunLedger

_LOG = logging.getLogger(__name__)

PAGE = 1_000
"""Objects that one request lists."""


class ResultLedger(RunLedger):
    """The results of one launch of a job, as they count in one of its generations.

    Args:
        store: The job's store.
        job_id: The job.
        launch_id: The launch.
        generation: The generation.
    """

    def __init__(self, store: ObjectStore, job_id: str, launch_id: str, generation: int = 0) -> None:
        super().__init__(store, job_id, launch_id, generation)
        self._shared: set[tuple[str, int, int]] = set()
        """Setup id, first chunk and number of chunks of each listed batch that may be shared out."""
        self._shares: dict[tuple[str, int, int], Share] = {}
        """How these were shared out, as far as their objects were read."""

    def write_result(self, setup_id: str, result: ChunkResult) -> ChunkResult:
        """Write a chunk's result; return the current result of the chunk. Log a run that gave other bytes.

        A result with failed items has a key of its own, in this generation only, so that the key of a good result
        stays free. Before writing it, one request checks whether another run of the chunk has given a result.
        """
        key = self.keys.result(setup_id, result.chunk)
        if result.failed_count:
            existing = self.current_result(setup_id, result.chunk)
            if existing is not None:
                return existing
            key = self.keys.bad_result(setup_id, result.chunk, result.failed_count)
        current = write_record(self.store, key, result)
        if current is not result and current.content_digest() != result.content_digest():
            _LOG.warning(
                "job %s: chunk %d gave another result in a second run; the first result counts. "
                "Is process deterministic?",
                self.job_id,
                result.chunk,
                extra=fields_of(self.job_id, chunk=result.chunk),
            )
        return current

    def result(self, setup_id: str, chunk: int, failed: int = 0) -> ChunkResult | None:
        """Return the chunk's good result, or its result of this generation with that number of failed items."""
        key = self.keys.bad_result(setup_id, chunk, failed) if failed else self.keys.result(setup_id, chunk)
        return read_record(self.store, key, ChunkResult)

    def current_result(self, setup_id: str, chunk: int) -> ChunkResult | None:
        """Return the result, good or bad, of a chunk that no batch holds. Two requests if there is one."""
        failed = self._count_failed(self.keys.result(setup_id, chunk)).get(chunk)
        return self.result(setup_id, chunk, failed) if failed is not None else None

    def mark_shared(self, setup_id: str, chunk: int, count: int, *, done: int, note: Note) -> None:
        """Announce that the object of a batch may share out all chunks but the first `done`. Overwrites."""
        self.store.put(self.keys.share_marker(setup_id, chunk, count, done), note.to_bytes())

    def write_batch_result(self, setup_id: str, count: int, result: BatchResult) -> BatchResult:
        """Write the object of a batch of `count` chunks; return the one that the store holds.

        A result that shares chunks out must be announced first; see `mark_shared`. Logs a run that gave other values
        for all chunks.
        """
        current = write_record(self.store, self.keys.batch_result(setup_id, result.chunk, count), result)
        if (
            current is not result
            and current.done == result.done == count
            and current.content_digest() != result.content_digest()
        ):
            _LOG.warning(
                "job %s: chunks %d to %d gave other results in a second run; the first results count. "
                "Is process deterministic?",
                self.job_id,
                result.chunk,
                result.chunk + count - 1,
                extra=fields_of(self.job_id, chunk=result.chunk),
            )
        return current

    def batch_result(self, setup_id: str, chunk: int, count: int) -> BatchResult | None:
        """Return the object of a batch, if its fate is decided. Remembers how the batch was shared out; see `share`."""
        result = read_record(self.store, self.keys.batch_result(setup_id, chunk, count), BatchResult)
        place = (setup_id, chunk, count)
        if result is not None and (result.parts or place in self._shared):
            self._shares[place] = Share.of(result)
        return result

    def result_entries(self, setup_id: str, *, group: int | None = None, first_chunk: int = 0) -> Iterator[ResultEntry]:
        """Return the objects that hold results, in chunk order, as the listing shows them. They are listed lazily.

        One request per 1,000 objects, and one for each batch that may be shared out and has no part with a result yet,
        unless this ledger has read it before. The good result of a chunk counts, else the one of this generation with
        the fewest failed items. A bad result of an earlier generation does not count.

        Args:
            setup_id: The run of setup.
            group: The group to list; None for all chunks.
            first_chunk: The chunk to begin with, if no group is given. It must not be within an object that exists.
        """
        if group is not None:
            listing = self.store.list(self.keys.result_group(setup_id, group))
        else:
            listing = self._list_results(setup_id, first_chunk)
        return self._entries(setup_id, listing)

    def result_page(self, setup_id: str, *, first_chunk: int = 0, read_shares: bool = True) -> ResultPage:
        """Return the objects with results in the next page of a listing; see `result_entries`.

        One request, and with `read_shares` one for each batch that `result_entries` would read.

        Args:
            setup_id: The run of setup.
            first_chunk: The chunk to begin with. It must not be within an object that exists.
            read_shares: Whether to read a batch that may be shared out. If not, none of its chunks counts until a part
                of it has a result.
        """
        listing = list(islice(self._list_results(setup_id, first_chunk), PAGE))
        next_chunk = None
        if len(listing) == PAGE:
            # Only the object after a batch tells how far it is done, so the next page begins with the last object.
            next_chunk = max(keys.ResultKey.read(listing[-1].key).index, first_chunk + 1)
        entries = self._entries(setup_id, listing, read_shares=read_shares)
        return ResultPage(
            tuple(entry for entry in entries if next_chunk is None or entry.index < next_chunk), next_chunk
        )

    def _list_results(self, setup_id: str, first_chunk: int) -> Iterator[ObjectInfo]:
        after = self.keys.before_result(setup_id, first_chunk) if first_chunk else ""
        return self.store.list(self.keys.results(setup_id), start_after=after)

    def _entries(
        self, setup_id: str, listing: Iterable[ObjectInfo], *, read_shares: bool = True
    ) -> Iterator[ResultEntry]:
        """Yield the objects that hold results, from their listing; see `result_page`."""
        batch: keys.ResultKey | None = None
        announced: list[int] = []
        last = -1
        for info in listing:
            key = keys.ResultKey.read(info.key)
            if key.shared is not None:
                # Announcements come directly after their batch, if that exists.
                if batch is not None and (batch.index, batch.count) == (key.index, key.count):
                    announced.append(key.shared)
                continue
            if batch is not None:
                yield from self._batch_entry(setup_id, batch, announced, key.index, read_shares=read_shares)
                batch, announced = None, []
            if key.count > 1:
                batch = key
            elif key.generation in (None, self.generation) and key.index != last:
                # In the order of keys the good result comes first, then the one with the fewest failed items.
                last = key.index
                yield ResultEntry(key.index, failed=key.failed)
        if batch is not None:
            yield from self._batch_entry(setup_id, batch, announced, None, read_shares=read_shares)

    def _batch_entry(
        self,
        setup_id: str,
        batch: keys.ResultKey,
        announced: list[int],
        following: int | None,
        *,
        read_shares: bool,
    ) -> Iterator[ResultEntry]:
        """Yield the entry of a batch's object, if it holds results.

        Args:
            setup_id: The run of setup.
            batch: The batch.
            announced: Numbers of chunks that runs had done when they announced to share the others out.
            following: The chunk of the next object in the listing.
            read_shares: Whether to read the batch if the listing does not tell how much of it is done.
        """
        done = batch.count
        if announced:
            place = (setup_id, batch.index, batch.count)
            self._shared.add(place)
            # A part has an object only if the batch is shared out, and only a run that announced that has done it.
            is_shared = following is not None and following < batch.index + batch.count
            if is_shared and len(announced) == 1:
                done = announced[0]
            else:
                # Without an object the job was removed since the listing.
                share = self.share(*place) if read_shares else self._shares.get(place)
                done = share.done if share is not None else 0
        if done:
            yield ResultEntry(batch.index, done, batch.count)

    def share(self, setup_id: str, chunk: int, count: int) -> Share | None:
        """Return how a batch was shared out; None if this ledger has not seen that it was. At most one request."""
        place = (setup_id, chunk, count)
        if place in self._shared and place not in self._shares:
            self.batch_result(*place)
        return self._shares.get(place)

    def landed(self, setup_id: str, group: int | None = None) -> Landed:
        """Return the chunks that have a result; see `result_entries`.

        Args:
            setup_id: The run of setup.
            group: The group to list; None for all chunks.
        """
        return Landed(self.result_entries(setup_id, group=group))

    def _count_failed(self, prefix: str) -> dict[int, int]:
        failed_counts: dict[int, int] = {}
        for info in self.store.list(prefix):
            key = keys.ResultKey.read(info.key)
            if key.count == 1 and key.generation in (None, self.generation):
                # In the order of keys the good result comes first, then the one with the fewest failed items.
                failed_counts.setdefault(key.index, key.failed)
        return failed_counts

    def write_node(self, setup_id: str, node: Node) -> Node:
        """Write a node of combined results; return the current node, as `write_result` does."""
        key = self.keys.node(setup_id, node.level, node.index)
        if node.failed:
            failed = self._count_failed(key).get(node.index)
            existing = self.node(setup_id, node.level, node.index, failed) if failed is not None else None
            if existing is not None:
                return existing
            key = self.keys.bad_node(setup_id, node.level, node.index, node.failed)
        current = write_record(self.store, key, node)
        if current is not node and current.content_digest() != node.content_digest():
            _LOG.warning(
                "job %s: combining the same results again (level %d, node %d) gave another value; the first value "
                "counts. Is combine deterministic?",
                self.job_id,
                node.level,
                node.index,
                extra=fields_of(self.job_id, step="combine"),
            )
        return current

    def node(self, setup_id: str, level: int, index: int, failed: int = 0) -> Node | None:
        """Return the node over good results alone, or the node of this generation over that many failed items."""
        good, bad = self.keys.node(setup_id, level, index), self.keys.bad_node(setup_id, level, index, failed)
        return read_record(self.store, bad if failed else good, Node)

    def nodes(self, setup_id: str, level: int, group: int) -> Landed:
        """Return the nodes of one group of a level; see `landed`."""
        return _nodes(self._count_failed(self.keys.node_group(setup_id, level, group)))

    def tree(self, setup_id: str) -> dict[int, Landed]:
        """Return level -> its nodes. One request per 1,000 nodes."""
        levels: dict[int, dict[int, int]] = {}
        for info in self.store.list(self.keys.nodes(setup_id)):
            key = keys.ResultKey.read(info.key)
            if key.generation in (None, self.generation):
                levels.setdefault(keys.level_of(info.key), {}).setdefault(key.index, key.failed)
        return {level: _nodes(failed_counts) for level, failed_counts in levels.items()}


def _nodes(failed_counts: dict[int, int]) -> Landed:
    return Landed(ResultEntry(index, failed=failed) for index, failed in failed_counts.items())
