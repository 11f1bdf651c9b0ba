"""Dask, with a cluster of its own on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..entries import Entry
from ..works import WORKS, Load, cut
from . import BATCH_ITEMS, PROCESSES, Engine, Run


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield lambda load: _prepared(load, client)


def _prepared(load: Load, client: Any) -> Run:
    work = WORKS[load.work]
    parts = cut(work.whole(load), load.chunks or max(1, load.items // BATCH_ITEMS))

    def run(timeout_s: float) -> Any:
        # Large parts go to the workers themselves; as arguments they would all pass through the scheduler. Not by
        # their hash, and not pure: or a second run would be given what the first is just being rid of.
        given = client.scatter(parts, hash=False) if load.size_bytes or load.items else parts
        return client.submit(work.total, client.map(work.step, given, pure=False), pure=False).result(timeout_s)

    return run
