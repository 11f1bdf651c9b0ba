"""A store whose promises are looked at before anything rests on them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from .errors import ObjectExists, ObjectNotFound
from .object_store import Body, Content, ObjectInfo, ObjectStore, Retention
from .probe import WRITE_ONCE, probe_store, read_probe_result, write_probe_result

_LOG = logging.getLogger("storage")


class VerifiedStore(ObjectStore):
    """Passes everything on to another store, once that is known to keep its promises.

    The first write-once put of a process looks for the verdict of an earlier probe: one request. If there is none it
    probes, and leaves the verdict in the store for everybody else. Whoever only reads, or writes otherwise, asks
    nothing. A store that was found wanting is looked at again with each write-once put, so that it is used as soon as
    it has been mended and probed afresh.

    With `unsafe_write_once`, a store that does everything else but ignores or refuses write-once puts is used all the
    same: such a put then looks whether the key is free, writes, and reads back, three requests instead of one. Of
    two writers that meet within that moment both may believe that they were first; the second one's bytes stand.

    Args:
        store: The store that does the work; its URL is also this one's.
        unsafe_write_once: Whether to make do without write-once puts.
    """

    def __init__(self, store: ObjectStore, *, unsafe_write_once: bool = False) -> None:
        self.url = store.url
        self._store = store
        self.unsafe_write_once = unsafe_write_once
        self._emulates: bool | None = None

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if not if_absent:
            self._store.put(key, body)
            return
        # No lock: a fork could leave it held for ever, and two threads that both look see the same.
        if self._emulates is None:
            self._emulates = self._look()
        if self._emulates:
            self._put_unsafely(key, body)
        else:
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

    def _look(self) -> bool:
        """Whether write-once puts must be emulated; raises if the store can't be used at all."""
        report = read_probe_result(self._store)
        if report is None:
            report = probe_store(self._store)
            write_probe_result(self._store, report)
        error = report.error()
        if error is None:
            return False
        if self.unsafe_write_once and [guarantee.name for guarantee in report.broken] == [WRITE_ONCE]:
            _LOG.warning("%s: write-once puts are emulated, as unsafe_write_once asks: %s", self.url, error.args[0])
            return True
        raise error

    def _put_unsafely(self, key: str, body: Body) -> None:
        try:
            self._store.head(key)
        except ObjectNotFound:
            self._store.put(key, body)
            if self._store.get(key) == body:
                return
        raise ObjectExists(f"an object stands at {key!r} in {self.url} already", key=key)
