"""Faults injected inside a worker: kill points around its calls, and duplicated or expiring messages."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from celery import Celery
from celery.app.amqp import AMQP

from fanout.engines.celery.extension import Extension
from fanout.external.access import Access
from fanout.external.location import Location
from fanout.records.chunk_ref import ChunkRef
from fanout.runtime import Runtime
from storage import ObjectInfo, ObjectStore, UnfinishedUpload, UploadStore
from tests.stores import InterceptedStore

from .kill_point import die_if_armed, find_point, find_sink_point

T = TypeVar("T")


class KillPointStore(InterceptedStore):
    """A store that forwards to another one, with kill points around the calls."""

    def __init__(self, store: ObjectStore, kill_points: Path) -> None:
        super().__init__(store)
        self._kill_points = kill_points

    def intercept(self, verb: str, key: str, request: Callable[[], T]) -> T:
        if verb == "put":
            self._step("before", verb, key)
        response = request()
        if verb in ("put", "get"):
            self._step("after", verb, key)
        return response

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        yield from self.inner.list(prefix, start_after=start_after)
        self._step("after", "list", prefix)

    def delete(self, keys: Iterable[str]) -> None:
        self.inner.delete(keys)

    def _step(self, when: str, verb: str, key: str) -> None:
        point = find_point(verb, key)
        if point is not None:
            job_id, name, indices = point
            die_if_armed(self._kill_points, job_id, name, when, *indices)


class KillPointUploads(InterceptedStore, UploadStore):
    """A bucket for the objects of sinks that forwards to another one, with kill points around the calls."""

    inner: UploadStore

    def __init__(self, uploads: UploadStore, kill_points: Path) -> None:
        super().__init__(uploads)
        self._kill_points = kill_points

    def intercept(self, verb: str, key: str, request: Callable[[], T]) -> T:
        point = (
            find_sink_point(verb, key) if verb in ("put", "start_upload", "upload_part", "complete_upload") else None
        )
        if point is None:
            return request()
        job_id, name, indices = point
        die_if_armed(self._kill_points, job_id, name, "before", *indices)
        response = request()
        die_if_armed(self._kill_points, job_id, name, "after", *indices)
        return response

    def start_upload(self, key: str, *, token: str) -> str:
        return self.intercept("start_upload", key, lambda: self.inner.start_upload(key, token=token))

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray) -> str:
        return self.intercept("upload_part", key, lambda: self.inner.upload_part(key, upload_id, number, body))

    def complete_upload(self, key: str, upload_id: str, entity_tags: Sequence[str], *, token: str) -> None:
        self.intercept(
            "complete_upload", key, lambda: self.inner.complete_upload(key, upload_id, entity_tags, token=token)
        )

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.inner.abort_upload(key, upload_id)

    def list_uploads(self, prefix: str = "") -> Iterator[UnfinishedUpload]:
        return self.inner.list_uploads(prefix)


@dataclass(frozen=True)
class KillPointAccess(Access):
    """The access of a worker that dies at kill points around its calls for the objects of sinks."""

    kill_points: Path = Path()

    def open_uploads(self, location: Location, *, endpoint: str | None = None) -> UploadStore:
        return KillPointUploads(super().open_uploads(location, endpoint=endpoint), self.kill_points)


class FaultInjectingExtension(Extension):
    """fanout's part of an app whose workers die at kill points."""

    def __init__(self, app: Celery, kill_points: Path) -> None:
        super().__init__(app)
        self._kill_points = kill_points

    @property
    def runtime(self) -> Runtime:
        runtime = super().runtime
        if not isinstance(runtime.store, KillPointStore):
            runtime.store = KillPointStore(runtime.store, self._kill_points)
            access = runtime.access
            runtime.access = KillPointAccess(
                access.source_roots, access.sink_roots, access.servers, kill_points=self._kill_points
            )
        return runtime


class FaultInjectingAMQP(AMQP):
    """Celery's publishing, with kill points around each message, and with faults that files in `switches` turn on.

    `copies`: every task message is sent twice, a tenth of them five times.
    `ttl`: the messages of process steps expire after that number of seconds.
    """

    switches: Path
    kill_points: Path | None

    def _create_task_sender(self) -> Callable[..., Any]:
        send = super()._create_task_sender()

        def send_task_message(producer: Any, name: str, message: Any, **options: Any) -> Any:
            if name.endswith(".process") and (self.switches / "ttl").exists():
                options["expiration"] = float((self.switches / "ttl").read_text())
            self._step("before", name, message)
            sent = send(producer, name, message, **options)
            for _ in range(1, self._copies(message.headers["id"])):
                # Use another channel: the publisher of this one counts the confirms of its own messages only.
                with self.app.producer_pool.acquire(block=True) as another:
                    send(another, name, message, **options)
            self._step("after", name, message)
            return sent

        return send_task_message

    def _step(self, when: str, name: str, message: Any) -> None:
        args = message.body[0]
        if self.kill_points is None:
            return
        if name.endswith(".setup"):
            die_if_armed(self.kill_points, message.headers["id"], "setup sent", when)
        elif name.endswith(".process"):
            ref = ChunkRef.from_row(args)
            die_if_armed(self.kill_points, ref.job_id, "chunk ref sent", when, *ref.chunks)
        elif name.endswith(".join"):
            die_if_armed(self.kill_points, args[0], "join sent", when)

    def _copies(self, task_id: str) -> int:
        if not (self.switches / "copies").exists():
            return 1
        return 5 if zlib.crc32(task_id.encode()) % 10 == 0 else 2
