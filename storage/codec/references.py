"""References: a chunk names a byte range of another object instead of repeating its bytes.

Setup often returns slices of a list that it was given. Where such a list of large strings is encoded in the store
already, its bytes need not be written again: the chunk refers to a range of that object. The chunk's items then hold
positions in the range. Its body ends with the range's offset, length and checksum, and the digest by which the other
object is named. A range too small to be worth a request is copied behind the items, and names no object.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from operator import is_
from typing import Final

from ..errors import CorruptObject
from ..hashing import raw_checksum
from ..object_store import Content
from .envelope import HEADER, is_plain

ELEMENT_BYTES: Final = 1024
"""Average size from which elements are referred to: looking up smaller ones takes longer than writing them."""

REFERENCE_BYTES: Final = 64 * 1024
"""A smaller range is copied into the chunk."""

# Offset, length and checksum of the range, and the digest of its object.
_TAIL: Final = struct.Struct(">QQ16s16s")
_INLINE: Final = bytes(16)
_LONG_LIST: Final = b"\xdd"


@dataclass(frozen=True, slots=True)
class ReferencedValues:
    """Position of values in the range that a chunk refers to; replaces the values in an item.

    Attributes:
        offset: Their first byte in the range.
        length: Their bytes.
        count: How many there are, in a list; None for a single value.
    """

    offset: int
    length: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A byte range of another object that a chunk refers to.

    Attributes:
        source: Digest of the object, which is its name.
        offset: First byte.
        length: Bytes.
    """

    source: str
    offset: int
    length: int


FetchRange = Callable[[Reference], Content]
"""Function that fetches a range of another object."""


class ReferenceSource:
    """A list of strings whose encoded bytes are in the store. Keeps both alive.

    Attributes:
        name: Digest of the encoded list, its name in the store.
        starts: Offset of each element in the encoded list, and last the end.
        next: Index of the element that will probably be looked up next.
    """

    def __init__(self, name: str, body: Content, elements: list[str | bytes], starts: list[int]) -> None:
        self.name = name
        self.starts = starts
        self.next = 0
        self._body = memoryview(body)
        self._elements = elements
        # By identity, which no other object can have while the elements live. Of elements that are one object, the
        # first.
        self._index = {id(element): index for index, element in reversed([*enumerate(elements)])}

    @classmethod
    def of(cls, value: object, body: Content, *, name: str) -> ReferenceSource | None:
        """Return a source for the elements of a value, or None if none are worth it.

        Args:
            value: The value. A list of str and bytes with 1 KiB or more on average is worth it.
            body: All bytes that `encode` returned for it.
            name: Digest of these bytes.
        """
        if type(value) is not list or not value or len(body) < ELEMENT_BYTES * len(value):
            return None
        if not set(map(type, value)) <= {str, bytes} or not is_plain(body):
            return None
        sizes = list(map(_packed_size, value))
        first = HEADER.size + _header_size(len(value), fixed=15, short=0)
        if first + sum(sizes) != len(body):
            return None
        return cls(name, body, list(value), list(accumulate(sizes, initial=first)))

    def find(self, value: object) -> tuple[int, int] | None:
        """Return the start and stop index of an element or of a list of consecutive ones, or None."""
        members = value if type(value) is list else [value]
        start = self._find(members[0]) if members else None
        if start is None:
            return None
        elements = self._elements[start : start + len(members)]
        if len(elements) != len(members) or not all(map(is_, members, elements)):
            return None
        return start, start + len(members)

    def content(self, start: int, stop: int) -> memoryview:
        """Return the encoded bytes of these elements."""
        return self._body[self.starts[start] : self.starts[stop]]

    def _find(self, value: object) -> int | None:
        if self.next < len(self._elements) and self._elements[self.next] is value:
            return self.next
        return self._index.get(id(value))


