"""What was put off is done once, soon after the process has nothing else to do, and before it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fanout.background import debouncer as debouncer_module
from fanout.background.debouncer import Debouncer
from storage import StorageUnavailable


class Deeds:
    """Notes what is done, by name."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, name: str) -> Callable[[], None]:
        def do() -> None:
            with self._changed:
                self.done.append(name)
                self._changed.notify_all()

        return do

    def wait(self, count: int) -> list[str]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.done) >= count, timeout=30)
            return self.done


@pytest.fixture
def deeds() -> Deeds:
    return Deeds()


def test_what_was_put_off_is_done(deeds: Deeds) -> None:
    """In a process that does nothing else, and again after its thread has gone."""
    debouncer = Debouncer()
    for count in (1, 2):
        debouncer.defer("look", deeds("look"))
        assert deeds.wait(count) == ["look"] * count
        time.sleep(5 * debouncer_module.PAUSE_S)


def test_only_the_last_of_a_name_is_done(deeds: Deeds) -> None:
    """What is put off under the same name takes the place of the earlier one; other names are apart."""
    debouncer = Debouncer()
    with debouncer.work():
        for name, deed in (("a", "a1"), ("b", "b1"), ("a", "a2")):
            debouncer.defer(name, deeds(deed))
    assert sorted(deeds.wait(2)) == ["a2", "b1"]


def test_it_waits_while_the_process_works(deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work is not disturbed before the longest time has passed."""
    monkeypatch.setattr(debouncer_module, "LONGEST_S", 3600.0)
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("look", deeds("look"))
        time.sleep(20 * debouncer_module.PAUSE_S)
        assert deeds.done == []
    assert deeds.wait(1) == ["look"]


def test_who_works_is_not_looked_at_again_and_again(deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread sleeps until the work is done, and is not in the way of whoever does it."""
    monkeypatch.setattr(debouncer_module, "LONGEST_S", 3600.0)
    debouncer = Debouncer()
    looks: list[None] = []
    due_at = debouncer._due_at
    monkeypatch.setattr(debouncer, "_due_at", lambda waiting: looks.append(None) or due_at(waiting))
    with debouncer.work():
        debouncer.defer("look", deeds("look"))
        time.sleep(20 * debouncer_module.PAUSE_S)
        assert len(looks) <= 2
    assert deeds.wait(1) == ["look"]


def test_what_waits_for_the_store_does_not_hold_up_the_others(deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put off meanwhile is done at its own time."""
    monkeypatch.setattr(debouncer_module, "_patience_s", lambda attempts: 3600.0)
    debouncer = Debouncer()
    asked = threading.Event()

    def look() -> None:
        asked.set()
        raise StorageUnavailable("silent")

    debouncer.defer("silent", look)
    assert asked.wait(30)
    time.sleep(4 * debouncer_module.PAUSE_S)
    debouncer.defer("look", deeds("look"))
    assert deeds.wait(1) == ["look"]


def test_it_waits_only_so_long(deeds: Deeds) -> None:
    """It is done although the process works without a pause."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("look", deeds("look"))
        assert deeds.wait(1) == ["look"]


def test_what_is_dropped_is_not_done(deeds: Deeds) -> None:
    """Somebody has done it; another name is not touched."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("a", deeds("a"))
        debouncer.defer("b", deeds("b"))
        debouncer.drop("a")
        debouncer.drop("never put off")
    debouncer.flush()
    assert deeds.done == ["b"]


def test_a_process_that_ends_does_it_first(deeds: Deeds) -> None:
    """`flush` waits for nothing, and leaves nothing to do."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("look", deeds("look"))
        debouncer.flush()
        assert deeds.done == ["look"]
        debouncer.flush()
    assert deeds.done == ["look"]


def test_a_silent_store_is_asked_again(deeds: Deeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again later, and each time after a longer pause."""
    pauses: list[float] = []
    patience_s = debouncer_module._patience_s
    monkeypatch.setattr(debouncer_module, "_patience_s", lambda attempts: pauses.append(patience_s(attempts)) or 0.0)
    answers: list[Any] = [StorageUnavailable("silent"), StorageUnavailable("silent"), None]

    def look() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        deeds("look")()

    Debouncer().defer("look", look)
    assert deeds.wait(1) == ["look"]
    assert pauses == [2, 4]


def test_after_many_tries_it_is_left_to_a_sweep(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The tries are limited, and the log names what was given up."""
    monkeypatch.setattr(debouncer_module, "_patience_s", lambda attempts: 0.0)
    attempts: list[int] = []

    def look() -> None:
        attempts.append(1)
        raise StorageUnavailable("silent")

    debouncer = Debouncer()
    debouncer.defer("group 7", look)
    thread = debouncer._thread
    assert thread is not None
    thread.join(30)
    assert len(attempts) == debouncer_module.ATTEMPTS
    assert "group 7" in caplog.text


def test_an_error_is_logged_and_harms_nothing_else(deeds: Deeds, caplog: Any) -> None:
    """What else was put off is done."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("a", lambda: 1 / 0)
        debouncer.defer("b", deeds("b"))
    assert deeds.wait(1) == ["b"]
    assert "ZeroDivisionError" in caplog.text
