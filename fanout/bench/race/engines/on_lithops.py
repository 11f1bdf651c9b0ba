"""Lithops, with its processes on this machine and its data on our object store."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

from ..entries import Entry
from ..works import WORKS, Load, cut
from . import PROCESSES, Engine, Run


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine. All is at its default but where things are, and the limit of 4 MiB for the input of a job."""
    from lithops import FunctionExecutor

    executor = FunctionExecutor(
        config={
            "lithops": {"backend": "localhost", "storage": "ceph", "telemetry": False, "data_limit": False},
            "localhost": {"runtime": sys.executable, "worker_processes": PROCESSES},
            "ceph": {
                "endpoint": os.environ["AWS_ENDPOINT_URL_S3"],
                "access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
                "secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
                "storage_bucket": urlsplit(os.environ["FANOUT_STORE"]).netloc,
            },
        },
        log_level="ERROR",
    )
    try:
        yield lambda load: _prepared(load, executor)
    finally:
        executor.clean()


def _prepared(load: Load, executor: Any) -> Run:
    work = WORKS[load.work]
    parts = cut(work.whole(load), load.chunks)
    step = _alone(work.step)

    def run(timeout_s: float) -> Any:
        # A tuple is one call's arguments.
        futures = executor.map(step, [(part,) for part in parts])
        return work.total(executor.get_result(futures, timeout=int(timeout_s)))

    return run


def _alone(function: Any) -> Any:
    """The function by itself, as if it stood in a script: or each call would import all of fanout to find it."""
    names = {name: function.__globals__[name] for name in function.__code__.co_names if name in function.__globals__}
    alone = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    alone.__module__ = "__main__"
    return alone
