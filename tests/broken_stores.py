"""Stores in memory that each break one guarantee, as some servers do."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from storage import Body, ConditionalWriteUnsupported, MemoryStore, ObjectExists, ObjectInfo


class Careless(MemoryStore):
    """A store that ignores the condition: every writer wins."""

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        super().put(key, body)


class Racing(MemoryStore):
    """A store that checks first and then writes: concurrent writers all win.

    Args:
        writers: Number of writers that look before the first one writes.
    """

    def __init__(self, writers: int) -> None:
        super().__init__()
        self._all_have_looked = threading.Barrier(writers)

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if not if_absent:
            super().put(key, body)
            return
        exists = any(info.key == key for info in self.list(key))
        self._all_have_looked.wait()
        if exists:
            raise ObjectExists("an object exists", key=key)
        super().put(key, body)


class Refusing(MemoryStore):
    """A store without write-once puts."""

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if if_absent:
            raise ConditionalWriteUnsupported("writing was answered with NotImplemented, status 501", key=key)
        super().put(key, body)


class LosingAnswers(MemoryStore):
    """A store that writes, loses the answer, and finds its own object when it writes again."""

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        super().put(key, body, if_absent=if_absent)
        if if_absent:
            raise ObjectExists("an object exists", key=key)


class Overwriting(MemoryStore):
    """A store that reports the first writer correctly, but stores the last one's bytes."""

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        try:
            super().put(key, body, if_absent=if_absent)
        except ObjectExists:
            super().put(key, body)
            raise


class ReadingLate(MemoryStore):
    """A store that returns the first object in every read."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[str, bytes] = {}

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        super().put(key, body, if_absent=if_absent)
        self._first.setdefault(key, bytes(body))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        super().get(key)
        return self._first[key][offset : None if length is None else offset + length]


class WithoutRanges(MemoryStore):
    """A store that ignores ranges."""

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        return super().get(key)


class ListingLate(MemoryStore):
    """A store that does not list new objects."""

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return iter(())


class ListingDeleted(MemoryStore):
    """A store that lists deleted objects."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: dict[str, ObjectInfo] = {}

    def delete(self, keys: Iterable[str]) -> None:
        doomed = [*keys]
        self.dead |= {info.key: info for info in super().list() if info.key in doomed}
        super().delete(doomed)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from super().list(prefix)
        yield from (info for key, info in self.dead.items() if key.startswith(prefix))
