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

from .sabotage import SabotagedAMQP, SabotagedExtension
from .trace import leave


def make_app(environment: Mapping[str, str]) -> Celery:
    """An app on the servers that the environment names. Only in a worker does it step on traps."""
    switches, traps = Path(environment["CAMPAIGN_SWITCHES"]), environment.get("CAMPAIGN_TRAPS")
    body = {"switches": switches, "traps": Path(traps) if traps else None}
    app = Celery(
        "campaign",
        broker=environment["CAMPAIGN_BROKER"],
        amqp=type("CampaignAMQP", (SabotagedAMQP,), body),
        set_as_current=False,
    )
    app.conf.update(
        fanout.RECOMMENDED,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_default_queue=environment["CAMPAIGN_QUEUE"],
        # How long Celery waits for the last word of a dead child; ten seconds would be most of the campaign.
        worker_lost_wait=0.5,
    )
    app.conf.update(json.loads(environment.get("CAMPAIGN_SETTINGS", "{}")))
    if traps:
        app.fanout = SabotagedExtension(app, Path(traps))  # type: ignore[attr-defined]
    return fanout.connect(app, store=environment["FANOUT_STORE"], stall_s=float(environment["FANOUT_STALL_S"]))


def answer_of(numbers: list[int], pad: int = 0) -> dict[str, Any]:
    """What a tally of these numbers must give; `process` and `join` below, without any of the machinery."""
    return tally([result_of(number) for number in numbers], pad)


def result_of(number: int) -> int:
    return number * number + 1


def tally(results: list[Any], pad: int) -> dict[str, Any]:
    """Sum, number and order of the results."""
    order = zlib.crc32(json.dumps(results).encode())
    return {"sum": sum(results), "count": len(results), "order": order, "pad": "x" * pad}


class TallyTask(ForkJoinTask):
    """Squares numbers, leaves a trace of each run, and takes as long as it is told to."""

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
        leave(trace, "setup")
        for number in numbers:
            time.sleep(setup_pause_s)
            yield {"number": number}

    def process(number, trace, pause_s):
        leave(trace, "process", number)
        time.sleep(pause_s)
        return result_of(number)

    def join(results, trace, join_pause_s, pad):
        leave(trace, "join")
        time.sleep(join_pause_s)
        return tally(list(results), pad)


class FickleTask(ForkJoinTask):
    """Gives other bytes each time it runs."""

    input_schema = {"numbers": {"type": "list"}, "trace": {"type": "string"}, "pause_s": {"type": "float"}}
    chunk_items = 1
    max_attempts = 20

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, trace, pause_s):
        leave(trace, "process", number)
        time.sleep(pause_s)
        return os.urandom(8).hex()

    def join(results):
        return list(results)


class PoisonTask(ForkJoinTask):
    """One of its items kills the process that works on it."""

    input_schema = {"numbers": {"type": "list"}, "poison": {"type": "integer"}, "trace": {"type": "string"}}
    chunk_items = 1

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, poison, trace):
        leave(trace, "process", number)
        if number == poison:
            os.kill(os.getpid(), signal.SIGKILL)
        return result_of(number)

    def join(results):
        return tally(list(results), 0)


class ValuesTask(ForkJoinTask):
    """Gives back what it was given. An item of nothing holds no argument at all."""

    input_schema = {"numbers": {"type": "list"}, "trace": {"type": "string"}}

    def setup(numbers):
        return [{} if value is None else {"value": value} for value in numbers]

    def process(value=None):
        return value

    def join(results):
        return list(results)


@shared_task(acks_late=True, reject_on_worker_lost=True)
def relay(signature: dict[str, Any], job_id: str) -> None:
    """Launch a job from inside a worker, as the step before it in a chain does."""
    current_app.signature(signature).apply_async(task_id=job_id)


if "CAMPAIGN_TRAPS" in os.environ:
    app = make_app(os.environ)
    app.set_current()
