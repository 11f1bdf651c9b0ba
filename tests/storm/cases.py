"""The cases. A case returns if its conditions hold, and raises otherwise."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from celery.events.receiver import EventReceiver

from fanout import Job, JobFailed, attach

from ..tasks import FailingTask, SumTask, WordCounterTask, find_top_word, list_documents, record_error
from ..traces import read_lines
from .app import FLASK_NAME
from .case_environment import WAIT_S, CaseEnvironment, kill_worker
from .configuration import QUEUE
from .tasks import ContextTask, DeliveryTask, describe, write_settings

DOCUMENTS = ["hi there you", "there you are", "please say hi"]
COUNTS = Counter({"there": 2, "please": 1, "say": 1, "hi": 2, "are": 1, "you": 2})
NUMBERS = 6

Case = Callable[[CaseEnvironment], None]


def article(env: CaseEnvironment) -> None:
    """The article's word count: the value and its exact types."""
    value = WordCounterTask.submit({"documents": DOCUMENTS}).get(WAIT_S)
    assert value == {"word_count": COUNTS}, value
    assert type(value["word_count"]) is Counter


def stream(env: CaseEnvironment) -> None:
    """A stream of 200 numbers, whose chunks the caller sends, and a list that the caller sets up."""
    numbers = range(200)
    assert SumTask.submit({"numbers": iter(numbers)}).get(WAIT_S) == sum(numbers)
    assert SumTask.submit({"numbers": list(numbers)}, setup_in_caller=True).get(WAIT_S) == sum(numbers)


def in_chain(env: CaseEnvironment) -> None:
    """A job between two tasks of a chain."""
    line = chain(
        env.task(list_documents).s(),
        WordCounterTask.signature(receives="documents"),
        env.task(find_top_word).s(),
        env.callback(),
    )
    result = line()
    env.assert_called_once(["hi", 2])
    if env.keeps_results:
        assert list(result.get(timeout=WAIT_S)) == ["hi", 2]


def in_group(env: CaseEnvironment) -> None:
    """Jobs in a group."""
    widths = [0, 1, 5]
    result = group(SumTask.signature({"numbers": list(range(width))}) for width in widths)()
    expected = [sum(range(width)) for width in widths]
    if env.eager:
        assert result.get(timeout=WAIT_S) == expected
        return
    assert [attach(child.id).get(WAIT_S) for child in result.results] == expected
    if env.keeps_results:
        assert result.get(timeout=WAIT_S) == expected


def in_chord(env: CaseEnvironment) -> None:
    """Jobs in the header of a chord: the body is called once, with the values in order."""
    widths = [0, 1, 5]
    header = [SumTask.signature({"numbers": list(range(width))}) for width in widths]
    chord(header)(env.callback())
    env.assert_called_once([sum(range(width)) for width in widths])


def failing_chord(env: CaseEnvironment) -> None:
    """A failed job in a chord's header: the body's errback is called once, the body is not called."""
    header = [
        SumTask.signature({"numbers": [1]}),
        FailingTask.signature({"step": "process", "numbers": [1, 2, 3]}, max_attempts=2),
    ]
    body = env.callback()
    body.link_error(env.task(record_error).s(str(env.errors)))
    if env.eager:
        # Celery raises in the caller and calls no errback of a chord.
        with pytest.raises(Exception, match="process was told to fail"):
            chord(header)(body)
        return
    chord(header)(body)
    env.wait_until(lambda: bool(read_lines(env.errors)), "the errback was called")
    errors = read_lines(env.errors)
    assert len(errors) == 1, errors
    assert not env.calls.exists(), read_lines(env.calls)


def callback(env: CaseEnvironment) -> None:
    """A callback, called once with the value."""
    signature = SumTask.signature({"numbers": list(range(10))})
    signature.link(env.callback())
    job: Job = signature()
    env.assert_right_once(job, 45)


def errback(env: CaseEnvironment) -> None:
    """A failure in each step: the caller gets an error, the errback is called once, the callback is not called."""
    for step in ("setup", "process", "join"):
        signature = FailingTask.signature({"step": step, "numbers": [1, 2, 3, 4]}, max_attempts=2)
        signature.link(env.callback())
        signature.link_error(env.task(record_error).s(str(env.errors)))
        _assert_fails(env, signature, step)
        if not env.eager:
            env.wait_until(lambda: bool(read_lines(env.errors)), "the errback was called")
            errors = read_lines(env.errors)
            assert len(errors) == 1, errors
            assert f"{step} was told to fail" in errors[0], errors
            env.errors.unlink()
        assert not env.calls.exists(), read_lines(env.calls)


def _assert_fails(env: CaseEnvironment, signature: Any, step: str) -> None:
    job: Job = signature()
    with pytest.raises(JobFailed, match=f"{step} was told to fail") as caught:
        job.get(WAIT_S)
    assert caught.value.step == step
    env.wait_until_delivered(job)


def kill_process(env: CaseEnvironment) -> None:
    """SIGKILL of the process that runs a chunk."""
    job = env.launch(NUMBERS, pause_s=0.6)
    os.kill(env.wait_for_pid("process-2"), signal.SIGKILL)
    env.assert_right_once(job, sum(range(NUMBERS)))


def kill_setup(env: CaseEnvironment) -> None:
    """SIGKILL of the process that runs setup, after it has sent some chunks."""
    job = env.launch(NUMBERS, setup_pause_s=0.3)
    pid = env.wait_for_pid("setup")
    env.wait_until(lambda: bool(env.runs("process-*") or len(env.runs("setup")) > 1), "setup has sent chunks")
    os.kill(pid, signal.SIGKILL)
    env.assert_right_once(job, sum(range(NUMBERS)))


