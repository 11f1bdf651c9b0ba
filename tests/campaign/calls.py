"""What the callbacks of the jobs were told, consumed here and by no worker, so that no kill can lose or repeat it."""

from __future__ import annotations

import threading
from collections import defaultdict
from types import TracebackType
from typing import Any, Self

from celery import Celery
from kombu import Connection
from kombu.mixins import ConsumerMixin

TASK = "campaign.told"


class Calls(ConsumerMixin):  # type: ignore[misc]
    """Consumes the callbacks' queue in a thread; survives a broker that goes and comes back.

    Args:
        app: Any app on the broker; its queues say how the queue is declared.
        broker: URL of the broker itself, with no proxy before it.
        queue: Name of the queue.
    """

    def __init__(self, app: Celery, broker: str, queue: str) -> None:
        self.connection = Connection(broker, heartbeat=10)
        self.queue = queue
        self._declared = app.amqp.queues[queue]
        self._told: dict[str, dict[str, Any]] = defaultdict(dict)
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self.run, name="calls", daemon=True)

    def signature(self, app: Celery, job_id: str) -> Any:
        """The callback of a job."""
        return app.signature(TASK, kwargs={"job_id": job_id}, queue=self.queue)

    def of(self, job_id: str) -> list[Any]:
        """What the job's callback was told, once for each time that it was sent.

        A message that the broker delivered more than once counts once: it has the same id.
        """
        with self._lock:
            return list(self._told[job_id].values())

    def get_consumers(self, consumer: Any, channel: Any) -> list[Any]:
        return [consumer([self._declared], callbacks=[self._note], accept=["json"])]

    def _note(self, body: Any, message: Any) -> None:
        (value, *_), options, _ = body
        with self._lock:
            self._told[options["job_id"]][message.headers["id"]] = value
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
