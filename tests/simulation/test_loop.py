"""What the simulation itself must get right: time, and who may use it."""

from __future__ import annotations

import random

import pytest

from .loop import EPOCH, Fiber, Loop, Process


@pytest.mark.parametrize(("thaws_after_s", "goes_on_after_s"), [(None, [50.0, 50.0, 80.0]), (20.0, [20.0, 30.0, 80.0])])
def test_a_process_goes_on_as_a_whole(thaws_after_s: float | None, goes_on_after_s: list[float]) -> None:
    """One that stands still for 50 s or is thawed before goes on with all of its fibers, none earlier than it asked."""

    def uncaught(fiber: Fiber, error: BaseException) -> None:
        raise error

    loop = Loop(random.Random(1), uncaught)
    process = Process("worker")
    went_on: list[float] = []

    def body(seconds: float) -> None:
        loop.sleep(seconds)
        went_on.append(loop.now - EPOCH)

    for seconds in (10.0, 30.0, 80.0):
        loop.spawn(process, body, seconds)
    loop.at(EPOCH + 1, lambda: setattr(process, "frozen_until", EPOCH + 50))
    if thaws_after_s is not None:
        loop.at(EPOCH + thaws_after_s, lambda: loop.thaw(process))
    loop.run(lambda: False)
    assert went_on == goes_on_after_s
