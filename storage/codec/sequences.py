"""A list that is encoded item by item, as the items come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import SEEK_END, BytesIO
from typing import Final

from .buffers import OutOfBandBuffers, buffers_start, write_places
from .envelope import HEADER, OUT_OF_BAND, REFERENCES, Compression, seal, sealed
from .incremental import PIECE_BYTES
from .msgpack_codec import Encoder
from .references import ReferenceCollector, ReferenceSource

_LIST: Final = b"\xdd"
_LIST_HEADER_BYTES: Final = 5
_ITEMS_START: Final = HEADER.size + _LIST_HEADER_BYTES
_ANNEX_START: Final = buffers_start(HEADER.size)


class SequenceEncoder:
    """Encodes one item at a time into chunks; `decode` of a chunk gives the list of its items.

    Each item is encoded once, when it is added, so the size of the chunk is known as it grows. Memory: the chunk,
    which is not copied when it is finished, and up to twice the largest item where what is large in that is neither
    str, bytes nor an array. Not for use from several threads.

    Args:
        path: What the whole sequence is called in an error: `items[17].document`.
        first_index: The index of the first item, for the same purpose; it goes on from chunk to chunk.
        default: As in `encode`.
        compression: As in `encode`; of each chunk.
        sources: Whose elements, where they are values of items that are dicts, are not encoded again: the chunk says
            where they lie, and `decode` needs `replace`. Each chunk borrows one range of one of them.
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
        self._writes_in_pieces = True
        """Whether the next item is probably large, as the last one was."""
        self._stream = BytesIO()
        self._begin()

    def _begin(self) -> None:
        self._items = 0
        self._encoder.buffers = OutOfBandBuffers()
        self._borrower = ReferenceCollector(self._sources)
        # What the stream holds beyond this place was the chunk before. The number of items comes last.
        self._stream.seek(_ITEMS_START)
        # Buffers are copied as their item is added, hence before it is known where the payload will end.
        self._apart: BytesIO | None = None

    def __len__(self) -> int:
        """Items in the current chunk."""
        return self._items

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of the items in the current chunk, with what it borrows.

        An uncompressed chunk adds 35 bytes to them, 74 more if there are arrays that lie apart, and 48 if it borrows.
        """
        return self._stream.tell() - _ITEMS_START + self._encoder.buffers.size + self._borrower.size

    @property
    def referenced_bytes(self) -> int:
        """How many of them lie in another object, if the chunk is finished now."""
        return self._borrower.lasting

    def add(self, item: object) -> None:
        """Encode one item into the current chunk; later changes to the item do not matter.

        Raises:
            Unencodable: Something in it does not travel. The chunk is as it was before.
        """
        encoder, references, stream = self._encoder, self._borrower, self._stream
        before = references.range
        try:
            item = references.replace(item)
            if self._writes_in_pieces:
                start = stream.tell()
                encoder.write(item, stream, self._name)
                size = stream.tell() - start
            else:
                size = stream.write(encoder.pack(item, self._name))
        except BaseException:
            references.range = before
            raise
        self._writes_in_pieces = size > PIECE_BYTES
        if encoder.buffers.size:
            self._apart = self._apart or BytesIO()
            encoder.buffers.write_to(self._apart, start=_ANNEX_START)
        self._items += 1

    def finish(self) -> bytes:
        """Return the current chunk, possibly of no items, and begin the next one."""
        body, flags = self._completed()
        body.truncate()
        self._stream = BytesIO()
        self._begin()
        return seal(body, flags=flags, compression=self._compression)

    def hand_over(self, take: Callable[[memoryview | bytes], None]) -> None:
        """Give the current chunk to `take`, and begin the next one in the same memory.

        A system takes as long to find memory for a chunk as the chunk takes to be written.

        Args:
            take: Must keep nothing of what it is given. If it raises, the chunk is gone.
        """
        body, flags = self._completed()
        end = body.tell()
        try:
            with body.getbuffer() as room, room[:end] as whole:
                take(sealed(whole, flags=flags, compression=self._compression))
        finally:
            self._begin()

    def _completed(self) -> tuple[BytesIO, int]:
        """What the chunk is in, which stands at its end and lacks the header; and its flags."""
        stream, apart = self._stream, self._apart
        end = stream.tell()
        stream.seek(HEADER.size)
        stream.write(_LIST + self._items.to_bytes(_LIST_HEADER_BYTES - len(_LIST), "big"))
        stream.seek(end)
        body, flags = stream, 0
        if apart is not None:
            start = apart.seek(0, SEEK_END)
            with stream.getbuffer() as whole:
                apart.write(whole[HEADER.size : end])
            write_places(apart, payload=(start, start + end - HEADER.size), buffers=_ANNEX_START)
            body, flags = apart, OUT_OF_BAND
        if self._borrower.range is not None:
            self._borrower.write(body)
            flags |= REFERENCES
        self._first_index += self._items
        return body, flags

    def _name(self) -> str:
        return f"{self._path}[{self._first_index + self._items}]"
