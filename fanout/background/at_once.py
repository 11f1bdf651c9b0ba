"""Requests that are made at once, each in a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context


def run_at_once(*actions: Callable[[], object]) -> None:
    """Run actions at the same time, the last one in the caller's thread. A single action needs no other thread.

    Each action keeps the caller's limits of time. All of them have ended when this call returns or raises.

    Raises:
        Exception: The error of the last action; else that of the first of the others that failed.
    """
    *others, last = actions
    if not others:
        last()
        return
    # no limit: each action ends with the limits of its requests
    with ThreadPoolExecutor(len(others)) as pool:
        running = [pool.submit(copy_context().run, action) for action in others]
        last()
    for future in running:
        # no limit: the pool has ended
        future.result()
