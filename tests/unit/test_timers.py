"""A timer fires once, when it is due, unless it was cancelled."""

from __future__ import annotations

import threading
import time

from fanout.background.timers import Timers


def timer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "fanout-timers"]


def test_a_timer_fires_when_it_is_due() -> None:
    """Timers fire not before their times, in the order of their times."""
    timers = Timers()
    fired: list[tuple[str, float]] = []
    last = threading.Event()
    began = time.monotonic()
    for name, after_s in (("late", 0.3), ("early", 0.05), ("middle", 0.15)):
        timers.set(after_s, lambda name=name: fired.append((name, time.monotonic() - began)))  # type: ignore[misc]
    timers.set(0.35, last.set)
    assert last.wait(30)
    assert [name for name, _ in fired] == ["early", "middle", "late"]
    assert all(at >= due for (_, at), due in zip(fired, (0.05, 0.15, 0.3), strict=True))


def test_a_cancelled_timer_does_not_fire() -> None:
    """`cancel` returns whether it was in time."""
    timers = Timers()
    fired: list[str] = []
    last = threading.Event()
    cancelled = timers.set(0.05, lambda: fired.append("cancelled"))
    kept = timers.set(0.1, last.set)
    assert cancelled.cancel()
    assert not cancelled.cancel()
    assert last.wait(30)
    assert not kept.cancel()
    assert fired == []


def test_many_timers_share_a_thread_that_ends_with_them() -> None:
    """All timers share one thread, which ends with the last of them. Later timers start another thread."""
    before = set(timer_threads())
    timers = Timers()
    for _ in range(2):
        set_now = [timers.set(0.1, lambda: None) for _ in range(100)]
        [mine] = set(timer_threads()) - before
        for timer in set_now:
            timer.cancel()
        mine.join(30)
        # Threads of other tests may end meanwhile.
        assert set(timer_threads()) <= before
