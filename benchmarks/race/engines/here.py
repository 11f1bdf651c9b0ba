"""Plain Python: a loop, a pool of processes, a pool of threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.pool import Pool

from ..entries import Entry
from ..works import WORKS, Load, cut
from . import PROCESSES, THREADS, Engine, Run

POOL_ITEMS = 1000
"""Items that a pool hands to a process at a time."""


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine of `serial`, `pool` or `threads`."""
    if entry.name == "serial":
        yield _serial
    elif entry.name == "pool":
        # Forked, as on most Linux systems up to Python 3.13: the quickest to start. There are no threads here.
        with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
            yield lambda load: _pooled(load, pool)
    else:
        with ThreadPoolExecutor(THREADS) as threads:
            yield lambda load: _threaded(load, threads)


def _serial(load: Load) -> Run:
    work = WORKS[load.work]
    whole = work.whole(load)
    if work.item is not None:
        item = work.item
        return lambda timeout_s: work.total(item(one) for one in whole)
    return lambda timeout_s: work.total([work.step(whole)])


def _pooled(load: Load, pool: Pool) -> Run:
    work = WORKS[load.work]
    whole = work.whole(load)
    if work.item is not None:
        item = work.item
        return lambda timeout_s: work.total(pool.imap(item, whole, chunksize=POOL_ITEMS))
    parts = cut(whole, load.chunks)
    return lambda timeout_s: work.total(pool.imap(work.step, parts))


def _threaded(load: Load, threads: ThreadPoolExecutor) -> Run:
    work = WORKS[load.work]
    parts = cut(work.whole(load), load.chunks)
    return lambda timeout_s: work.total(threads.map(work.step, parts))
