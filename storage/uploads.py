"""Uploads that one process begins and another one completes: an object appears when its upload is completed."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from .object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class UnfinishedUpload:
    """An upload that is neither completed nor aborted.

    Attributes:
        key: The key of the object that it would make.
        upload_id: Its id.
        started_at: When it was started, by the store's clock.
    """

    key: str
    upload_id: str
    started_at: datetime


class UploadStore(ObjectStore):
    """Objects, and the uploads that will become such objects.

    An upload may be completed twice, by two processes or by one that lost the answer. So each has a token, which its
    object carries: a process that finds the upload gone looks whether the object has the token.
    """

    @abc.abstractmethod
    def start_upload(self, key: str, *, token: str) -> str:
        """Start an upload and return its id. One request. A repeated request leaves an upload without parts.

        Args:
            key: Key of the object.
            token: Name of the upload, which no other upload has.
        """

    @abc.abstractmethod
    def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray) -> str:
        """Upload a part and return its entity tag, without quotes. One request; idempotent.

        Args:
            key: Key of the object.
            upload_id: The upload.
            number: Number of the part, from 1 to 10,000.
            body: At least 5 MiB, unless it is the last part.

        Raises:
            UploadGone: The upload was aborted.
        """

    @abc.abstractmethod
    def complete_upload(self, key: str, upload_id: str, entity_tags: Sequence[str], *, token: str) -> None:
        """Let the object of an upload appear. Idempotent, also between processes. One request, or two at a repetition.

        Args:
            key: Key of the object.
            upload_id: The upload.
            entity_tags: Those of its parts, in order.
            token: The name that it was started with.

        Raises:
            UploadGone: The upload was aborted.
        """

    @abc.abstractmethod
    def abort_upload(self, key: str, upload_id: str) -> None:
        """Give up an upload, and free the space of its parts. One request; idempotent."""

    @abc.abstractmethod
    def list_uploads(self, prefix: str = "") -> Iterator[UnfinishedUpload]:
        """Yield the uploads below a prefix that are neither completed nor aborted. One request per 1,000."""
