"""A step asks which job, chunk and item it works on, whether the job still needs it, and says how far it is."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fanout
from fanout import CurrentStep, ForkJoinTask, NotInStep
from fanout.background.timers import Timers
from fanout.external.context import NOTE_CHARACTERS, Signs, clean_note
from fanout.records.keys import process_step
from fanout.stages import heartbeat as heartbeat_module
from fanout.stages.heartbeat import Heartbeat
from fanout.waiting import watch
from fanout.waiting.view import JobView

from .world import World

SEEN: list[CurrentStep] = []
ACTIONS: list[Any] = []
"""What process does, as functions of the current step; a test sets them."""


class Looking(ForkJoinTask):
    """Looks at its context in each step."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 2

    def setup(numbers):
        SEEN.append(fanout.current())
        return [{"number": number} for number in numbers]

    def process(number):
        SEEN.append(fanout.current())
        for action in ACTIONS:
            action(fanout.current())
        return number

    def combine(sums):
        SEEN.append(fanout.current())
        return sum(sums)

    def join(sums):
        SEEN.append(fanout.current())
        return sum(sums)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Begin with nothing seen and nothing to do."""
    SEEN.clear()
    ACTIONS.clear()
    yield
    SEEN.clear()
    ACTIONS.clear()


def places() -> list[tuple[str, int | None, int | None, int]]:
    return [(step.step, step.chunk, step.item, step.attempt) for step in SEEN]


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_each_step_knows_its_place(executor: Any) -> None:
    """Step, chunk, item and attempt are those of the run, in one thread and in several."""
    assert Looking.run({"numbers": [5, 6, 7, 8]}, executor=executor, workers=2) == 26
    found = places()
    assert found[0] == ("setup", None, None, 1)
    assert found[-1] == ("join", None, None, 1)
    process = sorted(place for place in found if place[0] == "process")
    assert process == [("process", 0, 0, 1), ("process", 0, 1, 1), ("process", 1, 2, 1), ("process", 1, 3, 1)]
    assert ("combine", None, None, 1) in found
    assert {(step.job_id, step.generation) for step in SEEN} == {(SEEN[0].job_id, 0)}
    assert {step.task for step in SEEN} == {Looking.name}


def test_the_attempt_and_the_deadline_are_those_of_the_run(world: World) -> None:
    """A chunk that raised runs as attempt 2, and the deadline is the job's, with its time zone."""
    ACTIONS.append(lambda step: 1 / 0 if step.attempt == 1 else None)
    ledger = world.launch(Looking, {"numbers": [1, 2, 3]}, deadline_s=60.0)
    world.dispatcher.drain(world.runtime)
    assert [attempt for step, chunk, _, attempt in places() if (step, chunk) == ("process", 0)] == [1, 2, 2]
    deadline = SEEN[0].deadline
    assert deadline is not None
    assert 0 < (deadline - datetime.now(UTC)).total_seconds() <= 60
    assert world.job(ledger).get(timeout=5) == 6


def test_the_step_is_known_in_threads_that_copy_the_context_alone() -> None:
    """A thread in a copy of the step's context sees the step; other threads, and code outside, get the remedy."""
    results: list[object] = []

    def look() -> None:
        try:
            results.append(fanout.current().item)
        except NotInStep as error:
            results.append(str(error))

    def start_threads(step: CurrentStep) -> None:
        context = contextvars.copy_context()
        for target in (look, lambda: context.run(look)):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join(10)

    ACTIONS.append(start_threads)
    Looking.run({"numbers": [1]})
    assert "contextvars.copy_context().run" in str(results[0])
    assert results[1] == 0
    with pytest.raises(NotInStep, match=r"fanout\.current\(\) was called outside a step"):
        fanout.current()


