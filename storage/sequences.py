"""A list that is encoded item by item, as the items come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import SEEK_END, BytesIO
from typing import Final

from .annex import annex_start, write_places
from .codec import Encoder
from .envelope import APART, HEADER, LENT, Compression, blank, seal
from .loans import Borrower, Lender

_LIST: Final = b"\xdd"
_LIST_HEADER_BYTES: Final = 5
_ITEMS_START: Final = HEADER.size + _LIST_HEADER_BYTES
_ANNEX_START: Final = annex_start(HEADER.size)


class SequenceEncoder:
    """Encodes one item at a time into chunks; `decode` of a chunk gives the list of its items.

    Each item is encoded once, when it is added, so the size of the chunk is known as it grows. Memory:
    the chunk, which is not copied when it is finished, and twice the largest item. Not for use from
    several threads.

    Args:
        path: What the whole sequence is called in an error: `items[17].document`.
        first_index: The index of the first item, for the same purpose; it goes on from chunk to chunk.
        default: As in `encode`.
        compression: As in `encode`; of each chunk.
        lenders: Whose elements, where they are values of items that are dicts, are not encoded again: the chunk says
            where they lie, and `decode` needs `borrow`. Each chunk borrows one range of one of them.
    """

    def __init__(
        self,
        path: str = "items",
        first_index: int = 0,
        default: Callable[[object], object] | None = None,
        *,
        compression: Compression = "none",
        lenders: Sequence[Lender] = (),
    ) -> None:
        self._path = path
        self._first_index = first_index
        self._default = default
        self._compression: Compression = compression
        self._lenders = lenders
        self._begin()

    def _begin(self) -> None:
        self._items = 0
        self._encoder = Encoder(self._default)
        self._borrower = Borrower(self._lenders)
        self._stream = blank()
        # Buffers are copied as their item is added, hence before it is known where the payload will end.
        self._apart: BytesIO | None = None
        # The number of items comes last.
        self._stream.write(bytes(_LIST_HEADER_BYTES))

    def __len__(self) -> int:
        """Items in the current chunk."""
        return self._items

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of the items in the current chunk, with what it borrows.

        An uncompressed chunk adds 35 bytes to them, 74 more if there are arrays that lie apart, and 48 if it borrows.
        """
        return self._stream.tell() - _ITEMS_START + self._encoder.annex.size + self._borrower.size

    @property
    def borrowed_bytes(self) -> int:
        """How many of them lie in another object, if the chunk is finished now."""
        return self._borrower.lasting

    def add(self, item: object) -> None:
        """Encode one item into the current chunk; later changes to the item do not matter.

        Raises:
            Unencodable: Something in it does not travel. The chunk is as it was before.
        """
        encoder, borrower = self._encoder, self._borrower
        before = borrower.range
        try:
            self._stream.write(encoder.pack(borrower.borrow(item), self._name))
        except BaseException:
            borrower.range = before
            raise
        if encoder.annex.size:
            self._apart = self._apart or BytesIO()
            encoder.annex.pour(self._apart, start=_ANNEX_START)
        self._items += 1

    def finish(self) -> bytes:
        """Return the current chunk, possibly of no items, and begin the next one."""
        stream, apart = self._stream, self._apart
        end = stream.tell()
        stream.seek(HEADER.size)
        stream.write(_LIST + self._items.to_bytes(_LIST_HEADER_BYTES - len(_LIST), "big"))
        body, flags = stream, 0
        if apart is not None:
            start = apart.seek(0, SEEK_END)
            with stream.getbuffer() as whole:
                apart.write(whole[HEADER.size :])
            write_places(apart, payload=(start, start + end - HEADER.size), annex=_ANNEX_START)
            body, flags = apart, APART
        if self._borrower.range is not None:
            self._borrower.write(body)
            flags |= LENT
        chunk = seal(body, flags=flags, compression=self._compression)
        self._first_index += self._items
        self._begin()
        return chunk

    def _name(self) -> str:
        return f"{self._path}[{self._first_index + self._items}]"
