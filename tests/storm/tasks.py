"""The tasks of the storm. Importing them makes no app."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

from celery import current_task, shared_task

import fanout
from fanout import ForkJoinTask


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


class SlowTask(ForkJoinTask):
    """Takes its time, and leaves a trace of each run in a directory that the case names."""

    input_schema = {
        "numbers": {"type": "list"},
        "trace": {"type": "string"},
        "pause_s": {"type": "float", "default": 0.0},
        "setup_pause_s": {"type": "float", "default": 0.0},
        "join_pause_s": {"type": "float", "default": 0.0},
    }
    chunk_items = 1

    def setup(numbers, trace, setup_pause_s):
        leave(trace, "setup")
        for number in numbers:
            time.sleep(setup_pause_s)
            yield {"number": number}

    def process(number, trace, pause_s):
        leave(trace, f"process-{number}")
        time.sleep(pause_s)
        return number

    def join(numbers, trace, join_pause_s):
        leave(trace, "join")
        time.sleep(join_pause_s)
        return sum(numbers)


class BrittleTask(ForkJoinTask):
    """Raises in the step that it is told to raise in."""

    input_schema = {"step": {"type": "string"}, "numbers": {"type": "list"}}
    chunk_items = 2
    max_attempts = 2

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


class DeliveryTask(ForkJoinTask):
    """Tells how the messages of its steps were delivered: queue and priority."""

    input_schema = {"count": {"type": "integer"}}
    chunk_items = 1

    def setup(count):
        return [{"delivery": delivery()} for _ in range(count)]

    def process(delivery):
        return {"setup": delivery, "process": globals()["delivery"]()}

    def join(deliveries):
        return {"chunks": list(deliveries), "join": delivery()}


class ContextTask(ForkJoinTask):
    """Needs Flask's application context in each of its steps."""

    input_schema = {"count": {"type": "integer"}}
    chunk_items = 1

    def setup(count):
        return [{"setup": flask_app()} for _ in range(count)]

    def process(setup):
        return {"setup": setup, "process": flask_app()}

    def join(names):
        return {"join": flask_app(), "chunks": list(names)}


def flask_app() -> str:
    """The name of the Flask application whose context is around this; an error if there is none."""
    from flask import current_app

    return current_app.name


def delivery() -> dict[str, Any]:
    """Queue and priority of the message that is being worked on."""
    told = current_task.request.delivery_info or {}
    return {"routing_key": told.get("routing_key"), "priority": told.get("priority")}


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
def noted(value: Any, path: str) -> Any:
    """A callback that leaves a line for each time it is called, and passes its value on."""
    resolve = fanout.resolve(value)
    _add_line(path, json.dumps(resolve))
    return resolve


@shared_task
def failed(request: Any, error: Any, trace: Any, path: str) -> None:
    """An errback that leaves a line for each time it is called."""
    _add_line(path, f"{type(error).__name__}: {str(error).splitlines()[0]}")


@shared_task(bind=True)
def settings_in_force(self: Any, names: list[str], path: str) -> None:
    """Write down what a worker's app has for these settings."""
    found = {name: told(self.app.conf[name]) for name in names}
    Path(path).with_suffix(".new").write_text(json.dumps(found))
    Path(path).with_suffix(".new").rename(path)


def told(value: object) -> str:
    """A setting as text; of a function, no more than its name."""
    return re.sub(r" at 0x\w+", "", repr(value))


def _add_line(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(line + "\n")
