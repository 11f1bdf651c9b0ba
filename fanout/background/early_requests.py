"""Requests that are under way before their answers are needed."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Final, TypeVar

T = TypeVar("T")

THREADS: Final = 8
"""Requests that a process makes early at a time."""


class EarlyRequests:
    """Threads that make requests before a stage asks for their answers. Thread-safe.

    A stage begins requests that do not depend on each other at once, and asks for the answers in the order in which it
    needs them. So it meets the same error as if it made one request after the other. The error of an answer that it
    does not ask for is dropped.

    The threads start with the first request. A request that no thread has begun when its answer is needed is made by
    the thread that needs it. So a busy pool costs no time, nor does a pool of a process that has forked.
    """

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def begin(self, request: Callable[[], T]) -> Callable[[], T]:
        """Begin a request, within the limit that the caller may have set; return a function that returns its answer."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fanout-early")
        answer = self._pool.submit(copy_context().run, request)
        # no limit: each request ends with the limits of the store
        return lambda: request() if answer.cancel() else answer.result()
