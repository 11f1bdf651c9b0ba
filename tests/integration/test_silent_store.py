"""Callers' time limits while the store hangs, trickles, refuses connections or does not exist."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery

import fanout
from fanout import JobTimeout
from storage import StorageUnavailable, deadline
from tests.storage.silent_servers import behaving, silent, trickling, trickling_body

from ..tasks import SumTask

TIMEOUT_S = 1.5
LATE_S = 4.0
"""Longest delay of a busy machine. A call without a limit takes far longer."""


@contextmanager
def refusing() -> Iterator[str]:
    """Yield a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
    yield host


STORES: dict[str, Callable[[], Any]] = {
    "hangs": lambda: behaving(silent),
    "one byte at a time": lambda: behaving(trickling),
    "a body that never ends": lambda: behaving(trickling_body),
    "refuses": refusing,
    "has no name": lambda: nullcontext("nowhere.invalid:9000"),
}


@pytest.fixture
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, call_s=TIMEOUT_S, answer_s=0.5, reach_s=1.0))
    with (
        STORES[request.param]() as host,
        Celery("silent-store", broker="memory://", set_as_current=False) as app,
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{host}")
        fanout.connect(app, store="s3://bucket/jobs")
        yield app


@pytest.mark.parametrize("app", STORES, indirect=True)
def test_get_and_submit_end_in_time(app: Celery) -> None:
    """`get` ends by its timeout and `submit` by the limit of a call, with an error that names the store."""
    for call, errors in (
        (lambda: fanout.attach("some-job", app=app).get(timeout=TIMEOUT_S), (JobTimeout, StorageUnavailable)),
        (lambda: SumTask.submit({"numbers": [1, 2]}, app=app), StorageUnavailable),
        (lambda: SumTask.submit({"numbers": iter([1, 2])}, app=app), StorageUnavailable),
    ):
        started_at = time.monotonic()
        with pytest.raises(errors):
            call()  # type: ignore[no-untyped-call]
        # The first call also imports the clients and creates them.
        assert time.monotonic() - started_at < 2 * TIMEOUT_S + LATE_S
