"""The cases. Each returns if all is well, and raises otherwise."""

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

from .app import FLASK_NAME
from .configuration import QUEUE
from .ground import WAIT_S, Ground, kill_worker, lines, wait_until
from .tasks import (
    BrittleTask,
    ContextTask,
    DeliveryTask,
    SumTask,
    WordCounterTask,
    failed,
    settings_in_force,
    told,
    top,
    words,
)

DOCUMENTS = ["hi there you", "there you are", "please say hi"]
COUNTS = Counter({"there": 2, "please": 1, "say": 1, "hi": 2, "are": 1, "you": 2})
NUMBERS = 6

Case = Callable[[Ground], None]


def article(ground: Ground) -> None:
    """The article's word count, and the exact type of what it gives."""
    value = WordCounterTask.submit({"documents": DOCUMENTS}).get(WAIT_S)
    assert value == {"word_count": COUNTS}, value
    assert type(value["word_count"]) is Counter


def stream(ground: Ground) -> None:
    """A stream of 200 numbers, whose chunks the caller sends, and a list that is cut where it is."""
    numbers = range(200)
    assert SumTask.submit({"numbers": iter(numbers)}).get(WAIT_S) == sum(numbers)
    assert SumTask.submit({"numbers": list(numbers)}, setup_in_caller=True).get(WAIT_S) == sum(numbers)


def in_chain(ground: Ground) -> None:
    """Between two tasks of a chain."""
    line = chain(
        ground.task(words).s(),
        WordCounterTask.signature(receives="documents"),
        ground.task(top).s(),
        ground.note(),
    )
    result = line()
    ground.assert_called_once(["hi", 2])
    if ground.keeps_results:
        assert list(result.get(timeout=WAIT_S)) == ["hi", 2]


def in_group(ground: Ground) -> None:
    """In a group."""
    widths = [0, 1, 5]
    result = group(SumTask.signature({"numbers": list(range(width))}) for width in widths)()
    expected = [sum(range(width)) for width in widths]
    if ground.eager:
        assert result.get(timeout=WAIT_S) == expected
        return
    assert [attach(child.id).get(WAIT_S) for child in result.results] == expected
    if ground.keeps_results:
        assert result.get(timeout=WAIT_S) == expected


def in_chord(ground: Ground) -> None:
    """In the header of a chord: its body is called once, with the values in order."""
    widths = [0, 1, 5]
    header = [SumTask.signature({"numbers": list(range(width))}) for width in widths]
    chord(header)(ground.note())
    ground.assert_called_once([sum(range(width)) for width in widths])


def failing_chord(ground: Ground) -> None:
    """A job in a chord's header fails: the errback of the body is called once, and the body is not."""
    header = [SumTask.signature({"numbers": [1]}), BrittleTask.signature({"step": "process", "numbers": [1, 2, 3]})]
    body = ground.note()
    body.link_error(ground.task(failed).s(str(ground.errors)))
    if ground.eager:
        # Celery raises in the caller, and calls no errback of a chord.
        with pytest.raises(Exception, match="process was told to fail"):
            chord(header)(body)
        return
    chord(header)(body)
    wait_until(lambda: bool(lines(ground.errors)), "the errback was called")
    told = lines(ground.errors)
    assert len(told) == 1, told
    assert not ground.calls.exists(), lines(ground.calls)


def callback(ground: Ground) -> None:
    """A callback is called once, with the value."""
    signature = SumTask.signature({"numbers": list(range(10))})
    signature.link(ground.note())
    job: Job = signature()
    ground.assert_right_once(job, 45)


def errback(ground: Ground) -> None:
    """One failure in each step: the caller is told by an error, the errback is called once, no callback is."""
    for step in ("setup", "process", "join"):
        signature = BrittleTask.signature({"step": step, "numbers": [1, 2, 3, 4]})
        signature.link(ground.note())
        signature.link_error(ground.task(failed).s(str(ground.errors)))
        _fails(ground, signature, step)
        if not ground.eager:
            wait_until(lambda: bool(lines(ground.errors)), "the errback was called")
            told = lines(ground.errors)
            assert len(told) == 1, told
            assert f"{step} was told to fail" in told[0], told
            ground.errors.unlink()
        assert not ground.calls.exists(), lines(ground.calls)


def _fails(ground: Ground, signature: Any, step: str) -> None:
    job: Job = signature()
    with pytest.raises(JobFailed, match=f"{step} was told to fail") as caught:
        job.get(WAIT_S)
    assert caught.value.step == step
    ground.wait_until_delivered(job)


def kill_process(ground: Ground) -> None:
    """SIGKILL of the process that works on a chunk."""
    job = ground.launch(NUMBERS, pause_s=0.6)
    os.kill(ground.pid_of("process-2"), signal.SIGKILL)
    ground.assert_right_once(job, sum(range(NUMBERS)))


def kill_setup(ground: Ground) -> None:
    """SIGKILL of the process that runs setup, after some chunks have left."""
    job = ground.launch(NUMBERS, setup_pause_s=0.3)
    pid = ground.pid_of("setup")
    wait_until(lambda: bool(ground.traces("process-*") or len(ground.traces("setup")) > 1), "chunks are on their way")
    os.kill(pid, signal.SIGKILL)
    ground.assert_right_once(job, sum(range(NUMBERS)))


