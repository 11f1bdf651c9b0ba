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
from celery import Celery, Task, shared_task
from celery.result import allow_join_result

import fanout
from fanout import ForkJoinTask
from storage import open_store
from tests.tasks import SumTask
from tests.traces import record_run


def make_app(environment: Mapping[str, str]) -> Celery:
    """Return an app on the broker, result backend, queue and store that the environment names."""
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
        # A worker then reports a child's death at once. Its default is to wait for 10 s.
        worker_lost_wait=0.5,
    )
    app.conf.update(json.loads(environment.get("TEST_SETTINGS", "{}")))
    return fanout.connect(app, store=environment.get("FANOUT_STORE"), stall_s=environment.get("FANOUT_STALL_S"))


context: ContextVar[str] = ContextVar("context", default="outside")


class ContextTask(Task):
    """An app's own task class, as in Flask's documentation. Its hook leaves a trace."""

    abstract = True

    def __call__(self, *args, **kwargs):
        token = context.set("inside")
        try:
            return self.run(*args, **kwargs)
        finally:
            context.reset(token)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        record_run(os.environ["TEST_HOOKS"], f"{type(exc).__name__}-{task_id}")


app = make_app(os.environ)
app.set_current()


@dataclass(frozen=True)
class WordCount:
    """A word count with a weight: a user's class in a parameter, in items, in results and in the value."""

    words: Counter[str]
    weight: Decimal


class Sorted(cerberus.Validator):
    """A user's validator."""

    def _check_with_sorted(self, field: str, value: list[str]) -> None:
        if value != sorted(value):
            self._error(field, "must be sorted")


class WordCountTask(ForkJoinTask):
    """A word count whose results are values of a user's class, and which starts from the parameter `begin`."""

    types = (WordCount,)
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
        return [{"word_count": WordCount(Counter(document.split()), begin.weight)} for document in documents]

    def process(word_count):
        return WordCount(word_count.words, word_count.weight * 2)

    def join(results, begin, many, times):
        words = sum((result.words for result in results), begin.words)
        return WordCount(words, sum((result.weight for result in results), Decimal(many * 1000 + times)))


class BlocksTask(ForkJoinTask):
    """Arrays in parameters of two steps, in items, in results and in the value."""

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
        # Not for each worker of the tests: it takes a tenth of its start.
        import numpy as np

        products, firsts, names, facts = zip(*blocks, strict=True)
        return {"product": np.concatenate(products), "firsts": firsts, "names": names, "facts": facts}


class PoisonTask(ForkJoinTask):
    """A task of which one item kills the process that runs it."""

    input_schema = {"numbers": {"type": "list"}, "poison": {"type": "integer"}, "trace": {"type": "string"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, poison, trace):
        record_run(trace, f"process-{number}")
        if number == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    def join(numbers):
        return sum(numbers.good())


class ConcatenateTask(ForkJoinTask):
    """A concatenation of numbers, which shows their order. Each combine leaves a trace."""

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
        record_run(trace, f"combine-{first}")
        time.sleep(combine_pause_s)
        if poison == first:
            os.kill(os.getpid(), signal.SIGKILL)
        return "+".join(strings)

    def join(strings):
        return list(strings)


class PairsTask(ConcatenateTask):
    """A concatenation that combines two values at a time."""

    def combine(a, b):
        return f"{a}+{b}"


class ReportContextTask(ForkJoinTask):
    """A task whose value is the set of contexts in which its steps ran."""

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

    def join(contexts):
        return sorted(set().union(*contexts, {context.get()}))


class NestedTask(ForkJoinTask):
    """A task whose process submits a job and waits for it."""

    input_schema = {"numbers": {"type": "list"}, "allowed": {"type": "boolean"}}

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, allowed):
        with allow_join_result() if allowed else nullcontext():
            return SumTask.submit({"numbers": [number, 1]}).get(30)

    def join(sums):
        return list(sums)


class SetTask(ForkJoinTask):
    """A task whose value is a set, which JSON cannot represent."""

    input_schema = {"numbers": {"type": "list"}}

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number):
        return number

    def join(numbers):
        return set(numbers)


class FailOnFileTask(ForkJoinTask):
    """A task that fails for each number while the directory `failing` has a file of that name."""

    input_schema = {"numbers": {"type": "list"}, "failing": {"type": "string"}, "trace": {"type": "string"}}
    chunk_items = 2
    max_attempts = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, failing, trace):
        record_run(trace, f"process-{number}")
        if Path(failing, str(number)).exists():
            raise ValueError(f"{number} was told to fail")
        return number

    def join(results):
        return {"sum": sum(results.good()), "failed": [failed.item for failed in results.failures()]}


class WriteTask(ForkJoinTask):
    """A task that writes a table per number to a sink, and lets a test kill its process after that."""

    input_schema = {
        "numbers": {"type": "list"},
        "out": {"type": "sink", "required": True},
        "trace": {"type": "string"},
        "pause_s": {"type": "float", "default": 0.0},
    }
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, out, trace, pause_s):
        written = out.write({"number": number, "row": row} for row in range(1000))
        record_run(trace, f"written-{number}")
        time.sleep(pause_s)
        return written

    def join(results, out, trace, pause_s):
        published = out.commit(results)
        record_run(trace, "committed")
        time.sleep(pause_s)
        return published


@shared_task
def resolve_values(values: list[Any]) -> list[Any]:
    """Return the resolved values, as a chord's body."""
    return fanout.resolve(values)


class LeakyTask(ForkJoinTask):
    """Raises an error with all of its environment in the step that `step` names."""

    input_schema = {"step": {"type": "string"}}
    max_attempts = 1

    @staticmethod
    def setup(step):
        leak_if(step == "setup")
        return [{"number": 1}]

    @staticmethod
    def process(number, step):
        leak_if(step == "process")
        return number

    @staticmethod
    def join(results, step):
        leak_if(step == "join")
        return list(results)


def leak_if(told: bool) -> None:
    if told:
        raise RuntimeError(f"the environment is {dict(sorted(os.environ.items()))}")


class CountWordsInPlaceTask(ForkJoinTask[Counter[str]]):
    """Counts the words of objects that lie outside fanout's store; setup may replace one after it has listed all."""

    input_schema = {"text": {"type": "source", "required": True}, "replaced": {"type": "string"}}

    @staticmethod
    def setup(text, replaced=None):
        parts = [{"part": part} for part in text.parts(part_bytes=4096)]
        if replaced is not None:
            folder, _, name = replaced.rpartition("/")
            open_store(folder).put(name, b"other words\n" * 1000)
        return parts

    @staticmethod
    def process(part):
        return Counter(word for line in part for word in line.split())

    @staticmethod
    def join(counters):
        return sum(counters, Counter())