def kill_join(env: CaseEnvironment) -> None:
    """SIGKILL of the process that runs join."""
    job = env.launch(NUMBERS, join_pause_s=1.5)
    os.kill(env.wait_for_pid("join"), signal.SIGKILL)
    env.assert_right_once(job, sum(range(NUMBERS)))


def kill_a_worker(env: CaseEnvironment) -> None:
    """SIGKILL of a worker and all its children."""
    job = env.launch(NUMBERS, pause_s=0.6)
    kill_worker(env.wait_for_pid("process-2"))
    env.assert_right_once(job, sum(range(NUMBERS)))


def cut(env: CaseEnvironment) -> None:
    """The broker closes all connections of caller and workers in the middle of a job."""
    job = env.launch(NUMBERS, pause_s=0.6)
    env.wait_for_pid("process-1")
    env.close_connections()
    # A join whose connection closes during delivery runs again. Callbacks are then called more than once, same value.
    env.assert_right(job, sum(range(NUMBERS)))


def in_force(env: CaseEnvironment) -> None:
    """The workers have the settings that the configuration gives them."""
    wanted = {name: describe(value) for name, value in env.configuration.settings.items()}
    path = env.directory / "settings"
    env.task(write_settings).s(sorted(wanted), str(path)).apply_async()
    env.wait_until(path.exists, "a worker wrote its settings")
    settings = json.loads(path.read_text())
    assert settings == wanted, settings


def context(env: CaseEnvironment) -> None:
    """Each step runs in the context that the app's task class enters around tasks."""
    value = ContextTask.submit({"count": 2}).get(WAIT_S)
    assert value == {"join": FLASK_NAME, "chunks": [{"setup": FLASK_NAME, "process": FLASK_NAME}] * 2}, value


def events(env: CaseEnvironment) -> None:
    """Monitors receive events of the job: its messages were sent, and its join succeeded."""
    received: list[tuple[str, str]] = []
    with env.app.connection_for_read() as connection:
        receiver = EventReceiver(
            connection,
            handlers={"*": lambda event: received.append((event["type"], event.get("uuid", "")))},
            app=env.app,
        )
        with receiver.consumer_context(wakeup=False) as (listening, *_):
            job = SumTask.submit({"numbers": [1, 2]})
            assert job.get(WAIT_S) == 3
            wanted = {("task-sent", job.id), ("task-succeeded", job.id)}

            def arrived() -> bool:
                with contextlib.suppress(TimeoutError):
                    listening.drain_events(timeout=0.2)
                return wanted <= set(received)

            env.wait_until(arrived, f"all of {wanted} were received", timeout_s=20.0)


def extended(env: CaseEnvironment) -> None:
    """The result backend has the job's name, as for any task."""
    job: Job = SumTask.signature({"numbers": [1, 2]})()
    assert job.get(WAIT_S) == 3
    env.wait_until_delivered(job)
    meta = env.app.backend.get_task_meta(job.id)
    assert str(meta.get("name", "")).startswith(SumTask.name), meta


def quorum(env: CaseEnvironment) -> None:
    """The queue is a quorum queue: RabbitMQ accepts a second declaration as one."""
    with env.app.connection_for_write() as connection:
        arguments = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments=arguments)


def priority(env: CaseEnvironment) -> None:
    """Chunks and join have the signature's priority, or the app's default priority without one."""
    for given in (None, 9):
        signature = DeliveryTask.signature({"count": 2})
        job: Job = signature.set(priority=given)() if given else signature()
        value = job.get(WAIT_S)
        deliveries = [value["join"], *(delivery for chunk in value["chunks"] for delivery in chunk.values())]
        assert {delivery["priority"] for delivery in deliveries} == {given or 5}, value


def routes(env: CaseEnvironment) -> None:
    """Each step's messages go to the queue that the routes name."""
    value = DeliveryTask.submit({"count": 2}).get(WAIT_S)
    assert {chunk["setup"]["routing_key"] for chunk in value["chunks"]} == {"storm-setups"}, value
    assert {chunk["process"]["routing_key"] for chunk in value["chunks"]} == {"storm-chunks"}, value
    joins = "storm-joins" if isinstance(env.configuration.settings["task_routes"], list) else QUEUE
    assert value["join"]["routing_key"] == joins, value


def prefixes(env: CaseEnvironment) -> None:
    """All keys in Redis have a prefix."""
    job: Job = SumTask.signature({"numbers": [1, 2]})()
    assert job.get(WAIT_S) == 3
    keys = [key.decode() for key in env.app.backend.client.keys("*")]
    bare = [key for key in keys if not key.startswith(("{shop}:", "shop-results:"))]
    assert keys, "Redis is empty"
    assert not bare, bare


def countdown(env: CaseEnvironment) -> None:
    """A job with a countdown of a second starts after a second in any time zone."""
    signature = SumTask.signature({"numbers": [1, 2]})
    result = signature.apply_async(countdown=1)
    assert attach(result.id).get(20) == 3


COMMON: dict[str, Case] = {
    "in force": in_force,
    "article": article,
    "stream": stream,
    "chain": in_chain,
    "group": in_group,
    "chord": in_chord,
    "chord fails": failing_chord,
    "callback": callback,
    "errback": errback,
    "kill process": kill_process,
    "kill setup": kill_setup,
    "kill join": kill_join,
    "kill worker": kill_a_worker,
    "cut": cut,
}
"""Cases of all configurations."""

OWN: dict[str, Case] = {
    "context": context,
    "events": events,
    "extended": extended,
    "quorum": quorum,
    "priority": priority,
    "routes": routes,
    "prefixes": prefixes,
    "countdown": countdown,
}
"""Cases of single configurations."""

CASES = {**COMMON, **OWN}
