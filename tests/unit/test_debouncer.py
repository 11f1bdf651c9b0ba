"""The debouncer calls a deferred action once, soon after the process is idle, and before the process ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from fanout.background import debouncer as debouncer_module
from fanout.background.debouncer import Debouncer
from storage import StorageUnavailable


class Calls:
    """Records the calls of actions, by name."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self._changed = threading.Condition()

    def action(self, name: str) -> Callable[[], None]:
        """Return an action that records its call under that name."""

        def record() -> None:
            with self._changed:
                self.made.append(name)
                self._changed.notify_all()

        return record

    def wait(self, count: int) -> list[str]:
        """Return the calls once there are `count` of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.made) >= count, timeout=30)
            return self.made


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_a_deferred_action_is_called(calls: Calls) -> None:
    """An idle process calls a deferred action, and calls another one after the debouncer's thread has ended."""
    debouncer = Debouncer()
    for count in (1, 2):
        debouncer.defer("check", calls.action("check"))
        assert calls.wait(count) == ["check"] * count
        time.sleep(5 * debouncer_module.PAUSE_S)


def test_only_the_last_action_of_a_name_is_called(calls: Calls) -> None:
    """An action replaces the earlier one of the same name; actions of other names remain."""
    debouncer = Debouncer()
    with debouncer.work():
        for name, action in (("a", "a1"), ("b", "b1"), ("a", "a2")):
            debouncer.defer(name, calls.action(action))
    assert sorted(calls.wait(2)) == ["a2", "b1"]


def test_an_action_waits_while_the_process_works(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The debouncer does not disturb steps before the longest time has passed."""
    monkeypatch.setattr(debouncer_module, "LONGEST_S", 3600.0)
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("check", calls.action("check"))
        time.sleep(20 * debouncer_module.PAUSE_S)
        assert calls.made == []
    assert calls.wait(1) == ["check"]


def test_the_thread_does_not_poll_a_busy_process(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread sleeps until the step ends, so that the step keeps the interpreter."""
    monkeypatch.setattr(debouncer_module, "LONGEST_S", 3600.0)
    debouncer = Debouncer()
    polls: list[None] = []
    due_at = debouncer._due_at
    monkeypatch.setattr(debouncer, "_due_at", lambda deferred: polls.append(None) or due_at(deferred))
    with debouncer.work():
        debouncer.defer("check", calls.action("check"))
        time.sleep(20 * debouncer_module.PAUSE_S)
        assert len(polls) <= 2
    assert calls.wait(1) == ["check"]


def test_an_action_that_waits_for_the_store_does_not_hold_up_others(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An action that is deferred while another waits for the store is called at its own time."""
    monkeypatch.setattr(debouncer_module, "_backoff_s", lambda calls: 3600.0)
    debouncer = Debouncer()
    called = threading.Event()

    def check() -> None:
        called.set()
        raise StorageUnavailable("silent")

    debouncer.defer("silent", check)
    assert called.wait(30)
    time.sleep(4 * debouncer_module.PAUSE_S)
    debouncer.defer("check", calls.action("check"))
    assert calls.wait(1) == ["check"]


def test_an_action_waits_at_most_the_longest_time(calls: Calls) -> None:
    """The debouncer calls the action although the process works without a pause."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("check", calls.action("check"))
        assert calls.wait(1) == ["check"]


def test_a_dropped_action_is_not_called(calls: Calls) -> None:
    """`drop` does not touch actions of other names."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("a", calls.action("a"))
        debouncer.defer("b", calls.action("b"))
        debouncer.drop("a")
        debouncer.drop("never deferred")
    debouncer.flush()
    assert calls.made == ["b"]


def test_a_process_that_ends_calls_its_actions_first(calls: Calls) -> None:
    """`flush` waits for nothing, and leaves no action."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("check", calls.action("check"))
        debouncer.flush()
        assert calls.made == ["check"]
        debouncer.flush()
    assert calls.made == ["check"]


def test_an_action_is_called_again_after_a_silent_store(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the store does not answer, the action is called again, each time after a longer pause."""
    pauses: list[float] = []
    backoff_s = debouncer_module._backoff_s
    monkeypatch.setattr(debouncer_module, "_backoff_s", lambda calls: pauses.append(backoff_s(calls)) or 0.0)
    answers: list[Any] = [StorageUnavailable("silent"), StorageUnavailable("silent"), None]

    def check() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer
        calls.action("check")()

    Debouncer().defer("check", check)
    assert calls.wait(1) == ["check"]
    assert pauses == [2, 4]


def test_after_many_calls_an_action_is_left_to_a_sweep(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """The debouncer limits the number of calls, and the log names the action."""
    monkeypatch.setattr(debouncer_module, "_backoff_s", lambda calls: 0.0)
    call_log: list[int] = []

    def check() -> None:
        call_log.append(1)
        raise StorageUnavailable("silent")

    debouncer = Debouncer()
    debouncer.defer("group 7", check)
    thread = debouncer._thread
    assert thread is not None
    thread.join(30)
    assert len(call_log) == debouncer_module.MAX_CALLS
    assert "group 7" in caplog.text


def test_an_error_is_logged_and_harms_no_other_action(calls: Calls, caplog: Any) -> None:
    """After an action has raised, the other actions are called."""
    debouncer = Debouncer()
    with debouncer.work():
        debouncer.defer("a", lambda: 1 / 0)
        debouncer.defer("b", calls.action("b"))
    assert calls.wait(1) == ["b"]
    assert "ZeroDivisionError" in caplog.text
