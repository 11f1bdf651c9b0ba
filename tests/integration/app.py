"""The tasks of the integration tests, and the Celery app that workers and callers make from their environment."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import cerberus
import numpy as np
from celery import Celery, Task, shared_task
from celery.result import allow_join_result

import fanout
from fanout import ForkJoinTask


def make_app(environment: Mapping[str, str]) -> Celery:
    """An app on the broker, result backend, queue and store that the environment names."""
    app = Celery(
        "integration",
        broker=environment.get("TEST_BROKER"),
        backend=environment.get("TEST_BACKEND") or None,
        set_as_current=False,
        task_cls=environment.get("TEST_TASK_CLASS"),
    )
    app.conf.update(
        fanout.RECOMMENDED,
        broker_connection_retry_on_startup=True,
        task_default_queue=environment.get("TEST_QUEUE", "celery"),
        # The death of a child is noticed at once; by default a worker waits for 10 s.
        worker_lost_wait=0.5,
    )
    app.conf.update(json.loads(environment.get("TEST_SETTINGS", "{}")))
    return fanout.connect(app, store=environment.get("FANOUT_STORE"), stall_s=environment.get("FANOUT_STALL_S"))


context: ContextVar[str] = ContextVar("context", default="none")


class ContextTask(Task):
    """An app's own task class, as Flask's documentation writes it; its hook leaves a trace."""

    abstract = True

    def __call__(self, *args, **kwargs):
        token = context.set("put on")
        try:
            return self.run(*args, **kwargs)
        finally:
            context.reset(token)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        leave(os.environ["TEST_HOOKS"], f"{type(exc).__name__}-{task_id}")


app = make_app(os.environ)
app.set_current()


class WordCounterTask(ForkJoinTask):
    """The task of the article, as it was printed."""

    @classmethod
    def get_input_schema(cls):
        return {
            "documents": {"type": "list", "required": True, "schema": {"type": "string"}},
            "delimiter": {"type": "string"},
        }

    def setup(documents):
        return [{"document": d} for d in documents]

    def process(document, delimiter=" "):
        return Counter(document.split(delimiter))

    def join(word_counters):
        return {"word_count": sum(word_counters, Counter())}


class SumTask(ForkJoinTask):
    """The article's diagram: the sum of a list of numbers, one chunk a number."""

    input_schema = {"numbers": {"type": "list", "schema": {"type": "integer"}}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return number

    def join(numbers):
        return sum(numbers)


@dataclass(frozen=True)
class Tally:
    """A class of the user's, in a parameter, in results and in the value."""

    words: Counter[str]
    weight: Decimal


class Sorted(cerberus.Validator):
    """A validator of the user's."""

    def _check_with_sorted(self, field: str, value: list[str]) -> None:
        if value != sorted(value):
            self._error(field, "must be sorted")


class TallyTask(ForkJoinTask):
    """Counts words into a value of a class, of which one says where to begin."""

    types = (Tally,)
    validator = Sorted
    input_schema = {
        "documents": {"type": "list", "required": True, "schema": {"type": "string"}},
        "begin": {"required": True},
        "many": {"default_setter": lambda given: len(given["documents"])},
        "times": {"type": "integer", "coerce": lambda text: int(text) * 10},
        "names": {"type": "list", "check_with": "sorted"},
    }
    chunk_items = 1

    def setup(documents, begin):
        return [{"tally": Tally(Counter(document.split()), begin.weight)} for document in documents]

    def process(tally):
        return Tally(tally.words, tally.weight * 2)

    def join(results, begin, many, times):
        words = sum((result.words for result in results), begin.words)
        return Tally(words, sum((result.weight for result in results), Decimal(many * 1000 + times)))


class SlowTask(ForkJoinTask):
    """Takes its time, and leaves a trace of each run in a directory that the test names."""

    input_schema = {
        "numbers": {"type": "list"},
        "trace": {"type": "string"},
        "pause_s": {"type": "float", "default": 0.2},
        "setup_pause_s": {"type": "float", "default": 0.0},
        "join_pause_s": {"type": "float", "default": 0.0},
        "only_while": {"type": "string", "default": ""},
    }
    chunk_items = 1

    def setup(numbers, trace, setup_pause_s, only_while):
        pause_s = paused(setup_pause_s, only_while)
        leave(trace, "setup")
        for number in numbers:
            time.sleep(pause_s)
            yield {"number": number}

    def process(number, trace, pause_s, only_while):
        pause_s = paused(pause_s, only_while)
        leave(trace, f"process-{number}")
        time.sleep(pause_s)
        return number

    def join(numbers, trace, join_pause_s, only_while):
        pause_s = paused(join_pause_s, only_while)
        leave(trace, "join")
        time.sleep(pause_s)
        return sum(numbers)


class BlocksTask(ForkJoinTask):
    """Arrays in every place: a parameter for each of two steps, items, results, and in the value."""

    input_schema = {"matrix": {"required": True}, "weights": {"required": True}, "columns": {"required": True}}
    chunk_items = 2

    def setup(matrix, columns):
        size = len(matrix) // columns.num_rows
        names = columns.column("name")
        return [{"block": matrix[size * row : size * (row + 1)], "name": names[row : row + 1]} for row in range(8)]

    def process(block, weights, name):
        facts = {"writeable": block.flags.writeable, "aligned": block.flags.aligned, "dtype": block.dtype.str}
        return block @ weights, block[0, 0], name, facts

    def join(blocks):
        products, firsts, names, facts = zip(*blocks, strict=True)
        return {"product": np.concatenate(products), "firsts": firsts, "names": names, "facts": facts}


class PoisonTask(ForkJoinTask):
    """One of its items kills the process that works on it."""

    input_schema = {"numbers": {"type": "list"}, "poison": {"type": "integer"}, "trace": {"type": "string"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, poison, trace):
        leave(trace, f"process-{number}")
        if number == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def join(numbers):
        return sum(numbers.good())


class BrittleTask(ForkJoinTask):
    """Raises in the step that it is told to raise in."""

    input_schema = {"step": {"type": "string"}, "numbers": {"type": "list"}}
    chunk_items = 2

    def setup(step, numbers):
        if step == "setup":
            raise ValueError("setup was told to fail")
        return [{"number": number} for number in numbers]

    def process(number, step):
        if step == "process" and number == 3:
            raise ValueError("process was told to fail at 3")
        return number

    def join(numbers, step):
        if step == "join":
            raise ValueError("join was told to fail")
        return list(numbers)


class StringTask(ForkJoinTask):
    """Strings numbers together, so that their order can be told from it; leaves a trace of each combine."""

    input_schema = {
        "numbers": {},
        "trace": {"type": "string"},
        "combine_pause_s": {"type": "float", "default": 0.0},
        "poison": {"type": "string", "default": ""},
    }
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return str(number)

    def combine(strings, trace, combine_pause_s, poison):
        first = strings[0].partition("+")[0]
        leave(trace, f"combine-{first}")
        time.sleep(combine_pause_s)
        if poison == first:
            os.kill(os.getpid(), signal.SIGKILL)
        return "+".join(strings)

    def join(strings):
        return list(strings)


class PairsTask(StringTask):
    """The same, a value and the one that follows it at a time."""

    def combine(a, b):
        return f"{a}+{b}"


class WitnessTask(ForkJoinTask):
    """Tells what context each of its steps was run in."""

    input_schema = {"numbers": {"type": "list"}, "fail": {"type": "boolean", "default": False}}
    chunk_items = 2

    def setup(numbers):
        return [{"setup": context.get()} for _ in numbers]

    def process(setup, fail):
        if fail:
            raise ValueError("told to fail")
        return {setup, context.get()}

    def combine(a, b):
        return a | b | {context.get()}

    def join(seen):
        return sorted(set().union(*seen, {context.get()}))


class NestedTask(ForkJoinTask):
    """Submits a job in each of its steps and waits for it."""

    input_schema = {"numbers": {"type": "list"}, "allowed": {"type": "boolean"}}

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, allowed):
        with allow_join_result() if allowed else nullcontext():
            return SumTask.submit({"numbers": [number, 1]}).get(30)

    def join(sums):
        return list(sums)


class SetTask(ForkJoinTask):
    """Its value is a set, which JSON does not take."""

    input_schema = {"numbers": {"type": "list"}}

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return number

    def join(numbers):
        return set(numbers)


class StormyTask(ForkJoinTask):
    """Fails for the numbers that are named in a directory, as long as their files stand there."""

    input_schema = {"numbers": {"type": "list"}, "storm": {"type": "string"}, "trace": {"type": "string"}}
    chunk_items = 2
    max_attempts = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, storm, trace):
        leave(trace, f"process-{number}")
        if Path(storm, str(number)).exists():
            raise ValueError(f"{number} in a storm")
        return number

    def join(results):
        return {"sum": sum(results.good()), "failed": [failed.item for failed in results.failures()]}


