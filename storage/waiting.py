"""Threads that wait for an answer, so that the caller need not: no client can be interrupted, but it can be left.

A thread that was left waits on until its client's own limits end it. There are so many at the most, and a process
that was forked has its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from .deadline import CallLimit

MOST_WAITERS: Final = 64
"""Threads that wait for answers in one process, those included that nobody waits for any more."""

_IDLE_S: Final = 30.0
_T = TypeVar("_T")


class Late(Exception):
    """There was no answer in time.

    Attributes:
        was_asked: Whether the request was begun at all.
    """

    def __init__(self, *, was_asked: bool) -> None:
        super().__init__(was_asked)
        self.was_asked = was_asked


def bounded(act: Callable[[], _T], limit: CallLimit) -> _T:
    """Return what `act` returns or raise what it raises, but wait no longer than the limit says.

    Args:
        act: Called in a waiting thread, with this thread's context. It may prolong the limit.
        limit: How long to wait.

    Raises:
        Late: The limit has passed. What was begun goes on, and its result is thrown away.
    """
    remaining_s = limit.remaining_s
    if remaining_s <= 0:
        raise Late(was_asked=False)
    call = _Call(act)
    _pool().give(call, remaining_s)
    # no limit: it is counted from when the call began, and prolonged by the bytes that came
    while not call.done.acquire(timeout=limit.remaining_s):
        if limit.remaining_s <= 0:
            raise Late(was_asked=True)
    # no limit: it is done
    result: _T = call.result()
    return result


class _Call:
    """Something to do, and what came of it."""

    __slots__ = ("_act", "_context", "_error", "_result", "done")

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._context: Context = copy_context()
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = threading.Lock()
        # no limit: it is new, and free
        self.done.acquire()

    def run(self) -> None:
        try:
            self._result = self._context.run(self._act)
        except BaseException as error:  # a panic of obstore's is no Exception
            self._error = error

    def result(self) -> Any:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback knows this frame: without the circle both go at once.
                del error
        return self._result


class _Waiter(threading.Thread):
    def __init__(self, pool: _Pool) -> None:
        super().__init__(name="storage-waiter", daemon=True)
        self.inbox: SimpleQueue[_Call] = SimpleQueue()
        self._pool = pool

    def run(self) -> None:
        while True:
            try:
                # no limit: it is a daemon, and ends when it was idle for so long
                call = self.inbox.get(timeout=_IDLE_S)
            except Empty:
                if self._pool.dismiss(self):
                    return
                continue
            call.run()
            self._pool.take_back(self)
            call.done.release()
            del call


class _Pool:
    """The waiting threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Waiter] = []
        # One permit for each thread that may be at work.
        self._permits = threading.Semaphore(MOST_WAITERS)

    def give(self, call: _Call, remaining_s: float) -> None:
        if not self._permits.acquire(timeout=remaining_s):
            raise Late(was_asked=False)
        with self._lock:
            thread = self._idle.pop() if self._idle else None
        if thread is None:
            thread = _Waiter(self)
            try:
                thread.start()
            except BaseException:
                self._permits.release()
                raise
        thread.inbox.put(call)

    def take_back(self, thread: _Waiter) -> None:
        with self._lock:
            self._idle.append(thread)
        self._permits.release()

    def dismiss(self, thread: _Waiter) -> bool:
        """Whether a thread that had nothing to do may end: nobody has called it since."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            return True


_pools: dict[int, _Pool] = {}


def _pool() -> _Pool:
    # By process: the threads of a parent are not there in its children, nor may its locks be trusted.
    process = os.getpid()
    pool = _pools.get(process)
    return pool if pool is not None else _pools.setdefault(process, _Pool())
