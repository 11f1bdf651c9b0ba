"""fanout on Dask and on Ray, each with a cluster of its own on this machine."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from fanout.engines.engine import Engine

from ..workloads import WORKS, Workload
from . import PROCESSES, Job, Prepare
from .app import Whole


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Start a cluster, and an engine whose store the environment names."""
    with (_start_dask if name == "fanout-dask" else _start_ray)() as engine:
        yield partial(_prepare, engine)


@contextmanager
def _start_dask() -> Iterator[Engine]:
    from distributed import Client, LocalCluster

    from fanout.engines.dask import DaskEngine

    quiet = {"dashboard_address": None, "silence_logs": "CRITICAL"}
    with LocalCluster(n_workers=PROCESSES, threads_per_worker=1, **quiet) as cluster, Client(cluster) as client:
        yield DaskEngine(client, store=os.environ["FANOUT_STORE"])


@contextmanager
def _start_ray() -> Iterator[Engine]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    from fanout.engines.ray import RayEngine

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        yield RayEngine(store=os.environ["FANOUT_STORE"])
    finally:
        ray.shutdown()


def _prepare(engine: Engine, workload: Workload) -> Job:
    values = {"work": workload.work, "whole": WORKS[workload.work].whole(workload), "chunks": workload.chunks}
    return lambda timeout_s: Whole.submit(values, engine=engine, chunk_items=1).get(timeout_s)
