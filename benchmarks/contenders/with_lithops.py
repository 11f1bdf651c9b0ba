"""Lithops, with its processes on this machine and its data on the benchmark's object store.

Version 1 of its `localhost` backend forks for each call; version 2, the default, starts a Python process for each. It
looks five times a second for finished calls, and removes no object before the end. Its own choices are slower. It
leaves a note of this Python's packages in the bucket, under `lithops.runtimes`, and one in `~/.lithops`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

from ..text import part_bytes, text_folder
from ..workloads import WORKS, Workload, cut, sum_words
from . import PROCESSES, Job, Measured, Prepare

POLL_S = 0.2
_WAITING: dict[str, Any] = {"download_results": True, "wait_dur_sec": POLL_S, "show_progressbar": False}


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start an executor; one in a process, since Lithops chooses its directory when it is imported."""
    # In the environment its processes find it too. Some stores refuse these checksums.
    for variable in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        os.environ.setdefault(variable, "when_required")
    with tempfile.TemporaryDirectory(prefix="fanout-lithops-") as directory:
        # Lithops copies itself there and logs there; the copies would stay, and two benchmarks would share them.
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        from lithops import FunctionExecutor
        from lithops.constants import JOBS_PREFIX

        bucket = urlsplit(os.environ["FANOUT_STORE"]).netloc
        executor = FunctionExecutor(config=_configuration(bucket), log_level="ERROR")
        try:
            with executor:  # its end is the end of its processes
                yield partial(_prepare_text if name == "lithops-text" else _prepare, executor)
        finally:
            storage = executor.internal_storage.storage
            storage.delete_objects(bucket, storage.list_keys(bucket, f"{JOBS_PREFIX}/{executor.executor_id}"))


def _configuration(bucket: str) -> dict[str, dict[str, Any]]:
    return {
        "lithops": {
            "backend": "localhost",
            "storage": "aws_s3",
            "monitoring_interval": POLL_S,
            "data_cleaner": False,
            "data_limit": False,  # else 4 MiB for the input of a job
            "telemetry": False,
        },
        "localhost": {"runtime": sys.executable, "version": 1, "worker_processes": PROCESSES},
        "aws_s3": {"storage_bucket": bucket},
    }


def _prepare(executor: Any, workload: Workload) -> Job:
    work = WORKS[workload.work]
    parts = cut(work.whole(workload), workload.chunks)
    call = _reconnect(_isolate(work.step))

    def run(timeout_s: float) -> Any:
        # A tuple is one call's arguments.
        futures = executor.map(call, [(part,) for part in parts])
        executor.wait(futures, timeout=int(timeout_s), **_WAITING)
        # One by one: `get_result` leaves out each None.
        return work.total(future.result() for future in futures)

    return run


def _prepare_text(executor: Any, workload: Workload) -> Job:
    """Let Lithops cut the objects of the text at newlines near equal byte ranges."""
    url = text_folder(workload.size_bytes)

    def run(timeout_s: float) -> Measured:
        started_at = time.time()
        futures = executor.map(_isolate(_count_object), url, obj_chunk_size=part_bytes(workload.size_bytes))
        executor.wait(futures, timeout=int(timeout_s), **_WAITING)
        parts = [future.result() for future in futures]
        first_s = min(began_at for began_at, _ in parts) - started_at
        return Measured(sum_words(counts for _, counts in parts), lambda: {"first_chunk_s": first_s})

    return run


def _count_object(obj: Any) -> tuple[float, Counter[str]]:
    # As `PartCount.of` does it, in names that the isolated function takes along.
    began_at = time.time()
    lines = obj.data_stream.read().decode().split("\n")
    return began_at, Counter(chain.from_iterable(map(str.split, lines)))


def _reconnect(step: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """Return the step as a call that first closes the connection it inherited.

    Lithops forks each call from a process that is connected and goes on to write. Two writers on one connection mix up
    their requests, and the store refuses them (`XAmzContentSHA256Mismatch`). Lithops gives its client to a call in an
    argument called `storage`.
    """

    def call(part: Any, storage: Any) -> Any:
        storage.get_client().close()
        return step(part)

    return call


def _isolate(function: Any) -> Any:
    """Return the function as if it stood in a script: else each call would import all of fanout to find it."""
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    alone = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    alone.__module__ = "__main__"
    return alone
