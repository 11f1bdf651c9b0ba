"""Workers of two releases serve the same jobs, as they do during a deployment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import fanout
from devstack import CeleryWorker, CephGateway, RabbitMQ
from fanout.records.record import FORMAT
from storage import NewerFormat

from ..tasks import SlowTask
from ..traces import find_runs, wait_until
from .cluster import Cluster, running_cluster

ROOT = Path(__file__).parents[2]
NUMBERS = list(range(12))


@dataclass(frozen=True)
class NextRelease:
    """A release of fanout that writes the next format of records and messages, in processes of its own."""

    cluster: Cluster
    directory: Path

    @classmethod
    def make(cls, cluster: Cluster, directory: Path) -> NextRelease:
        library = Path(fanout.__file__).parents[1]
        for package in ("fanout", "storage"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(library / package, directory / package, ignore=ignored)
        record = directory / "fanout" / "records" / "record.py"
        source, changes = re.subn(rf"^FORMAT = {FORMAT}$", f"FORMAT = {FORMAT + 1}", record.read_text(), flags=re.M)
        assert changes == 1
        record.write_text(source)
        return cls(cluster, directory)

    @property
    def environment(self) -> dict[str, str]:
        return {**self.cluster.environment, "PYTHONPATH": f"{self.directory}:{ROOT}"}

    def start_worker(self) -> CeleryWorker:
        return CeleryWorker.start(
            "tests.integration.app:app",
            directory=self.directory / "worker",
            environment=self.environment,
            concurrency=1,
            cwd=self.directory,
        )

    def call(self, expression: str) -> str:
        """Return what an expression about jobs gives in a caller of this release."""
        program = f"from tests.integration.app import app, fanout; from tests.tasks import *; print({expression})"
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture
def cluster(rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path: Path) -> Iterator[Cluster]:
    """One worker of this release."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": ""}
    with running_cluster(tmp_path, environment, workers=1, concurrency=1) as cluster:
        yield cluster


@pytest.mark.slow
def test_workers_of_two_releases_serve_the_same_jobs(cluster: Cluster, tmp_path: Path) -> None:
    """A worker leaves a newer caller's job to a newer worker, and a newer worker takes an older caller's jobs."""
    release = NextRelease.make(cluster, tmp_path / "next")
    (older,) = cluster.workers
    traces = [tmp_path / name for name in ("newer", "0", "1", "2")]
    for trace in traces:
        trace.mkdir()
    newer, *others = ({"numbers": NUMBERS, "trace": str(trace), "pause_s": 0.0} for trace in traces)
    newer_id = release.call(f"SlowTask.submit({newer!r}).id")
    wait_until(lambda: f"a message has format {FORMAT + 1}" in older.log(), "the older worker gave the message back")
    with release.start_worker():
        jobs = [SlowTask.submit(values) for values in others]
        for job_id in (newer_id, *(job.id for job in jobs)):
            assert release.call(f"fanout.attach({job_id!r}).get(60)") == str(sum(NUMBERS))
    assert [len(find_runs(trace, "process-*")) for trace in traces] == [len(NUMBERS)] * len(traces)
    assert "dropped a message" not in older.log()
    with pytest.raises(NewerFormat, match=f"format {FORMAT + 1}.*Upgrade fanout"):
        fanout.attach(newer_id).get(10)
