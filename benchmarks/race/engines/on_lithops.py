"""Lithops, with its processes on this machine and its data on our object store.

As one would set it up for many short calls on a machine of one's own:

- Version 1 of its `localhost` backend: one Python process a job, which forks for each call. Version 2, the default,
  starts a Python process for each call.
- The `aws_s3` storage backend. It takes endpoint and credentials from the environment, as boto3 and fanout do, and is
  told like fanout not to add boto3's checksums.
- It looks five times a second for what is done. Its own choice is once in one or two seconds.
- Objects are removed at the end. Else a further process would do it while the next job is measured.

It leaves a note of this Python's packages in the bucket, under `lithops.runtimes`, and one in `~/.lithops`.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

from ..entries import Entry
from ..works import WORKS, Load, cut
from . import PROCESSES, Engine, Run

LOOK_S = 0.2
"""Time between two looks at the store for what is done."""


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine; one in a process, since Lithops settles where its files are when it is imported."""
    # In the environment its processes find it too. Some stores refuse these checksums.
    for variable in ("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"):
        os.environ.setdefault(variable, "when_required")
    with tempfile.TemporaryDirectory(prefix="fanout-lithops-") as directory:
        # It keeps a copy of itself there, and logs. Else they would stay, and two benchmarks would share them.
        os.environ["TMPDIR"] = tempfile.tempdir = directory
        from lithops import FunctionExecutor
        from lithops.constants import JOBS_PREFIX

        bucket = urlsplit(os.environ["FANOUT_STORE"]).netloc
        executor = FunctionExecutor(config=_configuration(bucket), log_level="ERROR")
        try:
            with executor:  # ends its processes
                yield lambda load: _prepared(load, executor)
        finally:
            storage = executor.internal_storage.storage
            storage.delete_objects(bucket, storage.list_keys(bucket, f"{JOBS_PREFIX}/{executor.executor_id}"))


def _configuration(bucket: str) -> dict[str, dict[str, Any]]:
    return {
        "lithops": {
            "backend": "localhost",
            "storage": "aws_s3",
            "monitoring_interval": LOOK_S,
            "data_cleaner": False,
            # Else the input of a job may have 4 MiB.
            "data_limit": False,
            "telemetry": False,
        },
        "localhost": {"runtime": sys.executable, "version": 1, "worker_processes": PROCESSES},
        "aws_s3": {"storage_bucket": bucket},
    }


def _prepared(load: Load, executor: Any) -> Run:
    work = WORKS[load.work]
    parts = cut(work.whole(load), load.chunks)
    call = _disconnected(_alone(work.step))

    def run(timeout_s: float) -> Any:
        # A tuple is one call's arguments.
        futures = executor.map(call, [(part,) for part in parts])
        executor.wait(
            futures, download_results=True, timeout=int(timeout_s), wait_dur_sec=LOOK_S, show_progressbar=False
        )
        # One by one: `get_result` leaves out each None.
        return work.total(future.result() for future in futures)

    return run


def _disconnected(step: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """The step as a call that has a connection to the store of its own.

    Lithops forks each call from a process that is connected, and that goes on to write there. Two who write to one
    connection mix up their requests, and the store refuses them (`XAmzContentSHA256Mismatch`). So the call, to which
    Lithops gives its client in an argument of the name `storage`, begins with closing what it was born with.
    """

    def call(part: Any, storage: Any) -> Any:
        storage.get_client().close()
        return step(part)

    return call


def _alone(function: Any) -> Any:
    """The function by itself, as if it stood in a script: or each call would import all of fanout to find it."""
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    alone = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    alone.__module__ = "__main__"
    return alone
