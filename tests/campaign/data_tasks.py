"""The tasks of the campaign that read objects in place, or write to a sink."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fanout import ForkJoinTask

from .trace import record_run

BODY_BYTES = 64 * 1024
"""Size of the body of a row. No compression makes it smaller."""

WAIT_S = 60.0


class ReadTask(ForkJoinTask):
    """Numbers of lines of objects. The part of one object waits for the trial, before its first read or in the middle.

    The trial makes a file beside the trace to let it go on.
    """

    input_schema = {
        "text": {"type": "source", "required": True},
        "part_bytes": {"type": "integer"},
        "changing": {"type": "string"},
        "moment": {"type": "string"},
        "trace": {"type": "string"},
    }
    chunk_items = 1
    max_attempts = 3

    def setup(text, part_bytes, trace):
        record_run(trace, "setup")
        return [{"part": part, "index": index} for index, part in enumerate(text.parts(part_bytes=part_bytes))]

    def process(part, index, changing, moment, trace):
        record_run(trace, "process", index)
        waits = changing in part.locations
        if waits and moment == "before":
            wait_for_change(trace)
        lines = iter(part)
        next(lines)
        if waits and moment == "between":
            wait_for_change(trace)
        return 1 + sum(1 for _ in lines)

    def join(results, trace):
        record_run(trace, "join")
        return sum(results)


def wait_for_change(trace: str) -> None:
    """Tell the trial that the object may be changed now, and wait until it is."""
    record_run(trace, "waiting")
    deadline = time.monotonic() + WAIT_S
    while not Path(f"{trace}.changed").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the trial did not change the object")
        time.sleep(0.01)


class WriteTask(ForkJoinTask):
    """A table per number in a sink. The first one is larger than a block of an upload."""

    input_schema = {
        "numbers": {"type": "list"},
        "first_rows": {"type": "integer"},
        "other_rows": {"type": "integer"},
        "out": {"type": "sink", "required": True},
        "trace": {"type": "string"},
    }
    chunk_items = 1
    max_attempts = 20

    def setup(numbers, first_rows, other_rows, trace):
        record_run(trace, "setup")
        rows = [first_rows] + [other_rows] * (len(numbers) - 1)
        return [{"number": number, "rows": count} for number, count in zip(numbers, rows, strict=True)]

    def process(number, rows, out, trace):
        record_run(trace, "process", number)
        return out.write(make_rows(number, rows))

    def join(results, out, trace):
        record_run(trace, "join")
        published = out.commit(results)
        return [published.objects, published.rows]


def make_rows(number: int, count: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of a number, the same in each run."""
    seeded = random.Random(number)
    return ({"number": number, "row": row, "body": seeded.randbytes(BODY_BYTES)} for row in range(count))