def paused(pause_s: float, only_while: str) -> float:
    """How long to take: the time given, but if a file is named no time unless that is there."""
    return pause_s if not only_while or Path(only_while).exists() else 0.0


def leave(trace: str, name: str) -> None:
    """Leave a trace: one file a run, named by the step and the process."""
    Path(trace, f"{name}.{os.getpid()}.{time.monotonic_ns()}").touch()


@shared_task
def words() -> list[str]:
    return ["hi there you", "there you are", "please say hi"]


@shared_task
def top(value: dict[str, Any]) -> list[Any]:
    """The commonest word of a word count, as a task that follows in a chain."""
    counts = fanout.resolve(value)["word_count"]
    return max(sorted(counts.items()), key=lambda pair: pair[1])


@shared_task
def gathered(values: list[Any]) -> list[Any]:
    """What a chord's body receives."""
    return fanout.resolve(values)


@shared_task
def noted(value: Any, path: str) -> None:
    """A callback that leaves a line for each time it is called."""
    with open(path, "a") as file:
        file.write(json.dumps(fanout.resolve(value)) + "\n")


@shared_task
def failed(request: Any, error: Any, trace: Any, path: str) -> None:
    """An errback that leaves a line for each time it is called."""
    with open(path, "a") as file:
        file.write(f"{type(error).__name__}: {str(error).splitlines()[0]}\n")
