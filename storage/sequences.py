"""A list that is encoded item by item, as the items come."""

from __future__ import annotations

from collections.abc import Callable

from .codec import Encoder, array_header, seal


class SequenceEncoder:
    """Encodes one item at a time into chunks; `decode` of a chunk gives the list of its items.

    Each item is encoded once, when it is added, so the size of the chunk is known as it grows. Memory:
    twice the chunk, while it is finished. Not for use from several threads.

    Args:
        path: What the whole sequence is called in an error: `items[17].document`.
        first_index: The index of the first item, for the same purpose; it goes on from chunk to chunk.
        default: As in `encode`.
    """

    def __init__(
        self, path: str = "items", first_index: int = 0, default: Callable[[object], object] | None = None
    ) -> None:
        self._path = path
        self._next_index = first_index
        self._encoder = Encoder(default)
        self._items = 0
        self._packed = bytearray()

    def __len__(self) -> int:
        """Items in the current chunk."""
        return self._items

    @property
    def size_bytes(self) -> int:
        """Encoded bytes of the items in the current chunk; a chunk adds at most 35 bytes to them."""
        return len(self._packed)

    def add(self, item: object) -> None:
        """Encode one item into the current chunk; later changes to the item do not matter.

        Raises:
            Unencodable: Something in it does not travel. The chunk is as it was before.
        """
        self._packed += self._encoder.pack(item, path=f"{self._path}[{self._next_index}]")
        self._items += 1
        self._next_index += 1

    def finish(self) -> bytes:
        """Return the current chunk, possibly of no items, and begin the next one."""
        chunk = seal(array_header(self._items), self._packed)
        self._items = 0
        self._packed = bytearray()
        return chunk
