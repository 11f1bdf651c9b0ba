"""The interface of every object store."""

from __future__ import annotations

import abc
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from .errors import CorruptObject

Body = bytes | bytearray | memoryview
"""The types of a body that may be written."""

Content = bytes | memoryview
"""The types of a body that was read: a view where that saves a copy. Both compare, measure and slice alike."""

CLOCK_KEY: Final = "_probe/clock"
"""Key under which `ObjectStore.now` writes a small object to learn the store's time. The object stays."""


MOST_BYTES: int = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
"""Largest body or range that is read: the memory of this machine."""


def check_room(size_bytes: int, *, key: str) -> None:
    """Refuse to read a body, before any of it is fetched, that this machine's memory can't hold.

    Raises:
        CorruptObject: It is larger.
    """
    if size_bytes > MOST_BYTES:
        raise CorruptObject(
            f"the object at {key!r} has {size_bytes} bytes to be read, and the memory of this machine {MOST_BYTES}",
            key=key,
            remedy="If it is one of a job's, run the job with smaller values or on a larger machine.",
        )


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Facts about an object that a store knows without reading it.

    Attributes:
        key: The key, relative to the store's URL.
        size: Length of the body in bytes.
        modified: When the body was written, by the store's clock; aware, in UTC.
    """

    key: str
    size: int
    modified: datetime


@dataclass(frozen=True, slots=True)
class TaggedObject:
    """An object as it was when a bucket was asked.

    Attributes:
        key: The key, relative to the bucket's URL.
        size_bytes: Length of the body.
        tag: The entity tag: it changes when the body does.
    """

    key: str
    size_bytes: int
    tag: str


@dataclass(frozen=True, slots=True)
class Retention:
    """Rules by which a store keeps objects that were deleted or overwritten.

    Attributes:
        versions: Whether earlier versions stay.
        is_locked: Whether versions may be locked against removal.
        mode: Default lock of new versions: "", "GOVERNANCE" or "COMPLIANCE".
        days: Days for which they are locked by default.
    """

    versions: bool = False
    is_locked: bool = False
    mode: str = ""
    days: int = 0


class ObjectStore(abc.ABC):
    """Objects under keys: write, read, list, delete.

    Stores are safe for use from several threads. Every method may raise `StorageUnavailable` (try again later) and
    `StorageDenied`. Methods that take a key raise `InvalidKey` for one that not every store could hold.

    Attributes:
        url: The URL with which `open_store` opens this store again, free of credentials.
        is_local: Whether its requests go to no server, so that several at once take as long as one after the other.
    """

    url: str
    is_local: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @abc.abstractmethod
    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        """Write an object whole or not at all; one request, or a few for a large one.

        A reader sees the old body or the new one, never a mixture. The body must not change until the call returns. If
        the call raises `StorageUnavailable`, the body must never change, because a request that was given up may still
        be under way.

        Args:
            key: Where to write.
            body: The bytes to write.
            if_absent: Write only if no object exists under the key. Of any number of concurrent writers, in any number
                of processes, exactly one succeeds.

        Raises:
            ObjectExists: `if_absent` was given and an object exists. It may be the caller's own, written by a request
                whose answer was lost: `put_once` tells the two apart.
            ConditionalWriteUnsupported: The store does not support `if_absent`.
            BucketNotFound: The bucket is missing.
        """

    @abc.abstractmethod
    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        """Read an object or a range of it; one request, repeated if the body breaks off.

        A range that reaches past the end returns the bytes up to the end. One that starts at the end or past it, or
        that has length 0, returns b"" (of an object that exists).

        Args:
            key: What to read.
            offset: First byte to read, counted from 0.
            length: How many bytes to read. None reads to the end.

        Raises:
            CorruptObject: There is more to read than this machine's memory holds. Nothing was fetched.
            ObjectNotFound: No object exists under the key.
            ValueError: `offset` or `length` is negative.
        """

    @abc.abstractmethod
    def head(self, key: str) -> ObjectInfo:
        """Return size and time of an object without its body; one request.

        Raises:
            ObjectNotFound: No object exists under the key. On S3 it may also be the bucket that is missing: the answer
                to a HEAD has no body that could tell.
        """

    @abc.abstractmethod
    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        """Yield the objects whose keys begin with the prefix, by key in UTF-8 byte order.

        Lazy: one request per 1,000 objects, made as the caller reaches them. An object written or deleted meanwhile may
        be seen or missed. All others are yielded exactly once.

        Args:
            prefix: Any string, not only whole segments.
            start_after: Yield only keys that come after this one.

        Raises:
            BucketNotFound: The bucket is missing.
        """

    @abc.abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; a key that is missing is no error.

        One request per 1,000 keys, and one more for each key that a busy server refused.

        Not atomic: where it raises, some of the keys may be deleted. Idempotent.

        Raises:
            StorageError: The store refused to delete one of the keys; the error names it.
        """

    def now(self) -> float:
        """Return the store's time in seconds since the epoch; two requests.

        Writes an object under `CLOCK_KEY` and looks up its date. Where dates are whole seconds (on S3, always) the
        error is at most half a second, plus half of the time that the two requests took.
        """
        began = time.monotonic()
        self.put(CLOCK_KEY, b"what time is it?")
        stamped = self.head(CLOCK_KEY).modified
        # Another process may have replaced our object meanwhile, so the date may be of any moment since the beginning:
        # return the middle. The same holds within a second whose fraction was cut off.
        return stamped.timestamp() + (time.monotonic() - began) / 2 + (0.0 if stamped.microsecond else 0.5)

    def retention(self) -> Retention | None:
        """Return which deleted objects the store keeps, or None if it does not say. Two requests on S3."""
        return Retention()


class Bucket(abc.ABC):
    """Objects that other programs write, for reading: under any key, with entity tags, and without fanout's guarantees.

    Attributes:
        url: URL of the bucket.
    """

    url: str

    @abc.abstractmethod
    def head(self, key: str) -> TaggedObject:
        """Return size and entity tag of an object. One request.

        Raises:
            ObjectNotFound: There is none.
        """

    @abc.abstractmethod
    def list(self, folder: str = "", *, after: str = "") -> Iterator[list[TaggedObject]]:
        """Yield pages of objects, in the order of their keys. One request per 1,000 objects; holds one page.

        Args:
            folder: Only keys below this folder, written without a "/" at its end; "" for all.
            after: Only keys after this one.
        """

    @abc.abstractmethod
    def read(self, key: str, start: int, end: int, *, tag: str | None = None) -> bytes:
        """Return a range of an object's bytes. One request; none for an empty range.

        Args:
            key: The object.
            start: First byte.
            end: End of the range, exclusive.
            tag: The entity tag that the object must have; None for any.

        Raises:
            ObjectNotFound: There is no such object.
            ObjectChanged: The object has another entity tag, or ends before the range does.
        """
