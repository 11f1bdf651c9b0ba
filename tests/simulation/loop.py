"""Virtual time: an event loop that runs the real, synchronous stages in fibers, one at a time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

EPOCH = 1_800_000_000.0
"""Start of each schedule's clock, in seconds."""

TICK_S = 1e-6
"""Advance of the clock per reading, so that no two readings are equal."""


class Killed(BaseException):
    """The exception in a fiber whose process was killed. No `except Exception` catches it."""


class Process:
    """A worker, a caller or a sweeper. All of its fibers, its threads, die, are suspended and resume with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.skew_s = 0.0
        """Seconds that the process's clock is ahead of the store's."""
        self.suspended_until = 0.0
        self.fibers: set[Fiber] = set()
        self.pending: list[tuple[Fiber, int]] = []
        """Fibers, with their turns, that became due while the process was suspended."""
        self.restart: Callable[[], None] | None = None
        """Starts a replacement after the death of the process."""

    def __repr__(self) -> str:
        return self.name


class Fiber(greenlet):  # type: ignore[misc]
    """A thread of a process. When it sleeps or parks, the loop runs another fiber."""

    def __init__(self, loop: Loop, process: Process, body: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        super().__init__(self._live, loop.hub)
        self.process = process
        self.turn = 0
        """Number of sleeps so far, so that a timer of an earlier sleep does not end a later one."""
        self.done = False
        self.joining: list[Fiber] = []
        self._loop = loop
        self._body = body
        self._arguments = arguments
        process.fibers.add(self)

    def _live(self) -> None:
        try:
            self._body(*self._arguments)
        except Killed:
            pass
        except BaseException as error:
            self._loop.on_error(self, error)
        self.done = True
        self.process.fibers.discard(self)
        for waiting in self.joining:
            self._loop.wake(waiting)


class Loop:
    """The clock and the queue of events.

    Args:
        rng: The source of all random choices.
        on_error: Called with a fiber's uncaught exception.
    """

    def __init__(self, rng: random.Random, on_error: Callable[[Fiber, BaseException], None]) -> None:
        self.rng = rng
        self.on_error = on_error
        self.now = EPOCH
        self.hub = getcurrent()
        self._heap: list[tuple[float, int, Any, int]] = []
        self._count = 0

    def clock(self) -> float:
        """Return the time, and advance it a little."""
        self.now += TICK_S
        return self.now

    def wall_clock(self) -> float:
        """Return the time of the current process's clock."""
        current = getcurrent()
        return self.clock() + (current.process.skew_s if isinstance(current, Fiber) else 0.0)

    # For fibers

    def current(self) -> Fiber:
        fiber: Fiber = getcurrent()
        return fiber

    def sleep(self, seconds: float) -> None:
        fiber = self.current()
        if fiber.process.dead:
            raise Killed
        self._push(self.now + seconds, fiber, fiber.turn)
        self._switch(fiber)

    def park(self) -> None:
        """Sleep until another fiber wakes this one."""
        fiber = self.current()
        if fiber.process.dead:
            raise Killed
        self._switch(fiber)

    def wake(self, fiber: Fiber) -> None:
        self._push(self.now, fiber, fiber.turn)

    def _switch(self, fiber: Fiber) -> None:
        self.hub.switch()
        fiber.turn += 1
        if fiber.process.dead:
            raise Killed

    # For all

    def spawn(self, process: Process, body: Callable[..., object], *arguments: Any) -> Fiber:
        fiber = Fiber(self, process, body, arguments)
        self._push(self.now, fiber, 0)
        return fiber

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Schedule an action of the loop itself."""
        self._push(max(when, self.now), action, -1)

    def _push(self, when: float, target: Any, turn: int) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, target, turn))

    def resume(self, process: Process) -> None:
        """Resume a suspended process with all of its fibers."""
        process.suspended_until = min(process.suspended_until, self.now)
        for fiber, turn in process.pending:
            self._push(self.now, fiber, turn)
        process.pending.clear()

    # For the hub

    def _hold(self, fiber: Fiber, turn: int) -> None:
        process = fiber.process
        process.pending.append((fiber, turn))
        if len(process.pending) == 1:
            self.at(process.suspended_until, lambda: self.resume(process))

    def kill(self, process: Process) -> None:
        """End all fibers of a process. Only the loop may call it."""
        process.dead = True
        for fiber in sorted(process.fibers, key=lambda fiber: fiber.turn):
            if fiber:
                fiber.throw(Killed)
            else:
                # A fiber that never ran would run its body's first line on throw.
                fiber.done = True
        process.fibers.clear()

    def run(self, over: Callable[[], bool]) -> None:
        """Run events until `over` returns True, or until none is left."""
        heap = self._heap
        while heap and not over():
            when, _, target, turn = heapq.heappop(heap)
            if turn >= 0:
                fiber: Fiber = target
                if fiber.done or fiber.turn != turn or fiber.process.dead:
                    continue
                if fiber.process.suspended_until > when:
                    self._hold(fiber, turn)
                    continue
                self.now = max(self.now, when)
                fiber.switch()
            else:
                self.now = max(self.now, when)
                target()
