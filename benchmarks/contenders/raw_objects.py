"""Small objects in the bucket, read with obstore alone: two processes, each with as many requests at once as fanout."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..small_objects import objects_folder, read_number
from ..workloads import Workload
from . import PROCESSES, Job, Prepare
from .raw_client import connect, start_processes

REQUESTS = 8
"""Requests at once of each process."""


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start two processes."""
    with start_processes() as pool:
        yield lambda workload: _prepare(workload, pool)


def _prepare(workload: Workload, pool: Any) -> Job:
    url = objects_folder(workload.items)

    def run(timeout_s: float) -> int:
        import obstore

        keys = [meta["path"] for page in obstore.list(connect(url)) for meta in page]
        calls = [pool.apply_async(_sum, (url, keys[index::PROCESSES])) for index in range(PROCESSES)]
        return sum(call.get(timeout_s) for call in calls)

    return run


def _sum(url: str, keys: list[str]) -> int:
    import obstore

    def read(key: str) -> int:
        return read_number(obstore.get(connect(url), key).bytes().to_bytes())

    with ThreadPoolExecutor(REQUESTS) as threads:
        # no limit: the run has one
        return sum(threads.map(read, keys))
