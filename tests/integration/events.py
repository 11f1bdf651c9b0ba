"""Many jobs while Celery publishes an event after each message, on the library's channel.

    python -m tests.integration.events --jobs 200 [--workers 8]

The command launches the jobs in each of four ways, from four threads, with `task_send_sent_event` and all other events.
The command prints the number of right values. The short form is in test_sending.py.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from devstack import RabbitMQ
from fanout import Job

from ..tasks import SumTask
from .cluster import running_cluster

EVENTS = {
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    "task_track_started": True,
    "task_queue_max_priority": 10,
    "task_default_priority": 5,
}

WAYS: dict[str, Callable[[list[int]], Job]] = {
    "submit": lambda numbers: SumTask.submit({"numbers": numbers}, max_attempts=1),
    "here": lambda numbers: SumTask.submit({"numbers": numbers}, setup_in_caller=True, max_attempts=1),
    "stream": lambda numbers: SumTask.submit({"numbers": iter(numbers)}, max_attempts=1),
    "signature": lambda numbers: SumTask.signature({"numbers": numbers}, max_attempts=1)(),
}
"""Ways of launching a job with a message per number: with one attempt no chunks share a message."""

CHUNKS = 12
TIMEOUT_S = 120.0


def main() -> int:
    """Run the jobs, print a line for each way, and return 1 if a job hung or its value was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs per way of launching")
    parser.add_argument("--workers", type=int, default=8, help="number of workers, with one child each")
    options = parser.parse_args()
    wrong_count = 0
    with tempfile.TemporaryDirectory() as name, RabbitMQ.start(Path(name) / "broker") as broker:
        environment = {
            "FANOUT_STORE": f"file://{name}/store",
            "TEST_BROKER": broker.url,
            "TEST_BACKEND": "",
            "TEST_SETTINGS": json.dumps(EVENTS),
        }
        cluster = running_cluster(
            Path(name), environment, workers=options.workers, concurrency=1, args=("--events",), stall_s=3600
        )
        with cluster as running, ThreadPoolExecutor(4) as pool:
            for way in WAYS:
                started_at = time.monotonic()
                errors = list(pool.map(lambda number, way=way: _run_job(running.app, way, number), range(options.jobs)))
                wrong = [error for error in errors if error]
                wrong_count += len(wrong)
                took_s = time.monotonic() - started_at
                print(f"{way}: {len(errors) - len(wrong)} of {len(errors)} jobs right, {took_s:.0f} s", *wrong[:3])
    return 1 if wrong_count else 0


def _run_job(app: Any, way: str, number: int) -> str:
    """Run one job, without help of a sweep, and return a description of its error, or an empty string."""
    # Each thread has its own current app.
    app.set_current()
    numbers = list(range(number, number + CHUNKS))
    try:
        value = WAYS[way](numbers).get(timeout=TIMEOUT_S)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if value == sum(numbers) else f"{value}, not {sum(numbers)}"


if __name__ == "__main__":
    sys.exit(main())
