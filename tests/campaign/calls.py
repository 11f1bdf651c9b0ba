"""The callback messages of the jobs, consumed in the campaign's process, so that no kill can lose or repeat one."""

from __future__ import annotations

import threading
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu import Connection
from kombu.mixins import ConsumerMixin

TASK = "campaign.callback"


class Calls(ConsumerMixin):  # type: ignore[misc]
    """A consumer of the callbacks' queue, in a thread. It survives restarts of the broker.

    Args:
        app: An app on the broker. Its settings decide how the queue is declared.
        broker: URL of the broker itself, not of the proxy.
        queue: Name of the queue.
    """

    def __init__(self, app: Celery, broker: str, queue: str) -> None:
        self.connection = Connection(broker, heartbeat=10)
        self.queue = queue
        self._declared = app.amqp.queues[queue]
        self._received: dict[str, dict[str, Any]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.run, name="calls", daemon=True)

    def signature(self, app: Celery, job_id: str) -> Any:
        """Return the signature of a job's callback."""
        return app.signature(TASK, kwargs={"job_id": job_id}, queue=self.queue)

    def received(self, job_id: str) -> list[Any]:
        """Return the values with which the job's callback was called, one for each message that was sent.

        A message that the broker delivered more than once counts once, because its id is the same.
        """
        with self._lock:
            return list(self._received[job_id].values())

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer([self._declared], callbacks=[self._note], accept=["json"])]

    def _note(self, body: Any, message: Any) -> None:
        (value, *_), options, _ = body
        with self._lock:
            self._received[options["job_id"]][message.headers["id"]] = value
        message.ack()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.should_stop = True
        self._thread.join(10)
        self.connection.release()
