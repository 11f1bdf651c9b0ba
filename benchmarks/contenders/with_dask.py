"""Dask, with a cluster of its own on this machine."""

from __future__ import annotations

import csv
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..text import PartCount, part_bytes, text_folder
from ..workloads import WORKS, Workload, cut, fingerprint, sum_words
from . import BATCH_ITEMS, PROCESSES, Job, Measured, Prepare


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start a cluster and a client."""
    from distributed import Client, LocalCluster

    settings: dict[str, Any] = {"dashboard_address": None, "silence_logs": "CRITICAL"}
    ways = {"dask-bag": _prepare_bag, "dask-frame": _prepare_frame}
    with LocalCluster(n_workers=PROCESSES, threads_per_worker=1, **settings) as cluster, Client(cluster) as client:
        yield partial(ways.get(name, _prepare), client)


def _prepare(client: Any, workload: Workload) -> Job:
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


def _prepare_bag(client: Any, workload: Workload) -> Job:
    """Read the lines of the text as a bag, and count each partition."""
    from dask import bag

    url = f"{text_folder(workload.size_bytes)}*.txt"

    def run(timeout_s: float) -> Measured:
        started_at = time.time()
        lines = bag.read_text(url, blocksize=part_bytes(workload.size_bytes), storage_options=_storage_options())
        parts = client.compute(lines.map_partitions(_count)).result(timeout_s)
        first_s = min(part.began_at for part in parts) - started_at
        return Measured(sum_words(part.counts for part in parts), lambda: {"first_chunk_s": first_s})

    return run


def _count(lines: Iterable[str]) -> list[PartCount]:
    return [PartCount.of(lines)]


def _prepare_frame(client: Any, workload: Workload) -> Job:
    """Read the lines as a column of text, and count its words with the frame's own methods."""
    from dask import dataframe

    url = f"{text_folder(workload.size_bytes)}*.txt"
    options: dict[str, Any] = {"header": None, "names": ["line"], "sep": "\x01", "quoting": csv.QUOTE_NONE}

    def run(timeout_s: float) -> str:
        lines = dataframe.read_csv(
            url, blocksize=part_bytes(workload.size_bytes), storage_options=_storage_options(), **options
        )
        found = client.compute(lines["line"].str.split().explode().value_counts()).result(timeout_s)
        return fingerprint(Counter({str(word): int(count) for word, count in found.items()}))

    return run


def _storage_options() -> dict[str, Any]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return {"client_kwargs": {"endpoint_url": endpoint}} if endpoint else {}
