"""Threads that wait for an answer, so that the caller need not: no client can be interrupted, but it can be left.

A helper that was left waits on until its client's own limits end it. There are so many at the most, and a process
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

MOST_HELPERS: Final = 64
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
        act: Called in a helper thread, with this thread's context. It may prolong the limit.
        limit: How long to wait.

    Raises:
        Late: The limit has passed. What was begun goes on, and its result is thrown away.
    """
    remaining_s = limit.remaining_s
    if remaining_s <= 0:
        raise Late(was_asked=False)
    errand = _Errand(act)
    _crew().give(errand, remaining_s)
    while not errand.done.acquire(timeout=limit.remaining_s):
        if limit.remaining_s <= 0:
            raise Late(was_asked=True)
    result: _T = errand.result()
    return result


class _Errand:
    """Something to do, and what came of it."""

    __slots__ = ("_act", "_context", "_error", "_result", "done")

    def __init__(self, act: Callable[[], Any]) -> None:
        self._act = act
        self._context: Context = copy_context()
        self._result: Any = None
        self._error: BaseException | None = None
        self.done = threading.Lock()
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


class _Helper(threading.Thread):
    def __init__(self, crew: _Crew) -> None:
        super().__init__(name="storage-helper", daemon=True)
        self.inbox: SimpleQueue[_Errand] = SimpleQueue()
        self._crew = crew

    def run(self) -> None:
        while True:
            try:
                errand = self.inbox.get(timeout=_IDLE_S)
            except Empty:
                if self._crew.dismiss(self):
                    return
                continue
            errand.run()
            self._crew.take_back(self)
            errand.done.release()
            del errand


class _Crew:
    """The helpers of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[_Helper] = []
        # One permit for each helper that may be at work.
        self._permits = threading.Semaphore(MOST_HELPERS)

    def give(self, errand: _Errand, remaining_s: float) -> None:
        if not self._permits.acquire(timeout=remaining_s):
            raise Late(was_asked=False)
        with self._lock:
            helper = self._idle.pop() if self._idle else None
        if helper is None:
            helper = _Helper(self)
            try:
                helper.start()
            except BaseException:
                self._permits.release()
                raise
        helper.inbox.put(errand)

    def take_back(self, helper: _Helper) -> None:
        with self._lock:
            self._idle.append(helper)
        self._permits.release()

    def dismiss(self, helper: _Helper) -> bool:
        """Whether a helper that had nothing to do may end: nobody has called it since."""
        with self._lock:
            if helper not in self._idle:
                return False
            self._idle.remove(helper)
            return True


_crews: dict[int, _Crew] = {}


def _crew() -> _Crew:
    # By process: the threads of a parent are not there in its children, nor may its locks be trusted.
    process = os.getpid()
    crew = _crews.get(process)
    return crew if crew is not None else _crews.setdefault(process, _Crew())
