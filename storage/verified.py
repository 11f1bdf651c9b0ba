"""A store that is probed before its first write-once put."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .object_store import Body, Content, ObjectInfo, ObjectStore, Retention
from .probe import probe_store, read_probe_result, write_probe_result


class VerifiedStore(ObjectStore):
    """A store that refuses write-once puts until a probe has shown that it holds its guarantees.

    The first write-once put of a process reads the result of an earlier probe: one request. Without one it probes the
    store, and writes the result for other processes. Reads and other writes cost nothing more. A store that failed its
    probe is checked again at each write-once put, so that it is used as soon as it has been repaired and probed.

    Args:
        store: The store that does the work. Its URL is also this one's.
    """

    def __init__(self, store: ObjectStore) -> None:
        self.url, self.is_local = store.url, store.is_local
        self._store = store
        self._is_verified = False

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if not if_absent:
            self._store.put(key, body)
            return
        # No lock: a fork could leave it held for ever, and two threads that verify at once learn the same.
        if not self._is_verified:
            self._verify()
        self._store.put(key, body, if_absent=True)

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

    def _verify(self) -> None:
        report = read_probe_result(self._store)
        if report is None:
            report = probe_store(self._store)
            write_probe_result(self._store, report)
        error = report.error()
        if error is not None:
            raise error
        self._is_verified = True
