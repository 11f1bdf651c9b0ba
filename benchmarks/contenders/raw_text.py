"""Text in the bucket, read with obstore alone: two processes that read ranges, each one ahead, and count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..text import LONGEST_LINE_BYTES, PartCount, part_bytes, text_folder
from ..workloads import Workload, sum_words
from . import PROCESSES, Job, Measured, Prepare
from .raw_client import connect, start_processes

Range = tuple[str, int, int, int]
"""Key, first byte, end, and size of the object."""


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start two processes."""
    with start_processes() as pool:
        yield lambda workload: _prepare(workload, pool)


def _prepare(workload: Workload, pool: Any) -> Job:
    url = text_folder(workload.size_bytes)

    def run(timeout_s: float) -> Measured:
        started_at = time.time()
        ranges = _list_ranges(url, part_bytes(workload.size_bytes))
        calls = [pool.apply_async(_count, (url, ranges[index::PROCESSES])) for index in range(PROCESSES)]
        parts = [part for call in calls for part in call.get(timeout_s)]
        first_s = min(part.began_at for part in parts) - started_at
        return Measured(sum_words(part.counts for part in parts), lambda: {"first_chunk_s": first_s})

    return run


def _list_ranges(url: str, range_bytes: int) -> list[Range]:
    import obstore

    pages = obstore.list(connect(url))
    return [
        (meta["path"], start, min(start + range_bytes, meta["size"]), meta["size"])
        for page in pages
        for meta in page
        for start in range(0, meta["size"], range_bytes)
    ]


def _count(url: str, ranges: list[Range]) -> list[PartCount]:
    with ThreadPoolExecutor(1) as ahead:
        waiting = ahead.submit(_read, url, ranges[0]) if ranges else None
        counts = []
        for following in [*ranges[1:], None]:
            if waiting is None:
                break
            began_at = time.time()
            text = waiting.result()
            waiting = ahead.submit(_read, url, following) if following is not None else None
            counts.append(PartCount.of(text.split("\n"), began_at))
        return counts


def _read(url: str, wanted: Range) -> str:
    """Return the lines that begin in a range. One request: it takes along what the last line needs beyond the range."""
    import obstore

    key, start, end, size_bytes = wanted
    first = max(start - 1, 0)
    last = min(end + LONGEST_LINE_BYTES, size_bytes)
    body = obstore.get_range(connect(url), key, start=first, end=last).to_bytes()
    begin = body.index(b"\n") + 1 if start else 0
    return body[begin : body.index(b"\n", end - first - 1) + 1].decode()
