"""An encoder for a list whose items come one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import SEEK_END, BytesIO
from typing import Any, Final

from .buffers import OutOfBandBuffers, align, write_offsets
from .envelope import HEADER, OUT_OF_BAND, REFERENCES, Compression, seal, seal_stream
from .incremental import BLOCK_BYTES, pack_members
from .msgpack_codec import REFUSALS, Encoder
from .references import ReferenceCollector, ReferenceSource

_LIST: Final = b"\xdd"
_LIST_HEADER_BYTES: Final = 5
_ITEMS_START: Final = HEADER.size + _LIST_HEADER_BYTES
_BUFFERS_START: Final = align(HEADER.size)

_BLOCK_ITEMS: Final = 128
"""Items that the packer is given at once. With twice as many, an item takes 3 % less time."""
_SAMPLED: Final = 32
"""One in so many items of a block is packed beforehand, to learn whether the items are small."""
_SMALL_BYTES: Final = BLOCK_BYTES // _BLOCK_ITEMS
_NUMBERS: Final = frozenset({type(None), bool, int, float})
"""Types whose values can neither change nor be refused."""

LARGE_BYTES: Final = 2**16
"""Encoded size from which an item counts as large. The last item of a `SequenceEncoder` can be removed if it is."""

_Range = tuple[ReferenceSource, int, int] | None


class SequenceEncoder:
    """Encodes one item at a time into chunks; `decode` of a chunk returns the list of its items.

    Each item is encoded when it is added, so that the size of the chunk is known as it grows. Memory: the chunk, which
    is not copied when it is finished. To that adds up to twice the largest item, where its large parts are
    neither str, bytes nor arrays. Not for use from several threads.

    Args:
        path: Name of the whole sequence in errors: "items" gives `items[17].document`.
        first_index: Index of the first item in errors; it counts on from chunk to chunk.
        default: As in `encode`.
        compression: As in `encode`, for each chunk.
        sources: Sources whose elements are not encoded again where they are values of items that are dicts. The chunk
            refers to them, and `decode` needs `fetch_range`. Each chunk refers to one range of one source.
            Further sources may be appended to them.

    Attributes:
        last_bytes: What the last item has added to `size_bytes`, or what several have added that were encoded together.
    """

    def __init__(
        self,
        path: str = "items",
        first_index: int = 0,
        default: Callable[[object], object] | None = None,
        *,
        compression: Compression = "none",
        sources: Sequence[ReferenceSource] = (),
    ) -> None:
        self._path = path
        self._first_index = first_index
        self._compression: Compression = compression
        self._sources = sources
        self._encoder = Encoder(default)
        self._pack_quickly = self._encoder.pack_quickly
        self._may_replace = default is not None
        self._writes_incrementally = True
        """Whether the next item is probably large, as the last one was."""
        self._adds_quickly = False
        """Whether the next item is probably small, and the current chunk has neither pending items nor buffers."""
        self._pending: list[Any] = []
        """Items of the current chunk that are still to be encoded."""
        self.last_bytes = 0
        self._stream = BytesIO()
        self._begin()

    def _begin(self) -> None:
        self._items = 0
        self._buffers = self._encoder.buffers = OutOfBandBuffers()
        self._references = ReferenceCollector(self._sources)
        # The bytes of the chunk before are beyond this position. The number of items is written last.
        self._stream.seek(_ITEMS_START)
        self._write = self._stream.write
        # Buffers are copied when their item is added, before the end of the payload is known.
        self._buffers_stream: BytesIO | None = None
        self._before_last: tuple[int, _Range, int] | None = None
        """Position, reference and size of the buffers before the last item, if that is large."""

    def __len__(self) -> int:
        """Return the number of items in the current chunk."""
        return self._items + len(self._pending)

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of the items in the current chunk, with those that it refers to.

        An uncompressed chunk adds 35 bytes to them, 58 more with out-of-band buffers, and 48 more with a reference.
        """
        if self._pending:
            self._write_pending()
        size = self._stream.tell() - _ITEMS_START + self._buffers.size
        return size + self._references.size if self._sources else size

    @property
    def referenced_bytes(self) -> int:
        """Bytes of them that are in another object, if the chunk is finished now."""
        return self._references.external_size

    def add(self, item: object) -> None:
        """Encode one item into the current chunk; later changes to the item do not matter.

        Raises:
            Unencodable: Something in it does not travel. The chunk is as it was before.
        """
        # A million small items come this way, so that each call and each attribute matters.
        if self._adds_quickly and not self._sources:
            try:
                packed = self._pack_quickly(item)
                if not self._buffers.size:
                    self._before_last = None
                    if len(packed) >= LARGE_BYTES:
                        self._expect_large(len(packed))
                    self._items += 1
                    self.last_bytes = self._write(packed)
                    return
                del packed
            except REFUSALS:
                pass
            except BaseException:
                self._buffers.rewind(0)
                raise
            self._buffers.rewind(0)
        self._add_slowly(item)

    def _expect_large(self, size: int) -> None:
        """Note that the next item to be written is large, and that its successor may be, too."""
        self._before_last = (self._stream.tell(), self._references.range, self._buffers.size)
        self._writes_incrementally = size > BLOCK_BYTES
        self._adds_quickly = False

    def _add_slowly(self, item: object) -> None:
        if self._pending:
            self._write_pending()
        buffers = self._buffers
        before, range_before, end = buffers.size, self._references.range, self._stream.tell()
        size = self._write_item(item)
        self._items += 1
        self._before_last = None
        if buffers.size != before or size >= LARGE_BYTES:
            self._before_last = (end, range_before, before)
            size += buffers.size - before
        if buffers.size != before:
            self._buffers_stream = self._buffers_stream or BytesIO()
            buffers.write_to(self._buffers_stream, start=_BUFFERS_START)
        self.last_bytes = size
        self._adds_quickly = not (self._may_replace or buffers.size or size >= LARGE_BYTES)

    @property
    def is_last_large(self) -> bool:
        """Whether the last item takes 64 KiB or more, so that it can be removed again."""
        return self._before_last is not None and not self._pending and self.last_bytes >= LARGE_BYTES

    def remove_last(self) -> None:
        """Remove the last item from the current chunk, for a caller that finds it too large for this one.

        Raises:
            ValueError: The last item is not large.
        """
        if self._before_last is None or not self.is_last_large:
            raise ValueError("the last item is not large: only an item of 64 KiB or more can be removed again")
        position, self._references.range, buffers_size = self._before_last
        self._before_last = None
        self._stream.seek(position)
        self._buffers.rewind(buffers_size)
        if self._buffers_stream is not None:
            self._buffers_stream.truncate(_BUFFERS_START + buffers_size)
            self._buffers_stream = self._buffers_stream if buffers_size else None
        self._items -= 1

    def add_all(
        self, items: Sequence[object], *, stop_bytes: int | None = None, max_item_bytes: int | None = None
    ) -> int:
        """Encode items into the current chunk as `add` does with each in turn, but small ones many at a time.

        That takes a third of the time. Items that are large, refused or have out-of-band buffers are added one by one,
        and so are up to 127 next to them, and all items of an encoder with `default` or `sources`. Memory: as for
        `add`, and a megabyte. Only every 32nd item is measured before 128 are encoded together: large ones that come
        only between these are held twice.

        Adding stops after the item with which the chunk reaches `stop_bytes`, and after an item that takes more than
        `max_item_bytes`. So only the last item added can be too large, and it is if `last_bytes` exceeds
        `max_item_bytes`.

        Args:
            items: The items. Neither the sequence nor an item may change meanwhile.
            stop_bytes: The `size_bytes` at which to stop. One item is added in any case.
            max_item_bytes: The `last_bytes` beyond which to stop. Items are encoded together if together they take no
                more.

        Returns:
            The number of items added: all of them, or those up to where it stopped.

        Raises:
            Unencodable: Something in an item does not travel. The chunk holds the items before it. After another error,
                such as an interruption, it may lack up to 127 of them.
        """
        added = 0
        while added < len(items):
            block = list(items[added : added + _BLOCK_ITEMS])
            if self._add_together(block, stop_bytes, max_item_bytes):
                added += len(block)
                continue
            for item in block:
                self.add(item)
                added += 1
                if max_item_bytes is not None and self.last_bytes > max_item_bytes:
                    return added
                if stop_bytes is not None and self.size_bytes >= stop_bytes:
                    return added
        return added

    def add_soon(self, item: object) -> None:
        """Add an item as `add` does, but encode None, bool, int and float later, many at a time.

        These take half the time then. They cannot change or be refused, so that nothing else differs.

        Raises:
            Unencodable: Something in this item does not travel. The chunk is as it was before.
        """
        if type(item) not in _NUMBERS:
            self.add(item)
            return
        self._adds_quickly = False
        pending = self._pending
        pending.append(item)
        if len(pending) >= _BLOCK_ITEMS:
            self._write_pending()

    def finish(self) -> bytes:
        """Return the current chunk, possibly without items, and begin the next one."""
        body, flags = self._complete()
        body.truncate()
        self._stream = BytesIO()
        self._begin()
        return seal_stream(body, flags=flags, compression=self._compression)

    def hand_over(self, take: Callable[[memoryview | bytes], None]) -> None:
        """Give the current chunk to `take`, and begin the next one in the same memory.

        The system takes as long to find memory for a chunk as the encoder takes to write it.

        Args:
            take: Must keep no reference to its argument. If it raises, the chunk is lost.
        """
        body, flags = self._complete()
        end = body.tell()
        try:
            with body.getbuffer() as room, room[:end] as whole:
                take(seal(whole, flags=flags, compression=self._compression))
        finally:
            self._begin()

    def _complete(self) -> tuple[BytesIO, int]:
        """Return a stream at the end of the chunk, whose header is still empty, and the chunk's flags."""
        if self._pending:
            self._write_pending()
        stream, buffers_stream = self._stream, self._buffers_stream
        end = stream.tell()
        stream.seek(HEADER.size)
        stream.write(_LIST + self._items.to_bytes(_LIST_HEADER_BYTES - len(_LIST), "big"))
        stream.seek(end)
        body, flags = stream, 0
        if buffers_stream is not None:
            start = buffers_stream.seek(0, SEEK_END)
            with stream.getbuffer() as whole:
                buffers_stream.write(whole[HEADER.size : end])
            write_offsets(buffers_stream, payload=(start, start + end - HEADER.size), buffers=_BUFFERS_START)
            body, flags = buffers_stream, OUT_OF_BAND
        if self._references.range is not None:
            self._references.write(body)
            flags |= REFERENCES
        self._first_index += self._items
        return body, flags

    def _write_item(self, item: object) -> int:
        """Write one item of any kind, and return its bytes, without those of its buffers."""
        references, stream = self._references, self._stream
        before, start = references.range, stream.tell()
        referenced = references.size
        try:
            item = references.replace(item)
            if self._writes_incrementally:
                self._encoder.write(item, stream, self._name)
            else:
                stream.write(self._encoder.pack(item, self._name))
        except BaseException:
            references.range = before
            raise
        size = stream.tell() - start
        self._writes_incrementally = size > BLOCK_BYTES
        return size + references.size - referenced

    def _add_together(self, block: list[Any], stop_bytes: int | None, max_item_bytes: int | None) -> bool:
        """Add all items or none with one call of the packer, and return whether they were added."""
        packed = self._pack_together(block)
        if packed is None or (max_item_bytes is not None and len(packed) > max_item_bytes):
            return False
        if stop_bytes is not None and self.size_bytes + len(packed) >= stop_bytes:
            return False
        if self._pending:
            self._write_pending()
        self._write_together(packed, len(block))
        return True

    def _pack_together(self, block: list[Any]) -> memoryview | None:
        """Return the packed items one after the other, or None if they must be packed one by one."""
        if self._sources or self._may_replace:
            return None
        buffers, pack = self._buffers, self._pack_quickly
        before = buffers.size
        try:
            # From the last item on: where large items follow small ones, it is large.
            for sample in block[::-_SAMPLED]:
                if len(pack(sample)) > _SMALL_BYTES or buffers.size != before:
                    return None
            packed = pack_members(block, pack=pack)
            return packed if buffers.size == before else None
        except REFUSALS:
            return None
        finally:
            if buffers.size != before:
                buffers.rewind(before)

    def _write_pending(self) -> None:
        self._write_together(pack_members(self._pending, pack=self._pack_quickly), len(self._pending))
        self._pending = []

    def _write_together(self, packed: memoryview, items: int) -> None:
        self._before_last = None
        self.last_bytes = self._write(packed)
        self._writes_incrementally = False
        self._items += items

    def _name(self) -> str:
        return f"{self._path}[{self._first_index + self._items}]"
