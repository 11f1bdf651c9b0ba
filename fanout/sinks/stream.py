"""Objects of a sink while they are written: block by block, with their digest and their number of rows."""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from storage import Digester, StorageError

from ..records.ids import new_token
from .staging import BLOCK_BYTES, StagedWrite, Staging
from .written import StagedObject, check_name

_LOG = logging.getLogger(__name__)

OpenObject = Callable[[str], "ObjectStream"]
"""Opens one more object, in a folder of the sink; "" for the sink's own."""


class RowFlaw(ValueError):
    """A row does not fit the format. The text says which, and what is wrong."""


class ObjectStream(io.RawIOBase):
    """A file for writing whose content becomes one object. Holds less than a block and the last bytes given.

    Args:
        name: Name of the object.
        token: Name of this act of writing.
        staged: Where the blocks go.

    Attributes:
        rows: Number of rows, which the writer of a format counts.
    """

    def __init__(self, name: str, token: str, staged: StagedWrite) -> None:
        super().__init__()
        self.rows = 0
        self._name = name
        self._token = token
        self._staged = staged
        self._buffer = bytearray()
        self._digester = Digester()
        self._size_bytes = 0
        self._is_over = False

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._size_bytes

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        # The writer of a format may write its end when it is collected.
        if self._is_over or not view.nbytes:
            return view.nbytes
        self._digester.update(view)
        self._size_bytes += view.nbytes
        for start in range(0, view.nbytes, BLOCK_BYTES):
            self._buffer += view[start : start + BLOCK_BYTES]
            if len(self._buffer) >= BLOCK_BYTES:
                block = self._buffer
                self._buffer = block[BLOCK_BYTES:]
                del block[BLOCK_BYTES:]
                self._staged.add(block)
        return view.nbytes

    def finish(self) -> StagedObject:
        """Write the rest, and return the object."""
        self._is_over = True
        if self._buffer:
            self._staged.add(self._buffer)
        self._buffer = bytearray()
        upload_id, entity_tags = self._staged.finish()
        return StagedObject(
            self._name, self.rows, self._size_bytes, self._digester.hexdigest(), self._token, upload_id, entity_tags
        )

    def abort(self) -> None:
        """Remove what was written, as far as the place lets it; a commit removes the rest."""
        self._is_over = True
        self._buffer = bytearray()
        try:
            self._staged.abort()
        except (StorageError, OSError) as error:
            _LOG.info("%s is left to the commit to remove: %s", self._name, error)


class ObjectBatch:
    """The objects of one call of `write`: all of them are staged, or none is.

    Args:
        staging: Where they go.
        launch_id: The launch that writes.
        stem: Their name, without folder and suffix.
        suffix: The end of their names.
    """

    def __init__(self, staging: Staging, launch_id: str, stem: str, suffix: str) -> None:
        self._staging = staging
        self._launch_id = launch_id
        self._stem = stem
        self._suffix = suffix
        self._open: list[ObjectStream] = []
        self._folders: Counter[str] = Counter()
        self.objects: list[StagedObject] = []

    def open(self, folder: str) -> ObjectStream:
        """Open one more object. One request on S3."""
        again = f"-{self._folders[folder]}" if self._folders[folder] else ""
        self._folders[folder] += 1
        name = check_name(f"{folder}/{self._stem}{again}{self._suffix}" if folder else f"{self._stem}{self._suffix}")
        token = new_token()
        stream = ObjectStream(name, token, self._staging.begin(name, token, self._launch_id))
        self._open.append(stream)
        return stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.objects = [stream.finish() for stream in self._open]
        except BaseException:
            self._abort()
            raise
        if error is not None:
            self._abort()

    def _abort(self) -> None:
        for stream in self._open:
            stream.abort()
