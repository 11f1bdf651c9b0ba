"""Virtual time: an event loop that steps the real, synchronous stages as fibers, one at a time."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

EPOCH = 1_800_000_000.0
"""Where every schedule's clock begins, in seconds."""

TICK_S = 1e-6
"""What a look at the clock costs, so that no two looks show the same time."""


class Killed(BaseException):
    """Raised in a fiber whose process was killed: no `except Exception` sees it, and nothing it does has an effect."""


class Process:
    """What dies, freezes and goes on as a whole: a worker, a caller, a sweeper. Several fibers may be its threads."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.skew_s = 0.0
        """How far its clock is ahead of the store's."""
        self.frozen_until = 0.0
        self.fibers: set[Fiber] = set()
        self.held: list[tuple[Fiber, int]] = []
        """Fibers, with their turns, that would have gone on while it stood still."""
        self.again: Callable[[], None] | None = None
        """Starts another in its place when it has died."""

    def __repr__(self) -> str:
        return self.name


class Fiber(greenlet):  # type: ignore[misc]
    """A thread of a process. Runs until it sleeps or parks; then the loop runs another."""

    def __init__(self, loop: Loop, process: Process, body: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        super().__init__(self._live, loop.hub)
        self.process = process
        self.turn = 0
        """Counts its sleeps, so that an alarm that was set for an earlier one does not wake it from this one."""
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
    """The clock and all that is to happen.

    Args:
        rng: Where every choice comes from.
        on_error: Called with what a fiber raised and nobody caught.
    """

    def __init__(self, rng: random.Random, on_error: Callable[[Fiber, BaseException], None]) -> None:
        self.rng = rng
        self.on_error = on_error
        self.now = EPOCH
        self.hub = getcurrent()
        self._heap: list[tuple[float, int, Any, int]] = []
        self._count = 0

    def clock(self) -> float:
        """The time; later at each look."""
        self.now += TICK_S
        return self.now

    def wall_clock(self) -> float:
        """What the machine of the running process takes the time to be."""
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
        """Sleep until somebody wakes this fiber."""
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

    # For anybody

    def spawn(self, process: Process, body: Callable[..., object], *arguments: Any) -> Fiber:
        fiber = Fiber(self, process, body, arguments)
        self._push(self.now, fiber, 0)
        return fiber

    def at(self, when: float, action: Callable[[], object]) -> None:
        """Have the loop itself do something."""
        self._push(max(when, self.now), action, -1)

    def _push(self, when: float, what: Any, turn: int) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what, turn))

    def thaw(self, process: Process) -> None:
        """Let a process that stands still go on, with all of its fibers."""
        process.frozen_until = min(process.frozen_until, self.now)
        for fiber, turn in process.held:
            self._push(self.now, fiber, turn)
        process.held.clear()

    # For the hub

    def _hold(self, fiber: Fiber, turn: int) -> None:
        process = fiber.process
        process.held.append((fiber, turn))
        if len(process.held) == 1:
            self.at(process.frozen_until, lambda: self.thaw(process))

    def kill(self, process: Process) -> None:
        """End every fiber of a process where it stands. Only the loop may call it."""
        process.dead = True
        for fiber in sorted(process.fibers, key=lambda fiber: fiber.turn):
            if fiber:
                fiber.throw(Killed)
            else:
                # It never ran; thrown into, it would run its body's first line.
                fiber.done = True
        process.fibers.clear()

    def run(self, over: Callable[[], bool]) -> None:
        """Let time pass until `over`, or until nothing is left to happen."""
        heap = self._heap
        while heap and not over():
            when, _, what, turn = heapq.heappop(heap)
            if turn >= 0:
                fiber: Fiber = what
                if fiber.done or fiber.turn != turn or fiber.process.dead:
                    continue
                if fiber.process.frozen_until > when:
                    self._hold(fiber, turn)
                    continue
                self.now = max(self.now, when)
                fiber.switch()
            else:
                self.now = max(self.now, when)
                what()
