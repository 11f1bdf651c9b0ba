"""The cutting of items into chunks, and of chunks into batches, each of which becomes one slice of a pack."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from storage import LARGE_BYTES, PackWriter, ReferenceSource, SequenceEncoder, Slice

from ..config.settings import Options
from ..declaration.binding import Binding
from ..errors import InvalidItem
from ..records.chunk_ref import ChunkLocation
from ..records.keys import GROUP_WIDTH, MOST_CHUNKS

BATCH_BYTES = 256 * 1024
"""Encoded size of the items at which a batch is closed. A larger chunk is a batch of its own."""

LINGER_S = 0.2
"""Longest time that a finished chunk waits for its batch and its pack to fill while setup yields slowly, in seconds."""


_NO_ITEM: Final = object()


class BatchWriter:
    """Writes the items that setup returns. Not for use from several threads.

    A batch is closed when it has as many chunks as a message may carry, at the end of a group, at `BATCH_BYTES`, and
    when its first chunk may have waited for `LINGER_S`. A chunk of one large item begins a batch.

    Memory: the batch, beside the pack writer.

    Args:
        packs: The writer of the packs.
        binding: The task's steps, for the check of the items.
        options: The job's options.
        sizes: Yields the number of items of each chunk, without end; see `chunk_sizes`.
        bound: Names of the parameters that process is given besides the item.
        batch_chunks: Most chunks per batch.
        sources: Parameters whose byte ranges items may refer to.

    Attributes:
        input_bytes: Encoded size of the batches that were located, with the byte ranges that they refer to.
    """

    def __init__(
        self,
        packs: PackWriter,
        binding: Binding,
        options: Options,
        *,
        sizes: Iterator[int],
        bound: frozenset[str],
        batch_chunks: int,
        sources: list[ReferenceSource],
    ) -> None:
        self.input_bytes = 0
        self._packs = packs
        self._binding = binding
        self._options = options
        self._bound = bound
        self._batch_chunks = batch_chunks
        self._encoder = SequenceEncoder(path="items", compression=options.compression, sources=sources)
        self._sizes_to_come = sizes
        self._wanted: deque[int] = deque()
        """Number of items of the current chunk and of those after it, as far as they were asked for."""
        self._sizes: list[int] = []
        """Number of items of each closed chunk of the current batch."""
        self._batch_starts_at = 0
        """Index of the first item in the encoder."""
        self._chunk_starts_at = (0, 0)
        """Number and size of the items in the encoder when the current chunk began."""
        self._chunks = 0
        """Number of closed chunks of the job."""
        self._unstored: deque[tuple[int, tuple[int, ...]]] = deque()
        """First item, and number of items per chunk, of each batch that is not in a stored pack yet."""
        self._flushed_at = time.monotonic()

    @property
    def items(self) -> int:
        """Number of items so far."""
        return self._batch_starts_at + len(self._encoder)

    def write(self, returned: Iterable[Any]) -> Iterator[list[ChunkLocation]]:
        """Write all items, and yield after each batch the locations of those that were stored meanwhile, in order.

        A list or tuple is checked and encoded many items at a time. Any other iterable is asked for one item at a time,
        because it may yield the same object again, changed.

        Raises:
            InvalidItem: Process can't take an item, it is too large, or it makes a chunk too many. Names its index.
            Unencodable: An item can't be encoded. Names its path.
            StorageError: An upload has failed.
        """
        if type(returned) in (list, tuple) and self._options.chunk_bytes > BATCH_BYTES:
            assert isinstance(returned, list | tuple)
            yield from self._write_listed(returned)
        else:
            yield from self._write_streamed(returned)
        if len(self._encoder) > self._chunk_starts_at[0]:
            self._close_chunk(len(self._encoder))
        if self._sizes:
            yield self._close_batch()

    def locate(self, slices: Iterable[Slice]) -> list[ChunkLocation]:
        """Return the locations of batches whose slices were stored. Each slice must be given once, in order."""
        locations = [ChunkLocation(slice_, *self._unstored.popleft()) for slice_ in slices]
        self.input_bytes += sum(location.slice_.length for location in locations)
        return locations

    def _write_streamed(self, returned: Iterable[Any]) -> Iterator[list[ChunkLocation]]:
        encoder, options = self._encoder, self._options
        known: frozenset[str] | None = None
        watched_bytes = min(options.max_item_bytes + 1, LARGE_BYTES)
        remaining = iter(returned)
        item: Any = _NO_ITEM
        while True:
            # Local, because a million small items come this way.
            add, left_bytes = encoder.add, options.chunk_bytes
            wanted = self._count_items(1) - (len(encoder) - self._chunk_starts_at[0])
            for item in islice(remaining, wanted):
                if type(item) is not dict or item.keys() != known:
                    self._binding.check_item(self.items, item, self._bound)
                    known = frozenset(item)
                add(item)
                size_bytes = encoder.last_bytes
                if size_bytes >= watched_bytes:
                    self._check_size(self.items - 1)
                    if self._is_last_too_large():
                        encoder.remove_last()
                        yield self._close_batch()
                        add(item)
                left_bytes -= size_bytes
                if left_bytes <= 0:
                    break
            if item is _NO_ITEM:
                return
            item = _NO_ITEM
            self._close_chunks(len(encoder))
            if self._is_batch_full() or self._has_lingered():
                yield self._close_batch()

    def _write_listed(self, returned: Sequence[Any]) -> Iterator[list[ChunkLocation]]:
        encoder, options = self._encoder, self._options
        while self.items < len(returned):
            items, size_bytes = self._chunk_starts_at
            is_large = encoder.size_bytes >= BATCH_BYTES
            # A batch that is large enough takes the rest of its current chunk.
            count = self._count_items(1 if is_large else self._room) - (len(encoder) - items)
            block = returned[self.items : self.items + count]
            self._check_block(block)
            stop_bytes = size_bytes + options.chunk_bytes if is_large else BATCH_BYTES
            encoder.add_all(block, stop_bytes=stop_bytes, max_item_bytes=options.max_item_bytes)
            self._check_size(self.items - 1)
            self._close_chunks(len(encoder) - 1)
            if self._is_last_too_large():
                encoder.remove_last()
                yield self._close_batch()
                continue
            self._close_chunks(len(encoder))
            if self._is_batch_full():
                yield self._close_batch()

    def _check_block(self, block: Sequence[Any]) -> None:
        """Check items. If one is refused, encode those before it first: an error of theirs comes before that."""
        try:
            self._binding.check_items(self.items, block, self._bound)
        except InvalidItem:
            for item in block:
                self._binding.check_item(self.items, item, self._bound)
                self._encoder.add(item)
                self._check_size(self.items - 1)
            raise

    def _check_size(self, item: int) -> None:
        limit, size_bytes = self._options.max_item_bytes, self._encoder.last_bytes
        if size_bytes > limit and len(self._encoder):
            raise InvalidItem(
                f"{self._binding.owner}.setup: items[{item}] takes {size_bytes:,} bytes, over the limit of "
                f"{limit:,}: yield smaller items, put a reference to the data into the item, or raise max_item_bytes"
            )

    def _is_last_too_large(self) -> bool:
        """Return whether the last item is a chunk, or begins one, that is too large for a batch with others."""
        encoder = self._encoder
        begins_chunk = len(encoder) - self._chunk_starts_at[0] == 1
        return bool(self._sizes) and begins_chunk and encoder.is_last_large and encoder.size_bytes > BATCH_BYTES

    @property
    def _room(self) -> int:
        """Number of chunks that the batch can still take."""
        return min(self._batch_chunks - len(self._sizes), GROUP_WIDTH - self._chunks % GROUP_WIDTH)

    def _is_batch_full(self) -> bool:
        if not self._sizes or len(self._encoder) > self._chunk_starts_at[0]:
            return False
        # The next chunk is probably as large as the others.
        expected_bytes = self._encoder.size_bytes * (1 + 1 / len(self._sizes))
        return len(self._sizes) >= self._batch_chunks or self._chunks % GROUP_WIDTH == 0 or expected_bytes > BATCH_BYTES

    def _has_lingered(self) -> bool:
        is_between = len(self._encoder) == self._chunk_starts_at[0]
        return is_between and time.monotonic() - self._flushed_at >= LINGER_S

    def _count_items(self, chunks: int) -> int:
        """Return the number of items that the current chunk and those after it take, so many in all."""
        while len(self._wanted) < chunks:
            self._wanted.append(next(self._sizes_to_come))
        return sum(islice(self._wanted, chunks))

    def _close_chunks(self, items: int) -> None:
        """Close the chunks that the first items in the encoder make, so many items."""
        while (end := self._chunk_starts_at[0] + self._count_items(1)) <= items:
            self._close_chunk(end)
        if items == len(self._encoder) > self._chunk_starts_at[0]:
            size_bytes = self._encoder.size_bytes - self._chunk_starts_at[1]
            if size_bytes >= self._options.chunk_bytes:
                self._close_chunk(items)

    def _close_chunk(self, end: int) -> None:
        """Close the current chunk before the item with that position in the encoder."""
        if self._chunks == MOST_CHUNKS:
            first_item = self._batch_starts_at + self._chunk_starts_at[0]
            raise InvalidItem(
                f"{self._binding.owner}.setup: items[{first_item}] begins another chunk than the {MOST_CHUNKS:,} that "
                "a job may have: put more into an item, set a larger chunk_items, or make several jobs of the input"
            )
        self._sizes.append(end - self._chunk_starts_at[0])
        self._chunk_starts_at = (end, self._encoder.size_bytes)
        self._chunks += 1
        self._wanted.popleft()

    def _close_batch(self) -> list[ChunkLocation]:
        """Write the batch into a pack; return the locations of the batches that were stored meanwhile."""
        self._unstored.append((self._batch_starts_at, tuple(self._sizes)))
        self._batch_starts_at = self.items
        self._sizes.clear()
        self._chunk_starts_at = (0, 0)
        self.input_bytes += self._encoder.referenced_bytes
        self._encoder.hand_over(self._packs.append)
        now = time.monotonic()
        if now - self._flushed_at >= LINGER_S:
            self._packs.flush()
            self._flushed_at = now
        return self.locate(self._packs.stored())
