"""Threads that wait for an answer instead of the caller: no client can be interrupted, but it can be left.

A thread that was left waits until the client's own limits end it. Their number is limited, and a forked process has
threads of its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from .deadline import CallLimit

MAX_WAITERS: Final = 64
"""Threads that wait for answers in one process, those included that their callers have left."""

_IDLE_S: Final = 30.0
_T = TypeVar("_T")


class Late(Exception):
    """No answer came in time.

    Attributes:
        was_asked: Whether the request was begun at all.
    """

    def __init__(self, *, was_asked: bool) -> None:
        super().__init__(was_asked)
        self.was_asked = was_asked


def call_within(act: Callable[[], _T], limit: CallLimit) -> _T:
    """Return what `act` returns or raise what it raises, but wait no longer than the limit says.

    Args:
        act: Called in a waiting thread, with this thread's context. It may extend the limit.
        limit: How long to wait.

    Raises:
        Late: The limit has passed. A call that was begun goes on, and its result is discarded.
    """
    remaining_s = limit.remaining_s
    if remaining_s <= 0:
        raise Late(was_asked=False)
    call = _Call(act)
    _pool().start(call, remaining_s)
    # no limit: it counts from the beginning of the call, and is extended by the bytes that came
    while not call.done.acquire(timeout=limit.remaining_s):
        if limit.remaining_s <= 0:
            raise Late(was_asked=True)
    # no limit: it is done
    result: _T = call.result()
    return result


class _Call:
    """A function to call, and its result or error."""

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
        """Call the function, and remember its result or error."""
        try:
            self._result = self._context.run(self._act)
        except BaseException as error:  # a panic of obstore is no Exception
            self._error = error

    def result(self) -> Any:
        """Return the result or raise the error; once."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The traceback refers to this frame: without the cycle both are freed at once.
                del error
        return self._result


class _Waiter(threading.Thread):
    """A thread that runs one call after another."""

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
            self._pool.release(self)
            call.done.release()
            del call


class _Pool:
    """The waiting threads of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Waiter] = []
        # One permit for each thread that may be at work.
        self._permits = threading.Semaphore(MAX_WAITERS)

    def start(self, call: _Call, remaining_s: float) -> None:
        """Start a call in a thread, waiting for a free one if need be.

        Raises:
            Late: None became free in time.
        """
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

    def release(self, thread: _Waiter) -> None:
        """Mark a thread as idle."""
        with self._lock:
            self._idle.append(thread)
        self._permits.release()

    def dismiss(self, thread: _Waiter) -> bool:
        """Return whether an idle thread may end, because no call has taken it meanwhile."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            return True


_pools: dict[int, _Pool] = {}


def _pool() -> _Pool:
    # By process: a parent's threads do not exist in its children, and its locks may be held for ever.
    process = os.getpid()
    pool = _pools.get(process)
    return pool if pool is not None else _pools.setdefault(process, _Pool())