def kill_join(ground: Ground) -> None:
    """SIGKILL of the process that runs join."""
    job = ground.launch(NUMBERS, join_pause_s=1.5)
    os.kill(ground.pid_of("join"), signal.SIGKILL)
    ground.assert_right_once(job, sum(range(NUMBERS)))


def kill_a_worker(ground: Ground) -> None:
    """SIGKILL of a worker with all its children."""
    job = ground.launch(NUMBERS, pause_s=0.6)
    kill_worker(ground.pid_of("process-2"))
    ground.assert_right_once(job, sum(range(NUMBERS)))


def cut(ground: Ground) -> None:
    """The broker closes every connection, the caller's and the workers', in the middle of a job."""
    job = ground.launch(NUMBERS, pause_s=0.6)
    ground.pid_of("process-1")
    ground.cut()
    # A join whose connection closed while it delivered is delivered again: at least once, and always the same.
    ground.assert_right(job, sum(range(NUMBERS)))


def in_force(ground: Ground) -> None:
    """The workers have the settings that the configuration gives them."""
    wanted = {name: told(value) for name, value in ground.configuration.settings.items()}
    path = ground.place / "settings"
    ground.task(settings_in_force).s(sorted(wanted), str(path)).apply_async()
    wait_until(path.exists, "a worker told its settings")
    found = json.loads(path.read_text())
    assert found == wanted, found


def context(ground: Ground) -> None:
    """Every step has the context that the app's task class puts around tasks."""
    value = ContextTask.submit({"count": 2}).get(WAIT_S)
    assert value == {"join": FLASK_NAME, "chunks": [{"setup": FLASK_NAME, "process": FLASK_NAME}] * 2}, value


def events(ground: Ground) -> None:
    """Monitors hear of the job: that its messages were sent, and that its join succeeded."""
    heard: list[tuple[str, str]] = []
    with ground.app.connection_for_read() as connection:
        receiver = EventReceiver(
            connection,
            handlers={"*": lambda event: heard.append((event["type"], event.get("uuid", "")))},
            app=ground.app,
        )
        with receiver.consumer_context(wakeup=False) as (listening, *_):
            job = SumTask.submit({"numbers": [1, 2]})
            assert job.get(WAIT_S) == 3
            wanted = {("task-sent", job.id), ("task-succeeded", job.id)}

            def arrived() -> bool:
                with contextlib.suppress(TimeoutError):
                    listening.drain_events(timeout=0.2)
                return wanted <= set(heard)

            wait_until(arrived, f"of {wanted} all were heard", timeout_s=20.0)


def extended(ground: Ground) -> None:
    """The result backend knows the job's name, as for any task."""
    job: Job = SumTask.signature({"numbers": [1, 2]})()
    assert job.get(WAIT_S) == 3
    ground.wait_until_delivered(job)
    meta = ground.app.backend.get_task_meta(job.id)
    assert str(meta.get("name", "")).startswith(SumTask.name), meta


def quorum(ground: Ground) -> None:
    """The queue is a quorum queue: declaring it as one again is accepted."""
    with ground.app.connection_for_write() as connection:
        arguments = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare(QUEUE, durable=True, auto_delete=False, arguments=arguments)


def priority(ground: Ground) -> None:
    """Chunks and join have the app's default priority, and that of the signature if it has one of its own."""
    for given in (None, 9):
        signature = DeliveryTask.signature({"count": 2})
        job: Job = signature.set(priority=given)() if given else signature()
        value = job.get(WAIT_S)
        deliveries = [value["join"], *(found for chunk in value["chunks"] for found in chunk.values())]
        assert {found["priority"] for found in deliveries} == {given or 5}, value


def routes(ground: Ground) -> None:
    """Each step goes where the routes send it."""
    value = DeliveryTask.submit({"count": 2}).get(WAIT_S)
    assert {chunk["setup"]["routing_key"] for chunk in value["chunks"]} == {"storm-setups"}, value
    assert {chunk["process"]["routing_key"] for chunk in value["chunks"]} == {"storm-chunks"}, value
    joins = "storm-joins" if isinstance(ground.configuration.settings["task_routes"], list) else QUEUE
    assert value["join"]["routing_key"] == joins, value


def prefixes(ground: Ground) -> None:
    """Everything that lies in Redis has a prefix."""
    job: Job = SumTask.signature({"numbers": [1, 2]})()
    assert job.get(WAIT_S) == 3
    keys = [key.decode() for key in ground.app.backend.client.keys("*")]
    bare = [key for key in keys if not key.startswith(("{shop}:", "shop-results:"))]
    assert keys, "Redis is empty"
    assert not bare, bare


def countdown(ground: Ground) -> None:
    """A job that is to start in a second starts in a second, whatever the zone of the clocks."""
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
"""What every configuration goes through."""

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
"""What single configurations have of their own."""

CASES = {**COMMON, **OWN}
