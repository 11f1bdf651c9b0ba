"""What is done to a worker from inside: its store and carrier step on traps, its messages go out more than once."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP

from fanout.engines.celery.extension import Extension
from fanout.handle import Handle
from fanout.records import Intent
from fanout.runtime import Carrier, Runtime
from storage import ObjectInfo, ObjectStore
from storage.store import Body

from .trap import point_of, step_on


class TrappedStore(ObjectStore):
    """Passes everything on to another store, and steps on the traps that lie around its calls."""

    def __init__(self, store: ObjectStore, traps: Path) -> None:
        self.url = store.url
        self._store = store
        self._traps = traps

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self._step("before", "put", key)
        self._store.put(key, body, if_absent=if_absent)
        self._step("after", "put", key)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        body = self._store.get(key, offset=offset, length=length)
        self._step("after", "get", key)
        return body

    def head(self, key: str) -> ObjectInfo:
        return self._store.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from self._store.list(prefix, start_after=start_after)
        self._step("after", "list", prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)

    def _step(self, when: str, verb: str, key: str) -> None:
        found = point_of(verb, key)
        if found is not None:
            job_id, point, indices = found
            step_on(self._traps, job_id, point, when, *indices)


class TrappedCarrier:
    """Passes every message on to another carrier, and steps on the traps that lie around its calls."""

    def __init__(self, carrier: Carrier, traps: Path) -> None:
        self._carrier = carrier
        self._traps = traps

    def send_setup(self, job_id: str, intent: Intent) -> None:
        self._carrier.send_setup(job_id, intent)

    def send_chunks(self, task: str, handles: Sequence[Handle]) -> None:
        # One by one, so that a worker can die between two of them.
        for handle in handles:
            step_on(self._traps, handle.job_id, "handles sent", "before", handle.chunk)
            self._carrier.send_chunks(task, [handle])
            step_on(self._traps, handle.job_id, "handles sent", "after", handle.chunk)

    def send_join(self, job_id: str, task: str, continuation: str | None, *, again: bool) -> None:
        step_on(self._traps, job_id, "join sent", "before")
        self._carrier.send_join(job_id, task, continuation, again=again)
        step_on(self._traps, job_id, "join sent", "after")


class SabotagedExtension(Extension):
    """fanout's part of an app whose workers are to die at given places."""

    def __init__(self, app: Celery, traps: Path) -> None:
        super().__init__(app)
        self._traps = traps

    @property
    def runtime(self) -> Runtime:
        runtime = super().runtime
        if not isinstance(runtime.store, TrappedStore):
            runtime.carrier = TrappedCarrier(runtime.carrier, self._traps)
            runtime.store = TrappedStore(runtime.store, self._traps)
        return runtime


class SabotagedAMQP(AMQP):
    """Publishes as ever, unless a file in `switches` says otherwise; steps on the traps around a setup's message.

    `copies`: every task message goes out twice, a tenth of them five times.
    `ttl`: the messages of process steps expire after so many seconds.
    """

    switches: Path
    traps: Path | None

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            task_id = message.headers["id"]
            is_setup = name.endswith(".setup")
            if is_setup and self.traps is not None:
                step_on(self.traps, task_id, "setup sent", "before")
            if (self.switches / "ttl").exists() and name.endswith(".process"):
                options["expiration"] = float((self.switches / "ttl").read_text())
            for _ in range(self._copies(task_id)):
                sent = send(producer, name, message, **options)
            if is_setup and self.traps is not None:
                step_on(self.traps, task_id, "setup sent", "after")
            return sent

        return send_task_message

    def _copies(self, task_id: str) -> int:
        if not (self.switches / "copies").exists():
            return 1
        return 5 if zlib.crc32(task_id.encode()) % 10 == 0 else 2
