"""The class of a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import fanout

Transport = Literal["rabbitmq", "dead-first", "redis", "sqs"]
Backend = Literal["redis", "rpc", "file", "database", "none"]
QUEUE = "storm"
STALL_S = 3.0
DEAD_BROKER = "amqp://guest:guest@127.0.0.1:1//"


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """Settings that users combine, and the way that they run Celery.

    Attributes:
        name: Name for `--config`.
        why: A sentence on the users who have it, for the table.
        settings: Celery's settings for workers and caller.
        caller_settings: Celery's settings for the caller alone.
        recommended: Whether `fanout.RECOMMENDED` is applied before the settings.
        style: How the settings reach the app: `app.conf.update`, a settings module with a namespace as in Django
            (which also names the store), or a Flask application whose context is entered around each task.
        broker: The transport. `dead-first` is a list of two brokers, of which the first does not respond.
        backend: The result backend.
        pool: The workers' pool.
        queues: The option `--queues` of the workers. If empty, they consume the queues of the settings.
        args: Further options of `celery worker`.
        active: Whether the caller makes its app the current one, the default one, or neither.
        other_app: A second app in the caller's process.
        caller: The thread in which the cases run: the main thread, a thread of a pool, gunicorn's `gthread`, a thread
            of uvicorn's event loop (`asyncio.to_thread`), or that loop itself.
        own: Further cases, which show that the settings take effect.
        without: Cases that do not apply, each with the reason.
    """

    name: str
    why: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    caller_settings: Mapping[str, Any] = field(default_factory=dict)
    recommended: bool = True
    style: Literal["update", "namespace", "flask"] = "update"
    broker: Transport = "rabbitmq"
    backend: Backend = "redis"
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
        return self.broker in ("rabbitmq", "dead-first")

    def celery_settings(self, *, broker: str, backend: str, caller: bool) -> dict[str, Any]:
        """Return all settings of a worker's app or of the caller's.

        Args:
            broker: URL of the broker.
            backend: URL of the result backend. Empty for none.
            caller: Whether the app is the caller's.
        """
        return {
            **(fanout.RECOMMENDED if self.recommended else {}),
            "broker_url": [DEAD_BROKER, broker] if self.broker == "dead-first" else broker,
            "result_backend": backend or None,
            "broker_connection_retry_on_startup": True,
            "task_default_queue": QUEUE,
            # A worker then reports a child's death at once. Its default is to wait for 10 s.
            "worker_lost_wait": 0.5,
            **self.settings,
            **(self.caller_settings if caller else {}),
        }
