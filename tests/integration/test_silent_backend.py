"""A result backend that accepts connections and does not respond."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from celery import Celery

import fanout
from devstack import Redis, ServerUnavailable
from fanout import JobTimeout

from ..tasks import SumTask

TIMEOUT_S = 1.0
LATE_S = 4.0
"""Longest delay of a busy machine. A call without a limit takes far longer."""


def test_get_keeps_its_timeout_while_redis_is_silent(tmp_path: Path) -> None:
    """`get(timeout=…)` ends soon after its timeout while Redis, which notifies of the end, is suspended."""
    try:
        redis = Redis.start(tmp_path / "redis")
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with redis, Celery("silent", broker="memory://", backend=redis.url, set_as_current=False) as app:
        fanout.connect(app, store=f"file://{tmp_path}/store")
        job = SumTask.submit({"numbers": [1, 2]}, app=app)
        os.kill(redis.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            with pytest.raises(JobTimeout):
                job.get(timeout=TIMEOUT_S)
            assert time.monotonic() - started < TIMEOUT_S + LATE_S
        finally:
            os.kill(redis.pid, signal.SIGCONT)