def test_a_step_that_asks_often_makes_one_request_a_second(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a step asks whether the job has ended, it makes a request a second, and it sees the end."""
    answers: list[bool] = []
    asked: list[int] = []
    clock = [1_000.0]
    for module in ("fanout.cached_job", "fanout.stages.process", "fanout.stages.step"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: clock[0], time=time.time))

    def poll(step: CurrentStep) -> None:
        for _ in range(2):
            clock[0] += 1.5
            before = len(world.store.log)
            answers.extend(step.is_cancelled() for _ in range(50))
            asked.append(len(world.store.log) - before)
            world.job(ledger).cancel()
        clock[0] += 1.5
        before = len(world.store.log)
        answers.append(step.is_cancelled())
        asked.append(len(world.store.log) - before)

    ACTIONS.append(poll)
    ledger = world.prepare(Looking, {"numbers": [1]})
    world.dispatcher.drain(world.process())
    assert answers == [False] * 50 + [True] * 51
    assert asked == [1, 1, 0]


def test_a_store_that_does_not_answer_is_no_end(world: World) -> None:
    """A step that asks while the store is silent goes on, and does not ask the silent store again at once."""
    answers: list[bool] = []

    def poll(step: CurrentStep) -> None:
        world.runtime.job(ledger.job_id, ledger.launch_id)._ended_checked_at = float("-inf")
        with world.store.failing():
            answers.extend(step.is_cancelled() for _ in range(20))

    ACTIONS.append(poll)
    ledger = world.prepare(Looking, {"numbers": [1]})
    world.dispatcher.drain(world.runtime)
    assert answers == [False] * 20
    assert world.job(ledger).get(timeout=5) == 1


def test_a_note_travels_with_the_next_heartbeat_to_those_who_watch() -> None:
    """What a step says is in its next heartbeat, and a caller that watches reads it with one request a look."""
    world = World(stall_s=0.03)
    notes: list[str] = []
    counts: list[int] = []

    def speak(step: CurrentStep) -> None:
        step.heartbeat("epoch 3\nof 10")
        manifest = ledger.manifest()
        assert manifest is not None
        until = time.monotonic() + 20
        while not ledger.heartbeat_text(process_step(manifest.setup_id, 0)) and time.monotonic() < until:
            time.sleep(0.002)
        observer = watch.Observer(JobView(ledger.job_id, world.process(), ledger.launch_id))
        notes.extend(observer.observe().note for _ in range(8))
        counts.append(1)

    ACTIONS.append(speak)
    ledger = world.prepare(Looking, {"numbers": [1]})
    world.dispatcher.deliver(world.runtime)
    assert notes[-1] == "chunk 0: epoch 3 of 10"
    world.dispatcher.drain(world.runtime)
    assert world.job(ledger).progress().note == ""


def test_a_step_that_starves_its_thread_writes_its_heartbeat_itself(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call writes a heartbeat if none was written for a tick and a half, and makes no request before."""

    class NoTimers(Timers):
        def set(self, after_s: float, action: Any) -> Any:
            return SimpleNamespace(cancel=lambda: True)

    clock = [0.0]
    monkeypatch.setattr(heartbeat_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    ledger, signs = world.prepare(Looking, {"numbers": [1]}), Signs()
    with Heartbeat(NoTimers(), ledger, "setup", stall_s=3.0, by="me", signs=signs) as pulse:
        assert signs.pulse is pulse
        pulse.beat()
        assert ledger.last_heartbeat("setup") is None
        clock[0] = 1.6
        signs.note = "at work"
        pulse.beat()
        assert ledger.heartbeat_text("setup") == "at work"
    assert signs.pulse is None


@given(st.text(max_size=3 * NOTE_CHARACTERS))
def test_a_note_is_one_printable_line_of_limited_length(text: str) -> None:
    """Whatever a step says, a terminal can show it in a line."""
    note = clean_note(text)
    assert len(note) <= NOTE_CHARACTERS
    assert note.isprintable()
    assert clean_note(note) == note


def test_a_note_must_be_text() -> None:
    """A note of another type is refused by name."""
    refused: list[str] = []

    def speak(step: CurrentStep) -> None:
        with pytest.raises(TypeError) as caught:
            step.heartbeat(3)  # type: ignore[arg-type]
        refused.append(str(caught.value))

    ACTIONS.append(speak)
    Looking.run({"numbers": [1]})
    assert refused == ["heartbeat: note must be text, not int"]
