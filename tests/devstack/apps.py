"""The Celery application of these tests' workers. One variable holds its settings."""

from __future__ import annotations

import json
import os
from pathlib import Path

from celery import Celery

app = Celery("apps")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    **json.loads(os.environ.get("STACK_TEST_SETTINGS", "{}")),
)


@app.task(name="note")
def note(directory: str, name: str) -> None:
    """Append the process id to a file."""
    with (Path(directory) / name).open("a") as file:
        file.write(f"{os.getpid()}\n")


@app.task(name="spread")
def spread(directory: str, prefix: str, width: int) -> None:
    """Send `width` tasks from a worker while other workers consume."""
    for index in range(width):
        note.delay(directory, f"{prefix}-{index}")
