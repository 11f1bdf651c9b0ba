"""Tests of the simulation's own event loop."""

from __future__ import annotations

import random

import pytest

from .loop import EPOCH, Fiber, Loop, Process


@pytest.mark.parametrize(("resume_after_s", "expected_s"), [(None, [50.0, 50.0, 80.0]), (20.0, [20.0, 30.0, 80.0])])
def test_a_process_resumes_as_a_whole(resume_after_s: float | None, expected_s: list[float]) -> None:
    """A suspended process resumes with all of its fibers, after 50 s or when resumed before. No fiber resumes early."""

    def uncaught(fiber: Fiber, error: BaseException) -> None:
        raise error

    loop = Loop(random.Random(1), uncaught)
    process = Process("worker")
    resumed_at: list[float] = []

    def body(seconds: float) -> None:
        loop.sleep(seconds)
        resumed_at.append(loop.now - EPOCH)

    for seconds in (10.0, 30.0, 80.0):
        loop.spawn(process, body, seconds)
    loop.at(EPOCH + 1, lambda: setattr(process, "suspended_until", EPOCH + 50))
    if resume_after_s is not None:
        loop.at(EPOCH + resume_after_s, lambda: loop.resume(process))
    loop.run(lambda: False)
    assert resumed_at == expected_s
