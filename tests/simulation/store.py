"""The store of the simulation: each call takes time, may fail, and may kill the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from storage import Body, MemoryStore, ObjectExists, ObjectInfo, ObjectStore, StorageDenied, StorageUnavailable
from tests.stores import InterceptedStore

if TYPE_CHECKING:
    from .world import World

T = TypeVar("T")

LATE_S = 20.0
"""The longest delay of a put that is applied late."""


class TimedStore(MemoryStore):
    """Objects in memory, dated by the schedule's clock. The store reports each write to the invariants."""

    def __init__(self, world: World) -> None:
        super().__init__("simulation")
        self._world = world
        self._dates: dict[str, datetime] = {}

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        before = self._objects.get(key)
        super().put(key, body, if_absent=if_absent)
        self._dates[key] = datetime.fromtimestamp(self._world.loop.now, UTC)
        self._world.invariants.on_write(key, None if before is None else before[0], bytes(body))

    def head(self, key: str) -> ObjectInfo:
        return self._dated(super().head(key))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        return map(self._dated, super().list(prefix, start_after=start_after))

    def written_at(self, key: str) -> float | None:
        """Return the time of the object's last write, or None if there is no object."""
        return self._dates[key].timestamp() if key in self._objects else None

    def __contains__(self, key: str) -> bool:
        return key in self._objects

    def _dated(self, info: ObjectInfo) -> ObjectInfo:
        return ObjectInfo(info.key, info.size, self._dates[info.key])


class FaultyStore(InterceptedStore):
    """The store that the library gets. Each request is one step of the schedule."""

    def __init__(self, world: World, inner: ObjectStore) -> None:
        super().__init__(inner)
        self._world = world
        # Stages make requests at once, as they do where the store is a server.
        self.is_local = False

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        content = bytes(body)
        verb = "put once" if if_absent else "put"
        self.intercept(verb, key, lambda: self.inner.put(key, content, if_absent=if_absent))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        # Jobs here have fewer objects than a page, so that a listing is one atomic request.
        return iter(self.intercept("list", prefix, lambda: [*self.inner.list(prefix, start_after=start_after)]))

    def now(self) -> float:
        return self.intercept("head", "clock", lambda: self._world.loop.now)

    def intercept(self, verb: str, key: str, request: Callable[[], T]) -> T:
        world = self._world
        world.invariants.on_request(world.loop.current().process, verb, key)
        world.loop.sleep(world.latency())
        fault = world.faults.draw_at_call()
        if fault is None:
            world.note(verb, key)
            return request()
        world.note(verb, key, fault)
        if fault == "own write found" and verb != "put once":
            return request()
        if fault == "put applied late" and not verb.startswith("put"):
            fault = "call refused"
        world.faults.record(fault)
        if fault in ("call refused", "call denied", "response lost", "put applied late"):
            world.invariants.on_refusal(world.loop.current().process)
        if fault == "killed before a call":
            world.die()
        if fault == "call refused":
            raise StorageUnavailable(f"refused: {verb} {key}", key=key)
        if fault == "call denied":
            raise StorageDenied(f"denied: {verb} {key}", key=key)
        if fault == "suspended":
            world.suspend()
        elif fault == "cut off":
            world.cut_off()
        if fault == "put applied late":
            world.loop.at(world.loop.now + world.rng.random() * LATE_S, lambda: self._apply_late(request))
            raise StorageUnavailable(f"no response yet: {verb} {key}", key=key)
        response = request()
        if fault == "killed after a call":
            world.die()
        if fault == "response lost":
            raise StorageUnavailable(f"response lost: {verb} {key}", key=key)
        if fault == "own write found":
            raise ObjectExists(f"exists: {key}", key=key)
        return response

    @staticmethod
    def _apply_late(request: Callable[[], object]) -> None:
        with suppress(ObjectExists):
            request()
