"""Dask, with a cluster of its own on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..workloads import WORKS, Workload, cut
from . import BATCH_ITEMS, PROCESSES, Job, Prepare


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start a cluster and a client."""
    from distributed import Client, LocalCluster

    settings: dict[str, Any] = {"dashboard_address": None, "silence_logs": "CRITICAL"}
    with LocalCluster(n_workers=PROCESSES, threads_per_worker=1, **settings) as cluster, Client(cluster) as client:
        yield lambda workload: _prepare(workload, client)


def _prepare(workload: Workload, client: Any) -> Job:
    work = WORKS[workload.work]
    # Items are cut by hand: Dask's own bag was a hundred times slower on lists of strings.
    parts = cut(work.whole(workload), workload.chunks or max(1, workload.items // BATCH_ITEMS))

    def run(timeout_s: float) -> Any:
        # Large parts go to the workers; as arguments they would pass through the scheduler. They go without a hash and
        # are not pure: with one, a second run could be given data that the first is about to release.
        is_large = workload.size_bytes or workload.items
        given = client.scatter(parts, hash=False) if is_large else parts
        return client.submit(work.total, client.map(work.step, given, pure=False), pure=False).result(timeout_s)

    return run
