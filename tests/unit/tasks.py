"""Tasks that a new process can import."""

from __future__ import annotations

import os
import signal
from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from fanout import ForkJoinTask, fork_join

from . import steps


class Words(ForkJoinTask):
    """Counts words."""

    input_schema = {
        "documents": {"type": "list", "required": True, "schema": {"type": "string"}},
        "delimiter": {"type": "string"},
    }

    def setup(documents):
        return [{"document": document} for document in documents]

    def process(document, delimiter=" "):
        return Counter(document.split(delimiter))

    def join(counters):
        return sum(counters, Counter())


class Numbers(ForkJoinTask):
    """Returns its numbers, one per chunk."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return number

    def join(results):
        return list(results)


class Kinds(ForkJoinTask):
    """Returns values of types that JSON does not have."""

    input_schema = {"kinds": {"type": "list"}}
    chunk_items = 2

    def setup(kinds):
        return [{"index": index} for index in range(len(kinds))]

    def process(index, kinds):
        return kinds[index]

    def join(values):
        return tuple(values)


KINDS = [
    Counter(a=2, b=1),
    (1, (2, "x")),
    {1, 2, 3},
    frozenset({"a"}),
    b"\x00\xff",
    datetime(2024, 2, 29, 12, 30, tzinfo=UTC),
    Decimal("1.10"),
    UUID("12345678-1234-5678-1234-567812345678"),
    2**80,
    None,
]


class Killing(ForkJoinTask):
    """One of its items kills the worker in each of its first `kills` runs; each run leaves a file."""

    input_schema = {"trace": {"type": "string"}, "numbers": {"type": "list"}, "kills": {"type": "integer"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, trace, kills):
        if number == 1:
            runs = len(list(Path(trace).iterdir()))
            Path(trace, f"{runs}").touch(exist_ok=False)
            if runs < kills:
                os.kill(os.getpid(), signal.SIGKILL)
        return number

    def join(numbers):
        return list(numbers)


class KillingCombine(ForkJoinTask):
    """Its combine kills the worker; each run of it leaves a file."""

    input_schema = {"trace": {"type": "string"}, "numbers": {"type": "list"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return [number]

    def combine(parts, trace):
        runs = len(list(Path(trace).iterdir()))
        Path(trace, f"{runs}").touch(exist_ok=False)
        os.kill(os.getpid(), signal.SIGKILL)

    def join(parts):
        return list(parts)


Squares = fork_join(
    "unit.squares",
    setup=steps.each,
    process=steps.squared,
    join=steps.total,
    input_schema={"numbers": {"type": "list"}},
    chunk_items=2,
)
