"""Ray, with a cluster of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..workloads import WORKS, Workload, cut
from . import BATCH_ITEMS, PROCESSES, Job, Prepare


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield _prepare
    finally:
        ray.shutdown()


def _prepare(workload: Workload) -> Job:
    import ray

    work = WORKS[workload.work]
    parts = cut(work.whole(workload), workload.chunks or max(1, workload.items // BATCH_ITEMS))
    step = ray.remote(work.step)
    return lambda timeout_s: work.total(ray.get([step.remote(part) for part in parts], timeout=timeout_s))
