"""Plain Python: a loop, a pool of processes, a pool of threads."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..workloads import WORKS, Workload, cut
from . import BATCH_ITEMS, PROCESSES, THREADS, Job, Prepare


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Yield `serial`, `pool` or `threads`."""
    if name == "serial":
        yield _serial
    elif name == "pool":
        # Forked, as on most Linux systems up to Python 3.13: the quickest to start. There are no threads here.
        with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
            yield partial(_mapped, pool.imap)
    else:
        with ThreadPoolExecutor(THREADS) as threads:
            yield partial(_mapped, threads.map)


def _serial(workload: Workload) -> Job:
    work = WORKS[workload.work]
    whole = work.whole(workload)
    if work.item is not None:
        item = work.item
        return lambda timeout_s: work.total(item(one) for one in whole)
    return lambda timeout_s: work.total([work.step(whole)])


def _mapped(spread: Callable[..., Any], workload: Workload) -> Job:
    work = WORKS[workload.work]
    whole = work.whole(workload)
    if work.item is not None:
        item = work.item
        return lambda timeout_s: work.total(spread(item, whole, chunksize=BATCH_ITEMS))
    parts = cut(whole, workload.chunks)
    return lambda timeout_s: work.total(spread(work.step, parts))
