"""What a configuration is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import fanout

QUEUE = "storm"
STALL_S = 3.0
DEAD_BROKER = "amqp://guest:guest@127.0.0.1:1//"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings that users have together, and what they reach Celery by.

    Attributes:
        name: For `--config`.
        why: A sentence that says who has it, for the table.
        settings: Of Celery, for workers and caller.
        caller_settings: Of Celery, for the caller alone.
        recommended: Whether the app has `fanout.RECOMMENDED` below its own settings.
        style: How the settings reach the app: `app.conf.update`, a settings module with a namespace as in Django
            (the store is set there, too), or a Flask application whose context is put around each task.
        broker: The transport; `dead-first` is a list of two brokers, the first of which does not answer.
        backend: The result backend.
        pool: Of the workers.
        queues: The queues that the workers are told to take from; those that the settings name if empty.
        args: More options of `celery worker`.
        active: What the caller does with its app: makes it the current one, the default one, or neither.
        other_app: A second app in the caller's process.
        caller: What the cases run in: the main thread, a thread of a pool, gunicorn's `gthread`, a thread of uvicorn's
            event loop (`asyncio.to_thread`), or that loop itself.
        own: Cases of its own, which show that the setting is in force.
        without: Cases that make no sense here, each with the reason.
    """

    name: str
    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    caller_settings: Mapping[str, Any] = field(default_factory=dict)
    recommended: bool = True
    style: Literal["update", "namespace", "flask"] = "update"
    broker: Literal["rabbitmq", "dead-first", "redis"] = "rabbitmq"
    backend: Literal["redis", "rpc", "file", "none"] = "redis"
    pool: str = "prefork"
    queues: str = ""
    args: tuple[str, ...] = ("--without-gossip", "--without-mingle")
    active: Literal["current", "default", "neither"] = "current"
    other_app: Literal["", "unconnected", "connected"] = ""
    caller: Literal["main", "threads", "gthread", "asyncio", "loop"] = "main"
    own: tuple[str, ...] = ()
    without: Mapping[str, str] = field(default_factory=dict)

    @property
    def on_rabbitmq(self) -> bool:
        return self.broker != "redis"

    def celery_settings(self, *, broker: str, backend: str, caller: bool) -> dict[str, Any]:
        """Everything that the app of a worker or of the caller is configured with.

        Args:
            broker: URL of the broker.
            backend: URL of the result backend; empty for none.
            caller: Whether it is for the caller.
        """
        return {
            **(fanout.RECOMMENDED if self.recommended else {}),
            "broker_url": [DEAD_BROKER, broker] if self.broker == "dead-first" else broker,
            "result_backend": backend or None,
            "broker_connection_retry_on_startup": True,
            "task_default_queue": QUEUE,
            # The death of a child is noticed at once; by default a worker waits for 10 s.
            "worker_lost_wait": 0.5,
            **self.settings,
            **(self.caller_settings if caller else {}),
        }
