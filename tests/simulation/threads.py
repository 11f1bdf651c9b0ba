"""Substitutes for threads, clocks and random tokens in the library's modules while a schedule is played."""

from __future__ import annotations

import concurrent.futures
import functools
import secrets
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace, TracebackType
from typing import Any

from .loop import Fiber, Killed, Loop

PACKAGES = ("fanout", "storage")

REPLACED = {
    id(value)
    for value in (
        *(time, threading, secrets, uuid),
        *(concurrent.futures.ThreadPoolExecutor, concurrent.futures.wait),
    )
}


@contextmanager
def install(loop: Loop, **constants: Any) -> Iterator[None]:
    """Let the library's modules use `loop` within the context: its clock, its fibers as threads, its seed for tokens.

    Names such as `time`, `threading` and `ThreadPoolExecutor` in the library's modules are replaced. The test runner
    and the standard library are unchanged. `constants` replaces module constants by name.
    """
    substitutes = _substitutes(loop)
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    for name, module in list(sys.modules.items()):
        if not name.startswith(PACKAGES) or name.partition(".")[0] not in PACKAGES or module is None:
            continue
        held = vars(module)
        for attribute in _attributes_to_replace(name, len(held), *constants):
            value = held[attribute]
            substitute = constants.get(attribute) if attribute in constants else substitutes.get(id(value))
            if substitute is not None:
                replaced.append((held, attribute, value))
                held[attribute] = substitute
    try:
        yield
    finally:
        for held, attribute, value in replaced:
            held[attribute] = value


@functools.cache
def _attributes_to_replace(name: str, count: int, *constants: str) -> list[str]:
    """Return a module's attributes that `install` may replace. A module with another `count` of them is read again."""
    held = vars(sys.modules[name])
    return [attribute for attribute, value in held.items() if attribute in constants or id(value) in REPLACED]


def _substitutes(loop: Loop) -> dict[int, Any]:
    rng = loop.rng
    clock = SimpleNamespace(time=loop.wall_clock, monotonic=loop.clock, perf_counter=loop.clock, sleep=loop.sleep)
    threads = SimpleNamespace(
        Thread=lambda **settings: Thread(loop, **settings),
        Event=lambda: Event(loop),
        Lock=lambda: Lock(loop),
        RLock=lambda: Lock(loop),
    )
    return {
        id(time): clock,
        id(threading): threads,
        id(secrets): SimpleNamespace(token_hex=lambda length: f"{rng.getrandbits(8 * length):0{2 * length}x}"),
        id(uuid): SimpleNamespace(uuid4=lambda: uuid.UUID(int=rng.getrandbits(128), version=4)),
        id(concurrent.futures.ThreadPoolExecutor): lambda workers=1, **_: Executor(loop, workers),
        id(concurrent.futures.wait): lambda futures, return_when=concurrent.futures.ALL_COMPLETED: wait(
            loop, futures, return_when
        ),
    }


class Lock:
    """A lock between the fibers of a process."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._held = False
        self._waiting: deque[Fiber] = deque()

    def __enter__(self) -> None:
        while self._held:
            self._waiting.append(self._loop.current())
            self._loop.park()
        self._held = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held = False
        if self._waiting:
            self._loop.wake(self._waiting.popleft())


class Event:
    """A flag that fibers wait for."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._set = False
        self._waiting: list[Fiber] = []

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        self._set = True
        for fiber in self._waiting:
            self._loop.wake(fiber)
        self._waiting.clear()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        if not self._set:
            fiber = self._loop.current()
            self._waiting.append(fiber)
            if timeout is None:
                self._loop.park()
            else:
                self._loop.sleep(timeout)
            if fiber in self._waiting:
                self._waiting.remove(fiber)
        return self._set


class Thread:
    """A fiber of the process that starts it."""

    def __init__(self, loop: Loop, *, target: Callable[..., object], args: tuple[Any, ...] = (), **_: Any) -> None:
        self._loop = loop
        self._target = target
        self._args = args
        self._fiber: Fiber | None = None

    def start(self) -> None:
        self._fiber = self._loop.spawn(self._loop.current().process, self._target, *self._args)

    def is_alive(self) -> bool:
        return self._fiber is not None and not self._fiber.done

    def join(self, timeout: float | None = None) -> None:
        fiber = self._fiber
        while fiber is not None and not fiber.done:
            fiber.joining.append(self._loop.current())
            self._loop.park()


class Future:
    """The future result of an executor's fiber."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._state = "waiting"
        self._value: Any = None
        self._error: BaseException | None = None
        self.watchers: list[Fiber] = []

    def run(self, body: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        try:
            self._value = body(*arguments)
        except Killed:
            raise
        except BaseException as error:
            self._error = error
        self._end("done")

    def cancel(self) -> bool:
        if self._state == "waiting":
            self._end("cancelled")
        return self._state == "cancelled"

    def begin(self) -> bool:
        if self._state == "cancelled":
            return False
        self._state = "running"
        return True

    def cancelled(self) -> bool:
        return self._state == "cancelled"

    def done(self) -> bool:
        return self._state in ("done", "cancelled")

    def result(self) -> Any:
        self._await()
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        self._await()
        return self._error

    def _await(self) -> None:
        while not self.done():
            self.watchers.append(self._loop.current())
            self._loop.park()
        if self.cancelled():
            raise concurrent.futures.CancelledError

    def _end(self, state: str) -> None:
        self._state = state
        for fiber in self.watchers:
            self._loop.wake(fiber)
        self.watchers.clear()


class Executor:
    """A pool of fibers of the process that makes it."""

    def __init__(self, loop: Loop, workers: int) -> None:
        self._loop = loop
        self._process = loop.current().process
        self._idle = workers
        self._queue: deque[tuple[Future, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._futures: list[Future] = []

    def submit(self, body: Callable[..., Any], *arguments: Any) -> Future:
        future = Future(self._loop)
        self._futures.append(future)
        self._queue.append((future, body, arguments))
        if self._idle:
            self._idle -= 1
            self._loop.spawn(self._loop.current().process, self._work)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        if cancel_futures:
            for future in self._futures:
                future.cancel()
        # Python closes a killed process's generators later, outside of its fibers.
        if wait and not self._process.dead and isinstance(self._loop.current(), Fiber):
            _wait(self._loop, self._futures)

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def _work(self) -> None:
        while self._queue:
            future, body, arguments = self._queue.popleft()
            if future.begin():
                future.run(body, arguments)
        self._idle += 1


def _wait(loop: Loop, futures: Iterable[Future]) -> None:
    for future in futures:
        while not future.done():
            future.watchers.append(loop.current())
            loop.park()


def wait(loop: Loop, futures: Iterable[Future], return_when: str) -> SimpleNamespace:
    """Wait for futures as `concurrent.futures.wait` does."""
    every = list(dict.fromkeys(futures))
    if return_when == concurrent.futures.FIRST_COMPLETED:
        while every and not any(future.done() for future in every):
            fiber = loop.current()
            for future in every:
                future.watchers.append(fiber)
            loop.park()
    else:
        _wait(loop, every)
    done = {future for future in every if future.done()}
    return SimpleNamespace(done=done, not_done=set(every) - done)
