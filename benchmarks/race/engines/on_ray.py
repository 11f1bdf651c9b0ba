"""Ray, with a cluster of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ..entries import Entry
from ..works import WORKS, Load, cut
from . import BATCH_ITEMS, PROCESSES, Engine, Run


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield _prepared
    finally:
        ray.shutdown()


def _prepared(load: Load) -> Run:
    import ray

    work = WORKS[load.work]
    parts = cut(work.whole(load), load.chunks or max(1, load.items // BATCH_ITEMS))
    step = ray.remote(work.step)
    return lambda timeout_s: work.total(ray.get([step.remote(part) for part in parts], timeout=timeout_s))
