"""Values that lie in another object already: a chunk says where, instead of repeating their bytes.

Setup often hands on slices of what it was given. Where it was given a list of large strings that lies encoded in the
store, their bytes need not be written again: the chunk borrows a range of that object. Its items then hold places in
the range, and its body ends with where the range is: its offset and length, its checksum, and the digest by which the
lender is named. A range too small to be worth a request of its own is copied behind the items; then no lender is named.
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
"""Elements that are smaller on average are not lent: to look each up would take longer than to write it."""

REFERENCE_BYTES: Final = 64 * 1024
"""What is borrowed in a range smaller than this is copied."""

# Offset and length of the range, its checksum, and who lends it.
_TAIL: Final = struct.Struct(">QQ16s16s")
_NOBODY: Final = bytes(16)
_LONG_LIST: Final = b"\xdd"


@dataclass(frozen=True, slots=True)
class ReferencedValues:
    """What stands in an item for values that are lent.

    Attributes:
        offset: Their first byte in the range that the chunk borrows.
        length: Their bytes.
        count: How many they are, in a list; None for one alone.
    """

    offset: int
    length: int
    count: int | None


@dataclass(frozen=True, slots=True)
class Reference:
    """The range of another object that a chunk borrows.

    Attributes:
        source: Digest of the object, which is its name.
        offset: First byte.
        length: Bytes.
    """

    source: str
    offset: int
    length: int


FetchRange = Callable[[Reference], Content]
"""Fetches a range of another object."""


class ReferenceSource:
    """A list of strings whose encoded bytes lie in the store. Keeps both alive.

    Attributes:
        name: Digest of the encoded list, under which the store has it.
        starts: Where each element lies in it, and last the end.
        next: The element that will probably be asked for next.
    """

    def __init__(self, name: str, body: Content, elements: list[str | bytes], starts: list[int]) -> None:
        self.name = name
        self.starts = starts
        self.next = 0
        self._body = memoryview(body)
        self._elements = elements
        # By identity, which nothing else can have while the elements live; the first of several that are one object.
        self._index = {id(element): index for index, element in reversed([*enumerate(elements)])}

    @classmethod
    def of(cls, value: object, body: Content, *, name: str) -> ReferenceSource | None:
        """Return what lends the elements of a value; None if it has none that are worth it.

        Args:
            value: The value; a list of str and bytes that have 1 KiB or more on average lends them.
            body: All that `encode` gave for it.
            name: Digest of that.
        """
        if type(value) is not list or not value or len(body) < ELEMENT_BYTES * len(value):
            return None
        if not set(map(type, value)) <= {str, bytes} or not is_plain(body):
            return None
        sizes = list(map(_packed_bytes, value))
        first = HEADER.size + _header_bytes(len(value), fixed=15, short=0)
        if first + sum(sizes) != len(body):
            return None
        return cls(name, body, list(value), list(accumulate(sizes, initial=first)))

    def find(self, value: object) -> tuple[int, int] | None:
        """Return from which element to which this is, if it is one of them or a list of consecutive ones."""
        members = value if type(value) is list else [value]
        start = self._find(members[0]) if members else None
        if start is None:
            return None
        found = self._elements[start : start + len(members)]
        if len(found) != len(members) or not all(map(is_, members, found)):
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
    """Collects what one chunk borrows: one range of one lender. Not for use from several threads.

    Args:
        sources: Who may lend.

    Attributes:
        range: The lender, and from which element to which; None while nothing is borrowed. Set it to what it was
            before, to give the rest back.
    """

    def __init__(self, sources: Sequence[ReferenceSource]) -> None:
        self._sources = sources
        self.range: tuple[ReferenceSource, int, int] | None = None

    @property
    def size(self) -> int:
        """Bytes that are borrowed."""
        if self.range is None:
            return 0
        source, start, stop = self.range
        return source.starts[stop] - source.starts[start]

    @property
    def lasting(self) -> int:
        """Bytes that would stay where they are, if no more were borrowed."""
        return self.size if self.size >= REFERENCE_BYTES else 0

    def replace(self, item: object) -> object:
        """Return the item with a `ReferencedValues` for each of its values that follows on what was borrowed before."""
        if type(item) is not dict or not self._sources:
            return item
        referenced = {name: place for name, value in item.items() if (place := self._referenced(value)) is not None}
        return {**item, **referenced} if referenced else item

    def write(self, stream: BytesIO) -> None:
        """Write behind a body, where the stream stands, where the range lies; the range as well, if it is small."""
        assert self.range is not None
        source, start, stop = self.range
        content = source.content(start, stop)
        offset, name = source.starts[start], bytes.fromhex(source.name)
        if not self.lasting:
            offset, name = stream.tell(), _NOBODY
            stream.write(content)
        stream.write(_TAIL.pack(offset, len(content), raw_checksum(content), name))

    def _referenced(self, value: object) -> ReferencedValues | None:
        for source in self._sources:
            found = source.find(value)
            if found is None:
                continue
            start, stop = found
            known, first, last = self.range or (source, start, start)
            if known is not source or start != last:
                continue
            self.range, source.next = (source, first, stop), stop
            begin, end = source.starts[start], source.starts[stop]
            return ReferencedValues(
                begin - source.starts[first], end - begin, len(value) if isinstance(value, list) else None
            )
        return None


class Range:
    """What a value borrows, read once, from its first byte to its last: so that no forged value can read more.

    Args:
        content: All of it.
    """

    def __init__(self, content: Content = b"") -> None:
        self._content = memoryview(content)
        self._read = 0

    def values_at(self, place: ReferencedValues) -> bytes | memoryview:
        """Return what msgpack makes the values of that stand in this place.

        Raises:
            ValueError: They are not the next ones.
        """
        end = place.offset + place.length
        if place.offset != self._read or not place.offset <= end <= len(self._content):
            raise ValueError("a value is not the next one of what is borrowed")
        self._read = end
        content = self._content[place.offset : end]
        return content if place.count is None else b"".join((_LONG_LIST, place.count.to_bytes(4, "big"), content))


def referenced_range(whole: memoryview, *, fetch_range: FetchRange | None, key: str | None) -> tuple[memoryview, Range]:
    """Return a value whose body ends as `ReferenceCollector.write` left it without that end, and the range that it
    borrows.

    Args:
        whole: The value, as `unseal` has verified it.
        fetch_range: Fetches the range from its lender.
        key: Where the value comes from, for the error.

    Raises:
        CorruptObject: The range is not what was lent, or the value says that it lies outside of the value.
        StorageError: What `fetch_range` raises.
    """
    end = len(whole) - _TAIL.size
    name = f"the object at {key!r}" if key is not None else "the object"
    if end < HEADER.size:
        raise CorruptObject(f"{name} is cut short where it says what it borrows", key=key)
    offset, length, expected, source = _TAIL.unpack_from(whole, end)
    if source == _NOBODY:
        content, rest = whole[offset : min(end, offset + length)], whole[: max(HEADER.size, min(offset, end))]
    elif fetch_range is None:
        raise CorruptObject(f"{name} borrows from another object, which nobody may here", key=key)
    else:
        content, rest = memoryview(fetch_range(Reference(source.hex(), offset, length))), whole[:end]
    if len(content) != length or raw_checksum(content) != expected:
        raise CorruptObject(f"{name} borrows from {source.hex()}, and what lies there is not what was lent", key=key)
    return rest, Range(content)


def _packed_bytes(text: str | bytes) -> int:
    """How many bytes msgpack makes of it."""
    if isinstance(text, bytes):
        return len(text) + _header_bytes(len(text), fixed=-1, short=255)
    length = len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
    return length + _header_bytes(length, fixed=31, short=255)


def _header_bytes(length: int, *, fixed: int, short: int) -> int:
    """How many bytes msgpack takes to say how long something is; one and two of them do up to these lengths."""
    if length <= fixed:
        return 1
    if length <= short:
        return 2
    return 3 if length <= 0xFFFF else 5
