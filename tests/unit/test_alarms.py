"""An alarm goes off once, when it is due, unless it was called off."""

from __future__ import annotations

import threading
import time

from fanout.background.timers import Timers


def alarm_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fanout-alarms"]


def test_it_goes_off_when_it_is_due() -> None:
    """Not before its time, and in the order of the times, however they were set."""
    timers = Timers()
    rang: list[tuple[str, float]] = []
    last = threading.Event()
    began = time.monotonic()
    for name, after_s in (("late", 0.3), ("early", 0.05), ("middle", 0.15)):
        timers.set(after_s, lambda name=name: rang.append((name, time.monotonic() - began)))  # type: ignore[misc]
    timers.set(0.35, last.set)
    assert last.wait(30)
    assert [name for name, _ in rang] == ["early", "middle", "late"]
    assert all(at >= due for (_, at), due in zip(rang, (0.05, 0.15, 0.3), strict=True))


def test_what_is_called_off_does_not_go_off() -> None:
    """Calling off says whether it was in time."""
    timers = Timers()
    rang: list[str] = []
    last = threading.Event()
    doomed = timers.set(0.05, lambda: rang.append("doomed"))
    kept = timers.set(0.1, last.set)
    assert doomed.cancel()
    assert not doomed.cancel()
    assert last.wait(30)
    assert not kept.cancel()
    assert rang == []


def test_many_alarms_share_a_thread_that_ends_with_them() -> None:
    """A thread for all, and none for none; another one for those that come later."""
    before = set(alarm_threads())
    timers = Timers()
    for _ in range(2):
        set_now = [timers.set(0.1, lambda: None) for _ in range(100)]
        [mine] = set(alarm_threads()) - before
        for timer in set_now:
            timer.cancel()
        mine.join(30)
        # Threads of other tests may end meanwhile.
        assert set(alarm_threads()) <= before
