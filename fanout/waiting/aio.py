"""Callers that wait for jobs in an event loop. A few threads of the process make the requests of all of them."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from ..results import WINDOW
from .steps import Pause, Reads, Steps
from .view import JobView
from .wait import Wait

T = TypeVar("T")

THREADS = 8
"""Threads that make the requests of all callers that wait in event loops of this process."""

SWEEPERS = 2
"""Threads that sweep for them. They may hang while the broker does, so they make no other requests."""

HINTED_CALLERS = 10
"""Callers of a process that log a hint if no worker begins their job. In a crowd most jobs wait in a queue."""

POLLS_PER_S = 200
"""Polls of all these callers together, in a second. A caller among 1,000 polls every five seconds."""


class _Process:
    """The threads of one process, and the number of its waiting callers."""

    def __init__(self) -> None:
        # No thread starts before the first request. At exit Python waits for requests, which the store limits.
        self._requests = ThreadPoolExecutor(THREADS, thread_name_prefix="fanout-async")
        self._sweeps = ThreadPoolExecutor(SWEEPERS, thread_name_prefix="fanout-sweep")
        self._lock = threading.Lock()
        self._callers = 0

    def enter(self) -> int:
        """Count one caller more, and return how many there are."""
        with self._lock:
            self._callers += 1
            return self._callers

    def leave(self) -> None:
        """Count one caller less."""
        with self._lock:
            self._callers -= 1

    @property
    def least_pause_s(self) -> float:
        """Shortest pause of a caller, so that all together keep to `POLLS_PER_S`."""
        return self._callers / POLLS_PER_S

    def call(self, request: Callable[[], T]) -> asyncio.Future[T]:
        """Call a function that makes requests, in one of the threads and in the caller's context."""
        return asyncio.get_running_loop().run_in_executor(self._requests, partial(copy_context().run, request))

    def sweep(self, run: Callable[[], None], *, is_wanted: Callable[[], bool]) -> None:
        """Run a sweep in one of the threads, if the caller still waits when its turn comes."""
        self._sweeps.submit(lambda: run() if is_wanted() else None)


_processes: dict[int, _Process] = {}


def _process() -> _Process:
    # By process: a parent's threads do not exist in its children.
    pid = os.getpid()
    process = _processes.get(pid)
    return process if process is not None else _processes.setdefault(pid, _Process())


async def run_steps_async(
    view: JobView,
    make_steps: Callable[[JobView, Wait], Steps[T]],
    *,
    timeout_s: float | None = None,
    dutiful: bool = True,
) -> AsyncGenerator[T, None]:
    """Run steps for a caller in an event loop, and yield the values that they read. Reads ahead, at most 8 objects.

    A cancellation ends the wait, and leaves the job as it is. A request that was begun ends in its thread.

    Args:
        view: The job.
        make_steps: Returns the steps of a caller that waits.
        timeout_s: Seconds until JobTimeout; None for never.
        dutiful: Whether the waiting caller sweeps the job.
    """
    process = _process()
    is_waiting = True
    wait = Wait(
        view,
        timeout_s=timeout_s,
        dutiful=dutiful,
        hints=process.enter() <= HINTED_CALLERS,
        # A listener would need a connection for each caller.
        listens=False,
        start=partial(process.sweep, is_wanted=lambda: is_waiting),
    )
    try:
        steps = make_steps(view, wait)
        while (step := await process.call(partial(wait.call, partial(next, steps, None)))) is not None:
            if isinstance(step, Pause):
                await asyncio.sleep(min(max(step.wish_s, process.least_pause_s), step.left_s))
            else:
                async with aclosing(_read_ahead(process, wait, step)) as read:
                    async for values in read:
                        for value in values:
                            yield value
    finally:
        is_waiting = False
        process.leave()


async def _read_ahead(process: _Process, wait: Wait, reads: Reads[T]) -> AsyncGenerator[Sequence[T], None]:
    """Yield what functions return, in their order. Calls at most `WINDOW` of them ahead."""
    ahead: deque[asyncio.Future[Sequence[T]]] = deque()
    try:
        for read in reads:
            ahead.append(process.call(partial(wait.call, read)))
            if len(ahead) >= WINDOW:
                yield await ahead.popleft()
        while ahead:
            yield await ahead.popleft()
    finally:
        for future in ahead:
            if not future.cancel() and not future.cancelled():
                # no limit: the future is done; its failure must not be logged as forgotten
                future.exception()
