"""A store in the memory of this process, for unit tests and first steps."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import count

from .errors import ObjectExists, ObjectNotFound
from .keys import check_key, check_range
from .object_store import Body, ObjectInfo, ObjectStore

_PAGE_OBJECTS = 1000
_unnamed = count(1)


class MemoryStore(ObjectStore):
    """Objects in a dict; lost when the process ends, and not shared with its children.

    Args:
        name: The name in the store's URL. Two instances of one name are still two stores: only
            `open_store("memory://name")` shares one store per name.
    """

    is_local = True

    def __init__(self, name: str | None = None) -> None:
        self.url = f"memory://{name if name is not None else f'unnamed-{next(_unnamed)}'}"
        self._objects: dict[str, tuple[bytes, datetime]] = {}
        self._lock = threading.Lock()

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        check_key(key)
        content = bytes(body)
        with self._lock:
            if if_absent and key in self._objects:
                raise ObjectExists(f"an object exists at {key!r} in {self.url} already", key=key)
            self._objects[key] = (content, datetime.now(UTC))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        content, _ = self._existing(key)
        return content[offset : None if length is None else offset + length]

    def head(self, key: str) -> ObjectInfo:
        content, modified = self._existing(key)
        return ObjectInfo(key, len(content), modified)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        # Code points sort as their UTF-8 bytes do, so comparing strings gives the guaranteed order.
        while page := self._page(prefix, start_after):
            yield from page
            start_after = page[-1].key

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            check_key(key)
            with self._lock:
                self._objects.pop(key, None)

    def now(self) -> float:
        """Return the time of this process's clock, without a request."""
        return time.time()

    def _existing(self, key: str) -> tuple[bytes, datetime]:
        check_key(key)
        with self._lock:
            try:
                return self._objects[key]
            except KeyError:
                raise ObjectNotFound(f"no object exists at {key!r} in {self.url}", key=key) from None

    def _page(self, prefix: str, start_after: str) -> Sequence[ObjectInfo]:
        with self._lock:
            keys = [key for key in self._objects if key.startswith(prefix) and key > start_after]
            objects = [(key, *self._objects[key]) for key in heapq.nsmallest(_PAGE_OBJECTS, keys)]
        return [ObjectInfo(key, len(content), modified) for key, content, modified in objects]
