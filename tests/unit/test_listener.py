"""How a caller learns of a job's end from Redis, and what it does when Redis is no help."""

from __future__ import annotations

import socket
import time

from celery import Celery

from devstack import Redis
from fanout.engines.celery.listener import ANSWER_S, RedisListener, listener_for


def app_on(backend: str) -> Celery:
    return Celery("belled", broker="memory://", backend=backend, set_as_current=False)


def test_it_rings_when_redis_announces_the_result(redis_server: Redis) -> None:
    """Nothing but the announcement ends the wait early, and the bell's connection is closed with it."""
    app = app_on(redis_server.url)
    backend = app.backend
    with listener_for(app, "job-of-the-bell") as listener:
        assert isinstance(listener, RedisListener)
        started_at = time.monotonic()
        listener.wait(0.2)
        assert time.monotonic() - started_at >= 0.2
        before = len(backend.client.client_list())
        backend.client.publish(backend.get_key_for_task("job-of-the-bell"), "ended")
        listener.wait(60)
        assert time.monotonic() - started_at < 30
    assert len(backend.client.client_list()) == before - 1
    app.close()


def test_a_silent_redis_holds_nobody_up() -> None:
    """A result backend that accepts connections and says nothing costs a second, and then nothing but time passes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        app = app_on(f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        started_at = time.monotonic()
        with listener_for(app, "job") as listener:
            assert not listener.notifies
        assert time.monotonic() - started_at < ANSWER_S + 3
        app.close()
