"""A task whose later items wait for a file, so that a test can end a cluster in the middle of a job."""

from __future__ import annotations

import time
import uuid
from pathlib import Path

from fanout import ForkJoinTask

GATE_S = 120.0
"""Longest wait for the gate."""


class Gated(ForkJoinTask):
    """The sum of numbers. Each but the first two waits until the directory has the file `open`.

    A run of a number leaves a file there whose name begins with it.
    """

    input_schema = {"numbers": {"type": "list"}, "directory": {"type": "string"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, directory):
        Path(directory, f"{number}-{uuid.uuid4().hex}").touch()
        ends_at = time.monotonic() + GATE_S
        while number > 1 and not Path(directory, "open").exists():
            assert time.monotonic() < ends_at, "the gate was not opened"
            time.sleep(0.05)
        return number

    def join(results):
        return sum(results)
