"""A store in memory that a test can watch, break and make old."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from fanout.records.keys import JOBS_PREFIX, launch_of
from storage import Body, MemoryStore, ObjectInfo, StorageUnavailable


class ScriptedStore(MemoryStore):
    """Objects in memory, with a log of what was asked for.

    Attributes:
        log: Each request as its verb and its key (the prefix, for a listing), in order.
        before: Called with verb and key before a request is carried out; what it raises is the answer.
        after: Called with verb and key after a put was carried out.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda verb, key: None
        self.after: Callable[[str, str], None] = lambda verb, key: None
        self._older_s: defaultdict[str, float] = defaultdict(float)

    def age(self, seconds: float, prefix: str = "") -> None:
        """Make every object that stands under `prefix` older."""
        for found in super().list(prefix):
            self._older_s[found.key] += seconds

    def flip(self, key: str, at: int = -1) -> None:
        """Damage one byte of an object."""
        body = bytearray(super().get(key))
        body[at] ^= 0xFF
        super().put(key, body)

    def keys(self, prefix: str = "") -> list[str]:
        """Keys under `prefix`, in order; leaves no trace in the log."""
        return [found.key for found in super().list(prefix)]

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._asked("put", key)
        super().put(key, body, if_absent=if_absent)
        self._older_s.pop(key, None)
        self.after("put", key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self._asked("get", key)
        return super().get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        self._asked("head", key)
        return self._aged(super().head(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        self._asked("list", prefix)
        return map(self._aged, super().list(prefix, start_after=start_after))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._asked("delete", key)
            super().delete([key])

    def _asked(self, verb: str, key: str) -> None:
        self.log.append((verb, key))
        self.before(verb, key)

    def _aged(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, modified=info.modified - timedelta(seconds=self._older_s.get(info.key, 0.0)))


def kind_of(key: str) -> str:
    """What lies under a key: `out`, `in`, `manifest` …; for what is of no job, the first part of the key."""
    return launch_of(key)[1].split("/")[0] if key.startswith(JOBS_PREFIX) else key.split("/")[0]


def refusing(*parts: str) -> Callable[[str, str], None]:
    """For `before`: nothing is answered about keys that contain one of these, but listings are."""

    def refuse(verb: str, key: str) -> None:
        if any(part in key for part in parts) and verb != "list":
            raise StorageUnavailable(f"{verb} {key}", key=key)

    return refuse
