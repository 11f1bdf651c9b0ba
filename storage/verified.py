"""A store that is probed before its first write-once put."""

from __future__ import annotations

from .object_store import Body, ObjectStore
from .probe import probe_store, read_probe_result, write_probe_result
from .wrapper import StoreWrapper


class VerifiedStore(StoreWrapper):
    """A store that refuses write-once puts until a probe has shown that it holds its guarantees.

    The first write-once put of a process reads the result of an earlier probe: one request. Without one it probes the
    store, and writes the result for other processes. Reads and other writes cost nothing more. A store that failed its
    probe is checked again at each write-once put, so that it is used as soon as it has been repaired and probed.

    Args:
        store: The store that does the work. Its URL is also this one's.
    """

    def __init__(self, store: ObjectStore) -> None:
        super().__init__(store)
        self._is_verified = False

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        if not if_absent:
            self._store.put(key, body)
            return
        # No lock: a fork could leave it held for ever, and two threads that verify at once learn the same.
        if not self._is_verified:
            self._verify()
        self._store.put(key, body, if_absent=True)

    def _verify(self) -> None:
        report = read_probe_result(self._store)
        if report is None:
            report = probe_store(self._store)
            write_probe_result(self._store, report)
        error = report.error()
        if error is not None:
            raise error
        self._is_verified = True
