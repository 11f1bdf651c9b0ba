"""Tasks that the integration tests and the settings storm share. The import makes no app."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from celery import shared_task

import fanout
from fanout import ForkJoinTask

from .traces import record_line, record_run

_LINE = "the quick brown fox jumps over the lazy dog and the small grey cat sleeps on\n"


class WordCounterTask(ForkJoinTask):
    """The task of the article, as printed."""

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
    """The article's diagram: the sum of a list of numbers, with one number per chunk."""

    input_schema = {"numbers": {"type": "list", "schema": {"type": "integer"}}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return number

    def join(numbers):
        return sum(numbers)


class SlowTask(ForkJoinTask):
    """A sum with a pause in each step. Each run leaves a trace in the directory `trace`.

    If `only_while` names a file, the steps pause only while that file exists.
    """

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
        pause_s = choose_pause(setup_pause_s, only_while)
        record_run(trace, "setup")
        for number in numbers:
            time.sleep(pause_s)
            yield {"number": number}

    def process(number, trace, pause_s, only_while):
        pause_s = choose_pause(pause_s, only_while)
        record_run(trace, f"process-{number}")
        time.sleep(pause_s)
        return number

    def join(numbers, trace, join_pause_s, only_while):
        pause_s = choose_pause(join_pause_s, only_while)
        record_run(trace, "join")
        time.sleep(pause_s)
        return sum(numbers)


class FailingTask(ForkJoinTask):
    """A task that raises in the step that `step` names."""

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


def choose_pause(pause_s: float, only_while: str) -> float:
    """Return the pause, or 0 if `only_while` names a file that does not exist."""
    return pause_s if not only_while or Path(only_while).exists() else 0.0


@shared_task
def list_documents() -> list[str]:
    return ["hi there you", "there you are", "please say hi"]


@shared_task
def find_top_word(value: dict[str, Any]) -> list[Any]:
    """Return the most common word of a word count and its number. Follows a job in a chain."""
    counts = fanout.resolve(value)["word_count"]
    return max(sorted(counts.items()), key=lambda pair: pair[1])


@shared_task
def record_call(value: Any, path: str) -> Any:
    """Append the value to a file, as a callback, and return it."""
    value = fanout.resolve(value)
    record_line(path, json.dumps(value))
    return value


@shared_task
def record_error(request: Any, error: Any, trace: Any, path: str) -> None:
    """Append the error to a file, as an errback."""
    record_line(path, f"{type(error).__name__}: {str(error).splitlines()[0]}")


def make_documents(size_bytes: int, count: int) -> list[str]:
    """Return `count` documents of `size_bytes` in total."""
    lines = size_bytes // count // len(_LINE)
    return [_LINE * lines] * count
