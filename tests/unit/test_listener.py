"""How Redis notifies a caller of a job's end, and how a caller waits without Redis."""

from __future__ import annotations

import socket
import time

from celery import Celery

from devstack import Redis
from fanout.engines.celery.listener import ANSWER_S, RedisListener, listener_for
from tests.traces import wait_until


def app_on(backend: str) -> Celery:
    return Celery("listening", broker="memory://", backend=backend, set_as_current=False)


def test_the_listener_returns_when_redis_announces_the_result(redis_server: Redis) -> None:
    """Only the announcement ends the wait early. The listener's connection is closed afterwards."""
    app = app_on(redis_server.url)
    backend = app.backend
    with listener_for(app, "job-of-the-listener") as listener:
        assert isinstance(listener, RedisListener)
        started_at = time.monotonic()
        listener.wait(0.2)
        assert time.monotonic() - started_at >= 0.2
        before = len(backend.client.client_list())
        backend.client.publish(backend.get_key_for_task("job-of-the-listener"), "ended")
        listener.wait(60)
        assert time.monotonic() - started_at < 30
    wait_until(lambda: len(backend.client.client_list()) == before - 1, "Redis has seen the connection close")
    app.close()


def test_a_silent_redis_costs_one_second() -> None:
    """If Redis accepts connections and does not answer, the listener gives up after a second, and only waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        app = app_on(f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        started_at = time.monotonic()
        with listener_for(app, "job") as listener:
            assert not listener.notifies
        assert time.monotonic() - started_at < ANSWER_S + 3
        app.close()