class ReferenceCollector:
    """The references of one chunk: one range of one source. Not for use from several threads.

    Args:
        sources: Sources that may be referred to.

    Attributes:
        range: The source, and the start and stop index of its elements; None without a reference. Assign an earlier
            value to undo the references since.
    """

    def __init__(self, sources: Sequence[ReferenceSource]) -> None:
        self._sources = sources
        self.range: tuple[ReferenceSource, int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes of the range."""
        if self.range is None:
            return 0
        source, start, stop = self.range
        return source.starts[stop] - source.starts[start]

    @property
    def external_size(self) -> int:
        """Bytes that would stay in the other object if the chunk were finished now."""
        return self.size if self.size >= REFERENCE_BYTES else 0

    def replace(self, item: object) -> object:
        """Return the item with a `ReferencedValues` for each of its values that continues the range."""
        if type(item) is not dict or not self._sources:
            return item
        referenced = {name: found for name, value in item.items() if (found := self._refer(value)) is not None}
        return {**item, **referenced} if referenced else item

    def write(self, stream: BytesIO) -> None:
        """Write the reference at the stream's position, behind a body; before it the range itself, if it is small."""
        assert self.range is not None
        source, start, stop = self.range
        content = source.content(start, stop)
        offset, name = source.starts[start], bytes.fromhex(source.name)
        if not self.external_size:
            offset, name = stream.tell(), _INLINE
            stream.write(content)
        stream.write(_TAIL.pack(offset, len(content), raw_checksum(content), name))

    def _refer(self, value: object) -> ReferencedValues | None:
        for source in self._sources:
            bounds = source.find(value)
            if bounds is None:
                continue
            start, stop = bounds
            current, first, last = self.range or (source, start, start)
            if current is not source or start != last:
                continue
            self.range, source.next = (source, first, stop), stop
            begin, end = source.starts[start], source.starts[stop]
            return ReferencedValues(
                begin - source.starts[first], end - begin, len(value) if isinstance(value, list) else None
            )
        return None


class ReferencedRange:
    """The range that a chunk refers to, read once, from its first byte to its last.

    So no forged value can read more than the range.

    Args:
        content: All its bytes.
    """

    def __init__(self, content: Content = b"") -> None:
        self._content = memoryview(content)
        self._read = 0

    def values_at(self, reference: ReferencedValues) -> bytes | memoryview:
        """Return the packed values at a position.

        Raises:
            ValueError: They are not the next ones.
        """
        end = reference.offset + reference.length
        if reference.offset != self._read or not reference.offset <= end <= len(self._content):
            raise ValueError("a value is not the next one of the referenced range")
        self._read = end
        content = self._content[reference.offset : end]
        return (
            content if reference.count is None else b"".join((_LONG_LIST, reference.count.to_bytes(4, "big"), content))
        )


def read_range(
    whole: memoryview, *, fetch_range: FetchRange | None, key: str | None
) -> tuple[memoryview, ReferencedRange]:
    """Return a value without the reference that ends its body, and the range that it refers to.

    Args:
        whole: The value, as `unseal` has verified it.
        fetch_range: Fetches the range from the other object.
        key: Key of the value, for the error.

    Raises:
        CorruptObject: The range is not the one that was written, or is outside of the value.
        StorageError: Any error of `fetch_range`.
    """
    end = len(whole) - _TAIL.size
    name = f"the object at {key!r}" if key is not None else "the object"
    if end < HEADER.size:
        raise CorruptObject(f"{name} is cut short within its reference", key=key)
    offset, length, expected, source = _TAIL.unpack_from(whole, end)
    if source == _INLINE:
        content, rest = whole[offset : min(end, offset + length)], whole[: max(HEADER.size, min(offset, end))]
    elif fetch_range is None:
        raise CorruptObject(f"{name} refers to another object, which is not allowed here", key=key)
    else:
        content, rest = memoryview(fetch_range(Reference(source.hex(), offset, length))), whole[:end]
    if len(content) != length or raw_checksum(content) != expected:
        raise CorruptObject(f"{name} refers to bytes of {source.hex()}, and they are not what was written", key=key)
    return rest, ReferencedRange(content)


def _packed_size(text: str | bytes) -> int:
    """Return how many bytes msgpack makes of a text."""
    if isinstance(text, bytes):
        return len(text) + _header_size(len(text), fixed=-1, short=255)
    length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return length + _header_size(length, fixed=31, short=255)


def _header_size(length: int, *, fixed: int, short: int) -> int:
    """Return how many bytes msgpack's header takes for a length.

    Args:
        length: The length.
        fixed: The longest that takes one byte.
        short: The longest that takes two.
    """
    if length <= fixed:
        return 1
    if length <= short:
        return 2
    return 3 if length <= 0xFFFF else 5
