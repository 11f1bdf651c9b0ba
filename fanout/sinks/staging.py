"""The place of a sink: where objects are staged out of readers' sight, and how they are published."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .written import StagedObject

MANIFEST = "_manifest.json"
"""The write-once object that names what a commit publishes."""

SUCCESS = "_SUCCESS"
"""The object that says that all of the manifest's objects are there."""

FAILED = "_failed.jsonl"
"""The object that lists the failed items of a job that tolerates failures, one JSON object a line."""

STAGED = "_fanout"
"""The folder, below a sink's, of staged files, or of notes that say which launch has begun an upload."""

BLOCK_BYTES = 8 * 2**20
"""Size of the blocks in which an object is written. A bucket takes 10,000 of them for one object."""


class StagedWrite(Protocol):
    """One object that is being written."""

    def add(self, block: bytes | bytearray) -> None:
        """Write a block: of `BLOCK_BYTES`, or less if it is the last one. One request on S3."""

    def finish(self) -> tuple[str, tuple[str, ...]]:
        """Return the id of the upload and the entity tags of its parts."""

    def abort(self) -> None:
        """Remove what was written. One request on S3."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """An object that was staged, and may be one that no commit names.

    Attributes:
        name: Its name, relative to the sink's URL; "" if the place does not know it.
        id: The id of its upload, or the token of its file; see `StagedObject.id`.
        path: Its path below the sink's directory; "" for an upload.
        started_at: When it was begun, or last written.
    """

    name: str
    id: str
    path: str
    started_at: datetime


class Staging(Protocol):
    """The place of one sink. Safe for threads.

    Attributes:
        url: URL of the sink.
    """

    url: str

    def begin(self, name: str, token: str, launch_id: str) -> StagedWrite:
        """Begin an object that no reader sees. One request on S3.

        Args:
            name: Its name, relative to the sink's URL.
            token: The name of this act of writing.
            launch_id: The launch that writes.
        """

    def publish(self, staged: StagedObject, launch_id: str) -> None:
        """Let readers see an object, whole. Idempotent, also between processes. One request on S3.

        Raises:
            UploadGone: It is not there any more.
        """

    def find_visible(self) -> str | None:
        """Return the name of one object that readers see, if there is any. One request on S3."""

    def get(self, name: str) -> bytes | None:
        """Return the body of a published object; None if there is none. One request on S3."""

    def put(self, name: str, body: bytes) -> None:
        """Write an object that readers see at once. One request on S3."""

    def put_once(self, name: str, body: bytes) -> bytes | None:
        """Write an object once and for all; see `storage.put_once`.

        Returns:
            None if the object holds `body`; otherwise the bytes of the existing object.
        """

    def list_staged(self) -> Iterator[Orphan]:
        """Yield the objects that are staged and not published. One request per 1,000 on S3."""

    def find_own(self, launch_id: str) -> Callable[[Orphan], bool]:
        """Return a test that says whether a launch has staged an object.

        No request, except on S3 one per 1,000 notes of the launch, at the first object whose name does not tell it.
        """

    def check_names(self, names: Collection[str]) -> None:
        """Check that objects of all of these names can be there at once. No request.

        Raises:
            InvalidKey: They can't.
        """

    def remove(self, orphan: Orphan) -> None:
        """Remove a staged object. Idempotent. One request on S3."""

    def tidy(self) -> None:
        """Remove what staging has needed and needs no more.

        On S3 one request, and if there are notes one per 1,000 uploads and two per 1,000 notes.
        """


def names_launch(name: str, launch_id: str) -> bool:
    """Return whether the name of an object says that a launch has written it, as the names do that fanout makes."""
    own = rf"(?:.*/)?part-(?:\d+|join)-\d+-{re.escape(launch_id)}(?:[-.].*)?"
    return re.fullmatch(own, name) is not None
