"""What is done to a worker from inside: it steps on traps around its calls, and sends its messages more than once."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP

from fanout.engines.celery.extension import Extension
from fanout.records.chunk_ref import ChunkRef
from fanout.runtime import Runtime
from storage import ObjectInfo, ObjectStore
from storage.object_store import Body

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


class SabotagedExtension(Extension):
    """fanout's part of an app whose workers are to die at given places."""

    def __init__(self, app: Celery, traps: Path) -> None:
        super().__init__(app)
        self._traps = traps

    @property
    def runtime(self) -> Runtime:
        runtime = super().runtime
        if not isinstance(runtime.store, TrappedStore):
            runtime.store = TrappedStore(runtime.store, self._traps)
        return runtime


class SabotagedAMQP(AMQP):
    """Publishes as ever, unless a file in `switches` says otherwise; steps on the traps around each message.

    `copies`: every task message goes out twice, a tenth of them five times.
    `ttl`: the messages of process steps expire after so many seconds.
    """

    switches: Path
    traps: Path | None

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if name.endswith(".process") and (self.switches / "ttl").exists():
                options["expiration"] = float((self.switches / "ttl").read_text())
            self._step("before", name, message)
            sent = send(producer, name, message, **options)
            for _ in range(1, self._copies(message.headers["id"])):
                # Over another channel: whoever counts confirmations on this one counts its own messages only.
                with self.app.producer_pool.acquire(block=True) as another:
                    send(another, name, message, **options)
            self._step("after", name, message)
            return sent

        return send_task_message

    def _step(self, when: str, name: str, message: Any) -> None:
        args = message.body[0]
        if self.traps is None:
            return
        if name.endswith(".setup"):
            step_on(self.traps, message.headers["id"], "setup sent", when)
        elif name.endswith(".process"):
            ref = ChunkRef.from_row(args)
            step_on(self.traps, ref.job_id, "handle sent", when, ref.chunk)
        elif name.endswith(".join"):
            step_on(self.traps, args[0], "join sent", when)

    def _copies(self, task_id: str) -> int:
        if not (self.switches / "copies").exists():
            return 1
        return 5 if zlib.crc32(task_id.encode()) % 10 == 0 else 2
