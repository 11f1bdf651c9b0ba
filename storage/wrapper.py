"""A store around another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .object_store import Body, Content, ObjectInfo, ObjectStore, Retention


class StoreWrapper(ObjectStore):
    """A store that passes every call on to another one. A subclass changes some of them.

    Args:
        store: The store that does the work. Its URL is also this one's.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.url, self.is_local = store.url, store.is_local
        self._store = store

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._store.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        return self._store.get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return self._store.list(prefix, start_after=start_after)

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)

    def now(self) -> float:
        return self._store.now()

    def retention(self) -> Retention | None:
        return self._store.retention()
