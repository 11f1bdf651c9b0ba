"""Results that Celery's backend has for a removed job, whose id is used again."""

from __future__ import annotations

import pytest
from celery import Celery
from celery.exceptions import TimeoutError as NoResult
from celery.result import AsyncResult

from devstack import Redis
from fanout.engines.celery.listener import forget_result


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # Celery's own
def test_a_result_that_redis_has_announced_is_forgotten(redis_server: Redis) -> None:
    """An `AsyncResult` of the id's next use does not get the value of the use before, which its caller never read."""
    with Celery("reused", broker="memory://", backend=redis_server.url, set_as_current=False) as app:
        first = AsyncResult("reused-id", app=app)
        app.backend.add_pending_result(first)
        app.backend.store_result("reused-id", "old", "SUCCESS")
        assert first.get(timeout=10) == "old"
        forget_result(app, "reused-id")
        second = AsyncResult("reused-id", app=app)
        with pytest.raises(NoResult):
            second.get(timeout=0.5)
        # Celery waits for a result until it is forgotten.
        second.forget()
