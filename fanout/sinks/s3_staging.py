"""Sinks in a bucket: an object is staged as an upload, and appears when a commit completes the upload.

The listing of uploads tells their keys and ids, and nothing of the launch. The names that fanout makes tell it. An
object with a name of its own has a note, `_fanout/<launch id>.<digest of the upload's id>`, written before its bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from threading import BoundedSemaphore

from storage import ObjectNotFound, UploadStore, digest, put_once

from .staging import BLOCK_BYTES, STAGED, Orphan, names_launch
from .written import StagedObject

MAX_PARTS = 10_000
"""S3's limit for the parts of one object."""

_NOTE = re.compile(r"[A-Za-z0-9._-]+\.[0-9a-f]{32}")

_BLOCKS_AT_ONCE = 4
"""Blocks that one call of `write` uploads at the same time. Each is held until it is uploaded."""


class S3Staging:
    """A sink in a bucket.

    Args:
        url: URL of the sink.
        folder: Its folder in the bucket; "" for the whole bucket.
        store: The bucket.
    """

    def __init__(self, url: str, folder: str, store: UploadStore) -> None:
        self.url = url
        self._prefix = f"{folder}/" if folder else ""
        self._store = store
        self._slots = BoundedSemaphore(_BLOCKS_AT_ONCE)

    def begin(self, name: str, token: str, launch_id: str) -> _Upload:
        key = self._prefix + name
        upload_id = self._store.start_upload(key, token=token)
        if not names_launch(name, launch_id):
            note = json.dumps({"name": name, "upload_id": upload_id}).encode()
            try:
                self._store.put(f"{self._prefix}{STAGED}/{launch_id}.{_digest_id(upload_id)}", note)
            except BaseException:
                self._store.abort_upload(key, upload_id)
                raise
        return _Upload(self._store, key, upload_id, self._slots)

    def publish(self, staged: StagedObject, launch_id: str) -> None:
        key = self._prefix + staged.name
        self._store.complete_upload(key, staged.upload_id, staged.entity_tags, token=staged.token)

    def find_visible(self) -> str | None:
        # "0" is the character after "/": there may be many notes.
        for after in ("", f"{self._prefix}{STAGED}0"):
            for info in self._store.list(self._prefix, start_after=after):
                name = info.key.removeprefix(self._prefix)
                if name.startswith(f"{STAGED}/"):
                    break
                if name and not name.startswith("_"):
                    return name
            else:
                break
        return None

    def get(self, name: str) -> bytes | None:
        try:
            return bytes(self._store.get(self._prefix + name))
        except ObjectNotFound:
            return None

    def put(self, name: str, body: bytes) -> None:
        self._store.put(self._prefix + name, body)

    def put_once(self, name: str, body: bytes) -> bytes | None:
        existing = put_once(self._store, self._prefix + name, body)
        return None if existing is None else bytes(existing)

    def list_staged(self) -> Iterator[Orphan]:
        for upload in self._store.list_uploads(self._prefix):
            yield Orphan(upload.key.removeprefix(self._prefix), upload.upload_id, "", upload.started_at)

    def check_names(self, names: Collection[str]) -> None:
        return

    def find_own(self, launch_id: str) -> Callable[[Orphan], bool]:
        noted: set[str] | None = None

        def is_own(orphan: Orphan) -> bool:
            nonlocal noted
            if names_launch(orphan.name, launch_id):
                return True
            if noted is None:
                noted = {note.rpartition(".")[2] for note in self._list_notes(f"{launch_id}.")}
            return _digest_id(orphan.id) in noted

        return is_own

    def remove(self, orphan: Orphan) -> None:
        self._store.abort_upload(self._prefix + orphan.name, orphan.id)

    def tidy(self) -> None:
        # Uploads are listed after notes. So the upload of a note that is not listed is over.
        notes = self._list_notes()
        if not notes:
            return
        going_on = {_digest_id(orphan.id) for orphan in self.list_staged()}
        over = [note for note in notes if note.rpartition(".")[2] not in going_on]
        self._store.delete([f"{self._prefix}{STAGED}/{note}" for note in over])

    def _list_notes(self, launch: str = "") -> list[str]:
        folder = f"{self._prefix}{STAGED}/"
        names = (info.key.removeprefix(folder) for info in self._store.list(folder + launch))
        return [name for name in names if _NOTE.fullmatch(name)]


def _digest_id(upload_id: str) -> str:
    """Return a short name for an upload's id, which may be longer than a key."""
    return digest(upload_id.encode())


class _Upload:
    """One upload that is being written: full blocks in threads, while the writer makes the next."""

    def __init__(self, store: UploadStore, key: str, upload_id: str, slots: BoundedSemaphore) -> None:
        self._store = store
        self._key = key
        self._id = upload_id
        self._slots = slots
        self._pool: ThreadPoolExecutor | None = None
        self._parts: list[Future[str]] = []

    def add(self, block: bytes | bytearray) -> None:
        number = len(self._parts) + 1
        if number > MAX_PARTS:
            raise ValueError(
                f"{self._key!r} has more than {MAX_PARTS * BLOCK_BYTES // 2**30} GiB, which is more than one upload "
                "takes: call write several times, each with a part of the rows"
            )
        if len(block) < BLOCK_BYTES and self._pool is None:
            # The only block: a thread would cost more than it gains.
            only: Future[str] = Future()
            only.set_result(self._store.upload_part(self._key, self._id, number, block))
            self._parts.append(only)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_BLOCKS_AT_ONCE, thread_name_prefix="fanout-sink")
        # no limit: it is done
        failed = next((part for part in self._parts[-_BLOCKS_AT_ONCE:] if part.done() and part.exception()), None)
        if failed is not None:
            # no limit: it is done
            failed.result()
        # no limit: each upload of a block ends with the limits of the store
        self._slots.acquire()
        try:
            part = self._pool.submit(copy_context().run, self._store.upload_part, self._key, self._id, number, block)
        except BaseException:
            self._slots.release()
            raise
        part.add_done_callback(lambda _: self._slots.release())
        self._parts.append(part)

    def finish(self) -> tuple[str, tuple[str, ...]]:
        if not self._parts:
            # An upload has at least one part.
            self.add(b"")
        # no limit: each upload of a block ends with the limits of the store
        entity_tags = tuple(part.result() for part in self._parts)
        self._close()
        return self._id, entity_tags

    def abort(self) -> None:
        self._close()
        self._store.abort_upload(self._key, self._id)

    def _close(self) -> None:
        if self._pool is not None:
            # no limit: each upload of a block ends with the limits of the store
            self._pool.shutdown(cancel_futures=True)
