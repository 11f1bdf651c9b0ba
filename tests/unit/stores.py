"""A store in memory whose requests a test can record and fail, and whose objects it can damage and age."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

from fanout.records.keys import JOBS_PREFIX, launch_of
from storage import Body, MemoryStore, ObjectInfo, StorageUnavailable


class ScriptedStore(MemoryStore):
    """A store in memory with a log of its requests.

    Attributes:
        log: The verb and the key of each request, in order; for a listing, the prefix instead of the key.
        before: Called with verb and key before each request; the request fails with the error that it raises.
        after: Called with verb and key after each put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, str]] = []
        self.before: Callable[[str, str], None] = lambda verb, key: None
        self.after: Callable[[str, str], None] = lambda verb, key: None
        self._older_s: defaultdict[str, float] = defaultdict(float)

    def age(self, seconds: float, prefix: str = "") -> None:
        """Make every object under `prefix` older."""
        for info in super().list(prefix):
            self._older_s[info.key] += seconds

    def flip(self, key: str, at: int = -1) -> None:
        """Damage one byte of an object."""
        body = bytearray(super().get(key))
        body[at] ^= 0xFF
        super().put(key, body)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys under `prefix`, in order, without an entry in the log."""
        return [info.key for info in super().list(prefix)]

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._begin_request("put", key)
        super().put(key, body, if_absent=if_absent)
        self._older_s.pop(key, None)
        self.after("put", key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        self._begin_request("get", key)
        return super().get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        self._begin_request("head", key)
        return self._aged(super().head(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        self._begin_request("list", prefix)
        return map(self._aged, super().list(prefix, start_after=start_after))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._begin_request("delete", key)
            super().delete([key])

    def _begin_request(self, verb: str, key: str) -> None:
        self.log.append((verb, key))
        self.before(verb, key)

    def _aged(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, modified=info.modified - timedelta(seconds=self._older_s.get(info.key, 0.0)))


def kind_of(key: str) -> str:
    """Return the part of a job's key after its launch id, such as `results`; else the first part of the key."""
    return launch_of(key)[1].split("/")[0] if key.startswith(JOBS_PREFIX) else key.split("/")[0]


def refusing(*parts: str) -> Callable[[str, str], None]:
    """Return a hook for `before` that fails all requests but listings for keys that contain one of `parts`."""

    def refuse(verb: str, key: str) -> None:
        if any(part in key for part in parts) and verb != "list":
            raise StorageUnavailable(f"{verb} {key}", key=key)

    return refuse
