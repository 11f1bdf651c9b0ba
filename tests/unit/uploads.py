"""A bucket in memory whose uploads one process begins and another one completes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from storage import UnfinishedUpload, UploadGone, UploadStore
from tests.stores import ScriptedStore


@dataclass
class Upload:
    """An upload that is neither completed nor aborted."""

    key: str
    token: str
    parts: dict[int, bytes] = field(default_factory=dict)


class ScriptedUploads(ScriptedStore, UploadStore):
    """A `ScriptedStore` with uploads.

    Attributes:
        uploads: The unfinished uploads by id.
        age: How long ago each was started.
    """

    def __init__(self) -> None:
        super().__init__()
        self.uploads: dict[str, Upload] = {}
        self.upload_age = timedelta()
        self._tokens: dict[str, str] = {}
        self._ids = count(1)

    def start_upload(self, key: str, *, token: str) -> str:
        self._note("start_upload", key)
        upload_id = f"upload-{next(self._ids)}"
        self.uploads[upload_id] = Upload(key, token)
        return upload_id

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray) -> str:
        self._note("upload_part", key)
        self._find(upload_id, key).parts[number] = bytes(body)
        return f"tag-{number}"

    def complete_upload(self, key: str, upload_id: str, entity_tags: Sequence[str], *, token: str) -> None:
        self._note("complete_upload", key)
        if upload_id not in self.uploads and self._tokens.get(key) == token:
            return
        upload = self._find(upload_id, key)
        assert [f"tag-{number}" for number in sorted(upload.parts)] == list(entity_tags)
        self.inner.put(key, b"".join(upload.parts[number] for number in sorted(upload.parts)))
        self._tokens[key] = upload.token
        self.uploads.pop(upload_id, None)

    def abort_upload(self, key: str, upload_id: str) -> None:
        self._note("abort_upload", key)
        self.uploads.pop(upload_id, None)

    def list_uploads(self, prefix: str = "") -> Iterator[UnfinishedUpload]:
        self._note("list_uploads", prefix)
        for upload_id, upload in list(self.uploads.items()):
            if upload.key.startswith(prefix):
                yield UnfinishedUpload(upload.key, upload_id, datetime.now(UTC) - self.upload_age)

    def _note(self, verb: str, key: str) -> None:
        self.intercept(verb, key, lambda: None)

    def _find(self, upload_id: str, key: str) -> Upload:
        if upload_id not in self.uploads:
            raise UploadGone(f"the upload of {key!r} was aborted", key=key)
        return self.uploads[upload_id]
