"""Ray, with a cluster of its own on this machine."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from ..small_objects import objects_folder
from ..text import PartCount, text_folder
from ..workloads import WORKS, Workload, cut, sum_words
from . import BATCH_ITEMS, PROCESSES, Job, Measured, Prepare


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield {"ray-data": _prepare_text, "ray-objects": _prepare_objects}.get(name, _prepare)
    finally:
        ray.shutdown()


def _prepare(workload: Workload) -> Job:
    import ray

    work = WORKS[workload.work]
    parts = cut(work.whole(workload), workload.chunks or max(1, workload.items // BATCH_ITEMS))
    step = ray.remote(work.step)
    return lambda timeout_s: work.total(ray.get([step.remote(part) for part in parts], timeout=timeout_s))


def _prepare_text(workload: Workload) -> Job:
    """Read the lines of the text with Ray Data, and count each of its blocks. It has no limit of its own."""
    import ray

    place = _open_place(text_folder(workload.size_bytes))

    def run(timeout_s: float) -> Measured:
        started_at = time.time()
        lines = ray.data.read_text(**place)
        rows = lines.map_batches(_count, batch_size=None).take_all()
        first_s = min(row["began_at"] for row in rows) - started_at
        counters = (pickle.loads(row["counts"]) for row in rows)  # noqa: S301 - of this benchmark
        return Measured(sum_words(counters), lambda: {"first_chunk_s": first_s})

    return run


def _prepare_objects(workload: Workload) -> Job:
    """Read objects with Ray Data, and sum the numbers of each block. It has no limit of its own."""
    import ray

    place = _open_place(objects_folder(workload.items))

    def run(timeout_s: float) -> int:
        rows = ray.data.read_binary_files(**place).map_batches(_sum, batch_size=None).take_all()
        return sum(row["sum"] for row in rows)

    return run


def _open_place(folder: str) -> dict[str, Any]:
    """Return how Ray Data is told of a folder of the bucket."""
    import ray
    from pyarrow.fs import S3FileSystem

    ray.data.DataContext.get_current().enable_progress_bars = False
    url = urlsplit(folder)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    files = S3FileSystem(endpoint_override=endpoint, region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
    return {"paths": f"{url.netloc}{url.path}", "filesystem": files}


def _sum(batch: dict[str, Any]) -> dict[str, list[int]]:
    return {"sum": [WORKS["objects"].step(map(bytes, batch["bytes"]))]}


def _count(batch: dict[str, Any]) -> dict[str, list[Any]]:
    part = PartCount.of(batch["text"])
    return {"began_at": [part.began_at], "counts": [pickle.dumps(part.counts)]}
