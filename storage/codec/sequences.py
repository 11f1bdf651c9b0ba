"""An encoder for a list whose items come one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import SEEK_END, BytesIO
from typing import Final

from .buffers import OutOfBandBuffers, align, write_offsets
from .envelope import HEADER, OUT_OF_BAND, REFERENCES, Compression, seal, seal_stream
from .incremental import BLOCK_BYTES
from .msgpack_codec import Encoder
from .references import ReferenceCollector, ReferenceSource

_LIST: Final = b"\xdd"
_LIST_HEADER_BYTES: Final = 5
_ITEMS_START: Final = HEADER.size + _LIST_HEADER_BYTES
_BUFFERS_START: Final = align(HEADER.size)


class SequenceEncoder:
    """Encodes one item at a time into chunks; `decode` of a chunk returns the list of its items.

    Each item is encoded once, when it is added, so that the size of the chunk is known as it grows. Memory: the chunk,
    which is not copied when it is finished. To that adds up to twice the largest item, where its large parts are
    neither str, bytes nor arrays. Not for use from several threads.

    Args:
        path: Name of the whole sequence in errors: "items" gives `items[17].document`.
        first_index: Index of the first item in errors; it counts on from chunk to chunk.
        default: As in `encode`.
        compression: As in `encode`, for each chunk.
        sources: Sources whose elements are not encoded again where they are values of items that are dicts. The chunk
            refers to them, and `decode` needs `fetch_range`. Each chunk refers to one range of one source.
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
        self._writes_incrementally = True
        """Whether the next item is probably large, as the last one was."""
        self._stream = BytesIO()
        self._begin()

    def _begin(self) -> None:
        self._items = 0
        self._encoder.buffers = OutOfBandBuffers()
        self._references = ReferenceCollector(self._sources)
        # The bytes of the chunk before are beyond this position. The number of items is written last.
        self._stream.seek(_ITEMS_START)
        # Buffers are copied when their item is added, before the end of the payload is known.
        self._buffers_stream: BytesIO | None = None

    def __len__(self) -> int:
        """Return the number of items in the current chunk."""
        return self._items

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of the items in the current chunk, with those that it refers to.

        An uncompressed chunk adds 35 bytes to them, 58 more with out-of-band buffers, and 48 more with a reference.
        """
        return self._stream.tell() - _ITEMS_START + self._encoder.buffers.size + self._references.size

    @property
    def referenced_bytes(self) -> int:
        """Bytes of them that are in another object, if the chunk is finished now."""
        return self._references.external_size

    def add(self, item: object) -> None:
        """Encode one item into the current chunk; later changes to the item do not matter.

        Raises:
            Unencodable: Something in it does not travel. The chunk is as it was before.
        """
        encoder, references, stream = self._encoder, self._references, self._stream
        before = references.range
        try:
            item = references.replace(item)
            if self._writes_incrementally:
                start = stream.tell()
                encoder.write(item, stream, self._name)
                size = stream.tell() - start
            else:
                size = stream.write(encoder.pack(item, self._name))
        except BaseException:
            references.range = before
            raise
        self._writes_incrementally = size > BLOCK_BYTES
        if encoder.buffers.size:
            self._buffers_stream = self._buffers_stream or BytesIO()
            encoder.buffers.write_to(self._buffers_stream, start=_BUFFERS_START)
        self._items += 1

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

    def _name(self) -> str:
        return f"{self._path}[{self._first_index + self._items}]"
