"""A cluster of Dask's or Ray's ends in the middle of a job, and a new one goes on with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

import fanout
from fanout import EngineLost, Job
from fanout.sweep import Move

from .gated import Gated

WAIT_S = 60.0
"""Longest wait for a step of a test, on a busy machine."""

NUMBERS = [0, 1, 2, 3]

SUBMIT = """
import sys
import ray
from fanout.engines.ray import RayEngine
from tests.integration.gated import Gated

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
store, directory = sys.argv[1:]
engine = RayEngine(store=store)
print(Gated.submit({"numbers": [0, 1, 2, 3], "directory": directory}, engine=engine).id, flush=True)
sys.stdin.read()
"""


@contextmanager
def dask_cluster(directory: Path) -> Iterator[str]:
    """Start a scheduler of Dask's with two workers, in processes of their own, and kill all of them at the end."""
    directory.mkdir()
    file = str(directory / "scheduler.json")
    common = [sys.executable, "-m", "dask"]
    commands = [
        ["scheduler", "--scheduler-file", file, "--port", "0", "--no-dashboard", "--host", "127.0.0.1"],
        ["worker", "--scheduler-file", file, "--nworkers", "2", "--nthreads", "1", "--no-dashboard"],
    ]
    places = [["--local-directory", str(directory)] if command[0] == "worker" else [] for command in commands]
    with (directory / "log").open("w") as log:
        started = [
            subprocess.Popen([*common, *command, *place], stdout=log, stderr=log, start_new_session=True)
            for command, place in zip(commands, places, strict=True)
        ]
        try:
            yield file
        finally:
            for process in started:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(WAIT_S)


def wait_for_results(job: Job[Any], number: int) -> None:
    """Wait until some chunks are done."""
    ends_at = time.monotonic() + WAIT_S
    while job.progress().chunks_done < number:
        assert time.monotonic() < ends_at, job.progress()
        time.sleep(0.1)


def count_runs(directory: Path, number: int) -> int:
    """Return how often process has run on a number."""
    return len(list(directory.glob(f"{number}-*")))


@pytest.mark.slow
def test_a_new_cluster_of_dask_goes_on_with_the_jobs_of_a_dead_one(tmp_path: Path) -> None:
    """`resume` sends at once what a job misses, and the old engine says that its cluster is gone."""
    distributed = pytest.importorskip("distributed", reason="distributed is missing: pip install 'fanout[dask]'")
    from fanout.engines.dask import DaskEngine

    store, runs = (tmp_path / "store").as_uri(), tmp_path / "runs"
    runs.mkdir()
    with dask_cluster(tmp_path / "first") as file:
        client = distributed.Client(scheduler_file=file)
        lost = DaskEngine(client, store=store)
        job = Gated.submit({"numbers": NUMBERS, "directory": str(runs)}, engine=lost)
        wait_for_results(job, 2)
    client.close()
    with pytest.raises(EngineLost, match=r"no job is lost: make a new client and a new engine .* resume"):
        Gated.submit({"numbers": NUMBERS, "directory": str(runs)}, engine=lost)
    (runs / "open").touch()
    with dask_cluster(tmp_path / "second") as file, distributed.Client(scheduler_file=file) as client:
        engine = DaskEngine(client, store=store)
        assert engine.resume() == {job.id: Move.CHUNKS_SENT}
        assert engine.attach(job.id).get(WAIT_S) == sum(NUMBERS)
    assert [count_runs(runs, number) for number in NUMBERS[:2]] == [1, 1]


@pytest.mark.slow
def test_a_new_cluster_of_ray_goes_on_with_the_jobs_of_a_dead_one(tmp_path: Path) -> None:
    """The head node, the actor and all workers are killed together, with the caller."""
    ray = pytest.importorskip("ray", reason="ray is missing: pip install 'fanout[ray]'")
    from fanout.engines.ray import RayEngine

    store, runs = (tmp_path / "store").as_uri(), tmp_path / "runs"
    runs.mkdir()
    command = [sys.executable, "-c", SUBMIT, store, str(runs)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as caller:
        try:
            assert caller.stdout is not None
            job_id = caller.stdout.readline().strip()
            wait_for_results(fanout.attach(job_id, store=store), 2)
        finally:
            for process in [*psutil.Process(caller.pid).children(recursive=True), caller]:
                process.kill()
    (runs / "open").touch()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        engine = RayEngine(store=store)
        assert engine.resume() == {job_id: Move.CHUNKS_SENT}
        assert engine.attach(job_id).get(WAIT_S) == sum(NUMBERS)
    finally:
        ray.shutdown()
    with pytest.raises(EngineLost, match="connection to Ray"):
        Gated.submit({"numbers": NUMBERS, "directory": str(runs)}, engine=engine)
    assert [count_runs(runs, number) for number in NUMBERS[:2]] == [1, 1]
