"""A store that counts the requests and bytes that a piece of work costs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from .object_store import Body, Content, ObjectInfo, ObjectStore
from .wrapper import StoreWrapper

_BATCH_KEYS = 1000


class CountingStore(StoreWrapper):
    """A store that passes every call on to another one and counts it, as S3 would bill it.

    A listing counts once per page of 1,000 objects that the caller reaches, a deletion once per batch of 1,000 keys,
    and any other call once. Failed calls count. Retries inside the other store are not seen. Safe for use from several
    threads.

    Args:
        store: The store that does the work. Its URL is also this one's.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self._requests: Counter[str] = Counter()
            self._bytes_in = 0
            self._bytes_out = 0

    @property
    def requests(self) -> Counter[str]:
        """A copy of the requests so far by verb: put, get, head, list, delete."""
        with self._lock:
            return Counter(self._requests)

    @property
    def bytes_in(self) -> int:
        """Bytes of the bodies handed to `put`, whether or not the put succeeded."""
        return self._bytes_in

    @property
    def bytes_out(self) -> int:
        """Bytes of the bodies that `get` returned."""
        return self._bytes_out

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._count("put", bytes_in=memoryview(body).nbytes)
        self._store.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        self._count("get")
        body = self._store.get(key, offset=offset, length=length)
        with self._lock:
            self._bytes_out += len(body)
        return body

    def head(self, key: str) -> ObjectInfo:
        self._count("head")
        return self._store.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        self._count("list")
        for position, info in enumerate(self._store.list(prefix, start_after=start_after)):
            if position and position % _BATCH_KEYS == 0:
                self._count("list")
            yield info

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := [*islice(remaining, _BATCH_KEYS)]:
            self._count("delete")
            self._store.delete(batch)

    def now(self) -> float:
        """Return the other store's time; counts as a put and a head, whatever the other store does."""
        self._count("put")
        self._count("head")
        return self._store.now()

    def _count(self, verb: str, *, bytes_in: int = 0) -> None:
        with self._lock:
            self._requests[verb] += 1
            self._bytes_in += bytes_in
