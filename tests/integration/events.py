"""Many jobs while Celery publishes an event after each message, on the channel of our own.

    python -m tests.integration.events --jobs 200 [--workers 8]

Launches so many jobs in each of four ways, from four threads, with `task_send_sent_event` and every other event on, and
says how many ended with the right answer. The short form is in test_sending.py.
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

from .app import SumTask
from .cluster import running_cluster

EVENTS = {
    "task_send_sent_event": True,
    "worker_send_task_events": True,
    "task_track_started": True,
    "task_queue_max_priority": 10,
    "task_default_priority": 5,
}

WAYS: dict[str, Callable[[list[int]], Job]] = {
    "submit": lambda numbers: SumTask.submit({"numbers": numbers}),
    "here": lambda numbers: SumTask.submit({"numbers": numbers}, setup_in_caller=True),
    "stream": lambda numbers: SumTask.submit({"numbers": iter(numbers)}),
    "signature": lambda numbers: SumTask.signature({"numbers": numbers})(),
}

CHUNKS = 12
TIMEOUT_S = 120.0


def main() -> int:
    """Run the jobs and print a line for each way; the status is 1 if a job hung, or was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200, help="jobs for each way of launching")
    parser.add_argument("--workers", type=int, default=8, help="workers, each with one child")
    options = parser.parse_args()
    bad = 0
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
                ended = list(pool.map(lambda number, way=way: _ended(running.app, way, number), range(options.jobs)))
                wrong = [error for error in ended if error]
                bad += len(wrong)
                took_s = time.monotonic() - started_at
                print(f"{way}: {len(ended) - len(wrong)} of {len(ended)} jobs right, {took_s:.0f} s", *wrong[:3])
    return 1 if bad else 0


def _ended(app: Any, way: str, number: int) -> str:
    """Run one job; what is wrong with it, if anything is. No sweep helps it: `stall_s` is an hour."""
    # Celery's current app is each thread's own.
    app.set_current()
    numbers = list(range(number, number + CHUNKS))
    try:
        found = WAYS[way](numbers).get(timeout=TIMEOUT_S)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "" if found == sum(numbers) else f"{found}, not {sum(numbers)}"


if __name__ == "__main__":
    sys.exit(main())
