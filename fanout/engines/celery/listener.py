"""A caller's wait for a job: the result backend notifies the caller if it can, and a wait within a task is refused."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty
from typing import Any

from celery import Celery
from celery._state import task_join_will_block  # type: ignore[attr-defined]
from celery.backends.base import DisabledBackend

from ...abc import CompletionListener, PollingOnly
from ...logs import fields_of

_LOG = logging.getLogger(__name__)

ANSWER_S = 1.0
"""Longest time for an answer of Redis when a caller begins to listen. Celery's backend waits for minutes."""


FORGET_S = 2.0
"""Longest time that a removal waits for the result backend."""


MOST_ANNOUNCED = 20
"""Most messages that a removal reads from the connection to Redis. Each costs some 50 microseconds."""


class RedisListener:
    """A listener that returns when Redis announces the result of join's Celery task, stored after the job's outcome.

    It subscribes to a Redis channel. Other processes that wait for the result still get it.

    Args:
        backend: The app's result backend.
        job_id: The job id, which is also join's Celery task id.
    """

    notifies = True

    def __init__(self, backend: Any, job_id: str) -> None:
        self._client = _make_client(backend.client)
        self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
        try:
            self._pubsub.subscribe(backend.get_key_for_task(job_id))
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float) -> None:
        """Return at the announcement, or after `timeout_s` if there is none or Redis is lost."""
        ends_at = time.monotonic() + timeout_s
        try:
            while (left_s := ends_at - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=left_s) is not None:
                    return
        except Exception as error:
            # The listener only saves time: the caller asks the store all the same.
            _LOG.debug("the result backend no longer notifies of a job's end: %s", error)
            time.sleep(max(0.0, ends_at - time.monotonic()))

    def close(self) -> None:
        """Close the connection."""
        self._pubsub.close()
        self._client.close()


def _make_client(client: Any) -> Any:
    """Return a client of the same server, with a connection of its own that gives up soon."""
    from redis.backoff import NoBackoff
    from redis.connection import ConnectionPool
    from redis.retry import Retry

    pool = client.connection_pool
    options = {**pool.connection_kwargs, "socket_timeout": ANSWER_S, "socket_connect_timeout": ANSWER_S}
    options["retry"] = Retry(NoBackoff(), 0)
    # Sentinel's pools need two more arguments to find their server.
    sentinel = {name: getattr(pool, name) for name in ("service_name", "sentinel_manager") if hasattr(pool, name)}
    pool_class: Any = type(pool) if sentinel else ConnectionPool
    own_pool = pool_class(*sentinel.values(), connection_class=pool.connection_class, **options)
    own = type(client)(connection_pool=own_pool)
    own.auto_close_connection_pool = True
    return own


def forget_result(app: Celery, job_id: str) -> None:
    """Have the result backend forget the result of a removed job, whose id may be used again.

    A backend stores nothing over a success, so the next job of that id would seem to have the first one's value. The
    same holds for a result that Redis has announced, and that no one has read from the connection so far. Waits for the
    backend for two seconds at most.
    """

    def forget() -> None:
        try:
            _drop_announced(backend, job_id)
            backend.forget(job_id)
        except Exception as error:
            _LOG.debug("the result backend did not forget job %s: %s", job_id, error, extra=fields_of(job_id))

    # The backend of this thread: each has one, with results that it waits for.
    backend: Any = app.backend
    if isinstance(backend, DisabledBackend):
        return
    thread = threading.Thread(target=forget, name="fanout-forget", daemon=True)
    thread.start()
    thread.join(FORGET_S)


def _drop_announced(backend: Any, job_id: str) -> None:
    """Drop what Redis has announced of a job, and give results of other tasks to those who wait for them."""
    consumer: Any = getattr(backend, "result_consumer", None)
    # Without this lock, which Celery 5.7 has, another thread may be reading.
    if not hasattr(consumer, "_pubsub_lock"):
        return
    for _ in range(MOST_ANNOUNCED):
        consumer.drain_events(timeout=0)
    with suppress(Empty):
        while True:
            backend._pending_messages.take(job_id)


def refuse_to_block(job_id: str) -> None:
    """Refuse to wait for a job where Celery refuses to wait for a result: within a task, unless that was allowed.

    Raises:
        RuntimeError: Says what to do instead.
    """
    if task_join_will_block():
        raise RuntimeError(
            f"never wait for a job within a task (job {job_id}): it keeps a slot of the worker that the job may need, "
            "and both may wait for ever. Have Celery call the next task with the job's value: "
            "chain(Task.signature(…), then.s()); or read job.ready without waiting. If other workers run the job: "
            "with celery.result.allow_join_result(): …"
        )


def _is_redis(backend: object) -> bool:
    """Return whether a backend is Celery's for Redis. By name, since importing it needs the package redis."""
    return any(base.__module__ == "celery.backends.redis" for base in type(backend).__mro__)


@contextmanager
def listener_for(app: Celery, job_id: str) -> Iterator[CompletionListener]:
    """Yield a listener that returns at the job's end if the app's result backend can notify; else one that polls."""
    listener = None
    try:
        if _is_redis(app.backend):
            listener = RedisListener(app.backend, job_id)
    except Exception as error:
        _LOG.debug("the result backend does not notify of a job's end: %s", error)
    try:
        yield listener or PollingOnly()
    finally:
        if listener is not None:
            listener.close()
