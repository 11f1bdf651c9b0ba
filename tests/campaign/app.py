"""The tasks of the campaign, and the Celery app that workers and caller make from their environment."""

from __future__ import annotations

import json
import os
import signal
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from celery import Celery, current_app, shared_task

import fanout
from fanout import ForkJoinTask

from . import data_tasks as data_tasks  # declares its tasks
from .fault_injection import FaultInjectingAMQP, FaultInjectingExtension
from .trace import record_run


def make_app(environment: Mapping[str, str]) -> Celery:
    """Return an app on the servers that the environment names. Kill points act in workers only."""
    switches, kill_points = Path(environment["CAMPAIGN_SWITCHES"]), environment.get("CAMPAIGN_KILL_POINTS")
    body = {"switches": switches, "kill_points": Path(kill_points) if kill_points else None}
    app = Celery(
        "campaign",
        broker=environment["CAMPAIGN_BROKER"],
        amqp=type("CampaignAMQP", (FaultInjectingAMQP,), body),
        set_as_current=False,
    )
    app.conf.update(
        fanout.RECOMMENDED,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_default_queue=environment["CAMPAIGN_QUEUE"],
        # Celery waits so long for messages of a dead child. Its default of 10 s would dominate the campaign's time.
        worker_lost_wait=0.5,
    )
    app.conf.update(json.loads(environment.get("CAMPAIGN_SETTINGS", "{}")))
    if kill_points:
        app.fanout = FaultInjectingExtension(app, Path(kill_points))  # type: ignore[attr-defined]
    return fanout.connect(app, store=environment["FANOUT_STORE"], stall_s=float(environment["FANOUT_STALL_S"]))


def expected_answer(numbers: list[int], pad: int = 0) -> dict[str, Any]:
    """Return the expected value of a `SquaresTask` job: `process` and `join` without the library."""
    return summarize([expected_result(number) for number in numbers], pad)


def expected_result(number: int) -> int:
    """Return the expected result of one number's chunk."""
    return number * number + 1


def summarize(results: list[Any], pad: int) -> dict[str, Any]:
    """Return sum, count and checksum of the order of the results."""
    order = zlib.crc32(json.dumps(results).encode())
    return {"sum": sum(results), "count": len(results), "order": order, "pad": "x" * pad}


class SquaresTask(ForkJoinTask):
    """Squares of numbers, with a trace of each run and a pause in each step."""

    input_schema = {
        "numbers": {"type": "list"},
        "trace": {"type": "string"},
        "pad": {"type": "integer", "default": 0},
        "pause_s": {"type": "float", "default": 0.0},
        "setup_pause_s": {"type": "float", "default": 0.0},
        "join_pause_s": {"type": "float", "default": 0.0},
    }
    chunk_items = 1
    max_attempts = 20

    def setup(numbers, trace, setup_pause_s):
        record_run(trace, "setup")
        for number in numbers:
            time.sleep(setup_pause_s)
            yield {"number": number}

    def process(number, trace, pause_s):
        record_run(trace, "process", number)
        time.sleep(pause_s)
        return expected_result(number)

    def join(results, trace, join_pause_s, pad):
        record_run(trace, "join")
        time.sleep(join_pause_s)
        return summarize(list(results), pad)


class NondeterministicTask(ForkJoinTask):
    """A task whose process returns other bytes in each run."""

    input_schema = {"numbers": {"type": "list"}, "trace": {"type": "string"}, "pause_s": {"type": "float"}}
    chunk_items = 1
    max_attempts = 20

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, trace, pause_s):
        record_run(trace, "process", number)
        time.sleep(pause_s)
        return os.urandom(8).hex()

    def join(results):
        return list(results)


class PoisonTask(ForkJoinTask):
    """A task of which one item kills the process that runs it."""

    input_schema = {"numbers": {"type": "list"}, "poison": {"type": "integer"}, "trace": {"type": "string"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, poison, trace):
        record_run(trace, "process", number)
        if number == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return expected_result(number)

    def join(results):
        return summarize(list(results), 0)


class ValuesTask(ForkJoinTask):
    """A task that returns its items. An item of None has no argument at all."""

    input_schema = {"numbers": {"type": "list"}, "trace": {"type": "string"}}

    def setup(numbers):
        return [{} if value is None else {"value": value} for value in numbers]

    def process(value=None):
        return value

    def join(results):
        return list(results)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def launch_in_worker(signature: dict[str, Any], job_id: str) -> None:
    """Launch a job from a worker, as the task before it in a chain does."""
    current_app.signature(signature).apply_async(task_id=job_id)


if "CAMPAIGN_KILL_POINTS" in os.environ:
    app = make_app(os.environ)
    app.set_current()
