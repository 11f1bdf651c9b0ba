"""Calls that are made ahead of the one whose answer is read next."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def call_ahead(calls: Iterable[Callable[[], T]], *, threads: int, ahead: int, name: str = "fanout-read") -> Iterator[T]:
    """Yield what requests return, in their order. A caller that stops early waits for those on their way.

    Args:
        calls: Functions that each make a request. They are taken as they are needed.
        threads: Requests that are made at a time.
        ahead: Answers that are held or on their way, with the one that is yielded next.
        name: The beginning of the threads' names.
    """
    waiting: deque[Future[T]] = deque()
    # no limit: each request ends with the limits of its client
    with ThreadPoolExecutor(threads, thread_name_prefix=name) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()  # no limit: each request ends with the limits of its client
            while waiting:
                yield waiting.popleft().result()  # no limit: each request ends with the limits of its client
        finally:
            for future in waiting:
                future.cancel()
