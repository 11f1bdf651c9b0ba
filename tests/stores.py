"""Stores that tests watch, fail, damage and age: one wrapper for every store, and hooks to compose."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from typing import Any, TypeVar

from fanout.records.index import ENDED_PREFIX
from fanout.records.keys import JOBS_PREFIX, launch_of
from storage import (
    Body,
    Content,
    MemoryStore,
    ObjectInfo,
    ObjectStore,
    StorageError,
    StorageUnavailable,
    is_encoded,
)
from storage.wrapper import StoreWrapper

T = TypeVar("T")
Hook = Callable[[str, str], None]
"""Called with verb and key of a request, and for a listing with the prefix in the place of the key."""


class InterceptedStore(StoreWrapper):
    """A store that hands each request of another one to `intercept`, which a subclass overrides.

    Args:
        inner: The store that does the work. Its URL is also this one's.
    """

    def __init__(self, inner: ObjectStore) -> None:
        super().__init__(inner)
        self.inner = inner

    def intercept(self, verb: str, key: str, request: Callable[[], T]) -> T:
        """Make a request: `put`, `get`, `head`, `list`, or `delete` of one key."""
        return request()

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self.intercept("put", key, lambda: self.inner.put(key, body, if_absent=if_absent))

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        return self.intercept("get", key, lambda: self.inner.get(key, offset=offset, length=length))

    def head(self, key: str) -> ObjectInfo:
        return self.intercept("head", key, lambda: self.inner.head(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return self.intercept("list", prefix, lambda: self.inner.list(prefix, start_after=start_after))

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.intercept("delete", key, lambda key=key: self.inner.delete([key]))  # type: ignore[misc]


@dataclass
class Fault:
    """A hook that fails some requests.

    Attributes:
        verbs: The verbs of the requests that count, separated by spaces; "" for every verb.
        parts: A request counts if its key contains one of these strings; () for every key.
        at: Number of the first request that fails, among those that count, from 1.
        times: Number of requests that fail; None for all from then on.
        error: The class of the error.
        thread: The thread whose requests count; None for every thread.
        injected: Number of requests that failed.
    """

    verbs: str = ""
    parts: tuple[str, ...] = ()
    at: int = 1
    times: int | None = 1
    error: type[BaseException] = StorageUnavailable
    thread: threading.Thread | None = None
    injected: int = 0
    _requests: Iterator[int] = field(default_factory=lambda: count(1), repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, verb: str, key: str) -> None:
        if not matches(self.verbs, self.parts, verb, key):
            return
        if self.thread not in (None, threading.current_thread()):
            return
        with self._lock:
            number = next(self._requests)
            fails = number >= self.at and (self.times is None or number < self.at + self.times)
            self.injected += fails
        if fails:
            error = self.error(f"{verb} {key}: no answer")
            if isinstance(error, StorageError):
                error.key = key
            raise error


def fail_each_request(
    verbs: str = "",
    *parts: str,
    times: int | None = 1,
    error: type[BaseException] = StorageUnavailable,
    thread: threading.Thread | None = None,
) -> Iterator[Fault]:
    """Yield a fault at the first request, then one at the second, and so on, up to the last request that there is.

    The last fault that is yielded comes after all requests, so the caller's last pass is one without a fault.

    Raises:
        AssertionError: Not even the first fault was injected.
    """
    for at in count(1):
        fault = Fault(verbs, parts, at=at, times=times, error=error, thread=thread)
        yield fault
        if not fault.injected:
            assert at > 1, "no request was made"
            return


class ScriptedStore(InterceptedStore):
    """A store in memory with a log of its requests, which a test can fail, and whose objects it can damage and age.

    Attributes:
        log: The verb and the key of each request, in order; for a listing, the prefix instead of the key.
        before: Called before each request; the request fails with the error that it raises.
        after: Called after each put.
    """

    def __init__(self) -> None:
        self._memory = MemoryStore()
        super().__init__(self._memory)
        self.log: list[tuple[str, str]] = []
        self.before: Hook = ignore
        self.after: Hook = ignore
        self._older_s: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def failing(
        self,
        verbs: str = "",
        *parts: str,
        at: int = 1,
        times: int | None = None,
        error: type[BaseException] = StorageUnavailable,
    ) -> Iterator[Fault]:
        """Fail requests within the block: see `Fault`. All that match fail unless `times` is given."""
        with self.injecting(Fault(verbs, parts, at=at, times=times, error=error)) as fault:
            yield fault

    @contextmanager
    def injecting(self, fault: Fault, *, after: bool = False) -> Iterator[Fault]:
        """Inject a fault within the block, before requests, or after puts, which then lose their answer."""
        name = "after" if after else "before"
        setattr(self, name, fault)
        try:
            yield fault
        finally:
            setattr(self, name, ignore)

    def before_first(self, verb: str, part: str, action: Callable[[], object]) -> None:
        """Call `action` before the next request of this verb for a key that contains `part`, and only then."""
        self.before = self._once("before", verb, part, action)

    def after_first(self, part: str, action: Callable[[], object]) -> None:
        """Call `action` after the next put of a key that contains `part`, and only then."""
        self.after = self._once("after", "put", part, action)

    def age(self, seconds: float, prefix: str = "") -> None:
        """Make every object under `prefix` older, and let entries of the index of ended jobs say so."""
        for key in self.keys(prefix):
            self._older_s[key] += seconds
            if key.startswith(ENDED_PREFIX) and is_encoded(self.inner.get(key)):
                self._move(key, _make_older(key, seconds))

    def flip(self, key: str, at: int = -1) -> None:
        """Damage one byte of an object."""
        body = bytearray(self.inner.get(key))
        body[at] ^= 0xFF
        self.inner.put(key, body)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys under `prefix`, in order, without an entry in the log."""
        return [info.key for info in self.inner.list(prefix)]

    def snapshot(self) -> Mapping[str, Any]:
        """Return the objects as they are, for `restore`."""
        return dict(self._memory._objects)

    def restore(self, objects: Mapping[str, Any]) -> None:
        """Go back to the objects of a snapshot, and to their ages without `age`."""
        self._memory._objects = dict(objects)
        self._older_s.clear()

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        super().put(key, body, if_absent=if_absent)
        self._older_s.pop(key, None)
        self.after("put", key)

    def head(self, key: str) -> ObjectInfo:
        return self._aged(super().head(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return map(self._aged, super().list(prefix, start_after=start_after))

    def intercept(self, verb: str, key: str, request: Callable[[], T]) -> T:
        self.log.append((verb, key))
        self.before(verb, key)
        return request()

    def _once(self, name: str, verb: str, part: str, action: Callable[[], object]) -> Hook:
        def hook(asked: str, key: str) -> None:
            if asked == verb and part in key:
                setattr(self, name, ignore)
                action()

        return hook

    def _move(self, key: str, target: str) -> None:
        self._older_s[target] = self._older_s.pop(key)
        self.inner.put(target, self.inner.get(key))
        self.inner.delete([key])

    def _aged(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, modified=info.modified - timedelta(seconds=self._older_s.get(info.key, 0.0)))


def _make_older(key: str, seconds: float) -> str:
    """Return the key of an ended job's entry as it would be if the job had ended that many seconds before."""
    minute, rest = key.removeprefix(ENDED_PREFIX).split("/", 1)
    ended_at = datetime.strptime(minute, "%Y%m%dT%H%M%S") - timedelta(seconds=seconds)
    return f"{ENDED_PREFIX}{ended_at:%Y%m%dT%H%M%S}/{rest}"


def ignore(verb: str, key: str) -> None:
    """Do nothing: the hook of a store that a test leaves alone."""


def matches(verbs: str, parts: tuple[str, ...], verb: str, key: str) -> bool:
    """Return whether a request has one of `verbs`, and a key that contains one of `parts`; "" and () match all."""
    return (not verbs or verb in verbs.split()) and (not parts or any(part in key for part in parts))


def kind_of(key: str) -> str:
    """Return the part of a job's key after its launch id, such as `results`; else the first part of the key."""
    return launch_of(key)[1].split("/")[0] if key.startswith(JOBS_PREFIX) else key.split("/")[0]
