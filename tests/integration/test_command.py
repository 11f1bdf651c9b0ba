"""The command `fanout` as a process of its own, with a real broker, a real store and real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from .cluster import Cluster

ROOT = Path(__file__).parents[2]


def fanout(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command with the settings of the cluster, and return its output and status."""
    environment = {**os.environ, **cluster.environment, "FANOUT_APP": "tests.integration.app:app"}
    program = [sys.executable, "-m", "fanout", *arguments]
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_job_is_launched_awaited_and_removed_from_a_shell(redis_cluster: Cluster) -> None:
    """A shell submits a job and waits for its value; another process then removes the job."""
    arguments = ["submit", "tests.tasks:SumTask", "-p", "numbers=[1, 2, 3]", "--job-id", "from-a-shell"]
    submitted = fanout(redis_cluster, *arguments, "--timeout", "50", "--json")
    assert submitted.returncode == 0, submitted.stderr
    assert json.loads(submitted.stdout)["value"] == 6
    assert "succeeded, 3 of 3 items (100 %)" in submitted.stderr
    removed = fanout(redis_cluster, "jobs", "remove", "from-a-shell", "--yes")
    assert removed.returncode == 0, removed.stderr
    assert "from-a-shell  removed" in removed.stdout
