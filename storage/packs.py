"""Packs: objects that hold consecutive chunks, so that many small chunks cost few requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from dataclasses import dataclass
from mmap import mmap
from types import TracebackType
from typing import Final, Self

from .errors import CorruptObject
from .hashing import checksum
from .object_store import Body, Content, ObjectStore

READ_AHEAD_BYTES: Final = 64 * 1024
"""What `PackReader` reads at once of a pack of small slices."""

PACK_BYTES: Final = 8 * 2**20
UPLOADS: Final = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """Where a chunk lies.

    Attributes:
        pack: Number of the pack, counted from 0.
        offset: First byte of the chunk in the pack.
        length: Bytes of the chunk.
        digest: What `checksum` gives for the chunk.
    """

    pack: int
    offset: int
    length: int
    digest: str


class PackWriter:
    """Writes chunks, in order, into packs that are uploaded in the background.

    Memory: `pack_bytes` × (`uploads` + 1) plus the chunk being appended, whatever the number of chunks
    (a chunk larger than `pack_bytes` counts in its place).
    Requests: one put per pack. Packs are plain puts, so their keys must be this writer's own.

    Use it as a context manager: when the block fails, uploads that have not begun are dropped, those
    that have are waited for, and no thread stays behind. When it ends well, the rest is uploaded and
    waited for; what `close` would have returned is left to `stored`. Not for use from several threads.

    Args:
        store: Where the packs go.
        key: Number of a pack to its key.
        pack_bytes: A pack is uploaded when it reaches this size, or when the next chunk would exceed it.
        uploads: How many uploads may run at once.
        first_bytes: Size of the first pack, which is uploaded alone; each of the next is twice as large, up to
            `pack_bytes`. So whoever reads the chunks can begin before much was made. `pack_bytes` if not given.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: Callable[[int], str],
        *,
        pack_bytes: int = PACK_BYTES,
        uploads: int = UPLOADS,
        first_bytes: int | None = None,
    ) -> None:
        self._leads = first_bytes is not None
        first_bytes = pack_bytes if first_bytes is None else min(first_bytes, pack_bytes)
        if first_bytes < 1 or uploads < 1:
            raise ValueError(f"pack_bytes and uploads must be positive, not {first_bytes} and {uploads}")
        self._store = store
        self._key = key
        self._pack_bytes = first_bytes
        self._largest_bytes = pack_bytes
        self._uploads = uploads
        self._pool = ThreadPoolExecutor(uploads, thread_name_prefix="pack-upload")
        self._pack = 0
        self._buffers = _Buffers(pack_bytes)
        self._buffer: mmap | None = None
        self._filled = 0
        self._slices: list[Slice] = []
        # In order of the packs; a pack leaves it once its slices have been handed out.
        self._begun: deque[tuple[Future[None], list[Slice]]] = deque()
        self._failure: BaseException | None = None
        self._closed = False

    def append(self, chunk: bytes | memoryview) -> None:
        """Add a chunk to the current pack; blocks while a pack is full and all uploads are under way.

        A memoryview is copied; bytes that fill a pack of their own are not.

        Raises:
            ValueError: The writer is closed.
            StorageError: An upload has failed; the writer is of no further use.
        """
        if self._closed:
            raise ValueError("this PackWriter is closed: make another one")
        self._raise_failure()
        if self._buffer is not None and self._filled + len(chunk) > self._pack_bytes:
            self.flush()
        self._slices.append(Slice(self._pack, self._filled, len(chunk), checksum(chunk)))
        if self._buffer is None and len(chunk) >= self._pack_bytes:
            self._begin_upload(bytes(chunk))
            return
        if self._buffer is None:
            self._buffer = self._buffers.take()
        self._buffer[self._filled : self._filled + len(chunk)] = chunk
        self._filled += len(chunk)
        if self._filled >= self._pack_bytes:
            self.flush()

    def flush(self) -> None:
        """Begin the upload of what was appended since the last pack, if anything; blocks as `append` does.

        Raises:
            StorageError: An upload has failed.
        """
        self._raise_failure()
        if self._buffer is not None:
            buffer = self._buffer
            # The buffer itself is handed over, not a copy: that is what keeps the memory bound.
            upload = self._begin_upload(memoryview(buffer)[: self._filled])
            self._buffers.give_back(buffer, after=upload)
            self._buffer, self._filled = None, 0

    def _begin_upload(self, body: Body) -> Future[None]:
        """Begin to upload what is the current pack, and begin the next one."""
        running = {upload for upload, _ in self._begun if not upload.done()}
        at_once = 1 if self._leads and self._pack == 1 else self._uploads
        while len(running) >= at_once:
            # no limit: each upload ends with the limits of the store
            running = wait(running, return_when=FIRST_COMPLETED).not_done
        self._raise_failure()
        # In this thread's context, for the limit that a caller may have set.
        upload = self._pool.submit(copy_context().run, self._store.put, self._key(self._pack), body)
        self._begun.append((upload, self._slices))
        self._pack += 1
        self._pack_bytes = min(2 * self._pack_bytes, self._largest_bytes)
        self._slices = []
        return upload

    def stored(self) -> list[Slice]:
        """Return the slices that became durable since the last call, in the order of their chunks.

        Does not block. A slice is never returned before one that was appended earlier.

        Raises:
            StorageError: An upload has failed.
        """
        self._raise_failure()
        slices: list[Slice] = []
        while self._begun and self._begun[0][0].done() and not self._begun[0][0].cancelled():
            slices += self._begun.popleft()[1]
        return slices

    def close(self) -> list[Slice]:
        """Upload the rest, wait for everything, and return the slices not returned before.

        Afterwards every appended chunk is durable. Closing again returns an empty list.

        Raises:
            StorageError: An upload has failed. No upload is running any more.
        """
        self._finish()
        return self.stored()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._stop()
        else:
            self._finish()

    def _finish(self) -> None:
        try:
            if not self._closed:
                self.flush()
                # no limit: each upload ends with the limits of the store
                wait([upload for upload, _ in self._begun])
        finally:
            self._stop()
        self._raise_failure()

    def _stop(self) -> None:
        self._closed = True
        # no limit: each upload ends with the limits of the store
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _raise_failure(self) -> None:
        if self._failure is None:
            ended = (upload for upload, _ in self._begun if upload.done() and not upload.cancelled())
            # no limit: only uploads that are done are asked
            self._failure = next((error for upload in ended if (error := upload.exception())), None)
        if self._failure is not None:
            raise self._failure


class _Buffers:
    """Buffers that are used again once their upload has ended.

    Mapped, not allocated: what an allocator keeps of buffers of several MB that come and go in turn, in as many threads
    as upload, is more than they are. A page that is not written takes no memory.

    Args:
        size: Bytes of each.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[mmap] = []
        self._lent: list[tuple[Future[None], mmap]] = []

    def take(self) -> mmap:
        """Return a buffer that nobody reads any more."""
        lent, self._lent = self._lent, []
        for upload, buffer in lent:
            # Asked once: an upload that ended between two questions would take its buffer along.
            if not upload.done():
                self._lent.append((upload, buffer))
            # no limit: it is done
            elif not upload.cancelled() and upload.exception() is None:
                self._free.append(buffer)
            # Else it is dropped: a client that was left without an answer may still be sending it.
        return self._free.pop() if self._free else mmap(-1, self._size)

    def give_back(self, buffer: mmap, *, after: Future[None]) -> None:
        """Take a buffer back, which may be used again after the upload."""
        self._lent.append((after, buffer))


class PackReader:
    """Reads slices, and where they are small the neighbours of a slice along with it.

    To ask for 64 KiB costs little more than to ask for 20 bytes, and whoever works on one small chunk of a pack will
    probably be given others of it. Memory: 64 KiB, plus the slice. Safe to use from several threads.

    Args:
        store: Where the packs lie.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # Key, offset and content of what was read ahead last; replaced as a whole, so that no lock is needed.
        self._ahead: tuple[str, int, Content] = ("", 0, b"")

    def read(self, key: str, piece: Slice) -> Content:
        """Return one chunk out of a pack; one ranged request, or none.

        Args:
            key: The key of the pack.
            piece: Where in the pack the chunk lies.

        Raises:
            ObjectNotFound: The pack is missing.
            CorruptObject: What lies there is not the chunk; the error names the key and the range.
        """
        chunk = self._read(key, piece.offset, piece.length)
        if len(chunk) == piece.length and checksum(chunk) == piece.digest:
            return chunk
        # Who tries again shall not be given the same bytes.
        self._ahead = ("", 0, b"")
        place = f"bytes {piece.offset} to {piece.offset + piece.length} of {key!r} in {self._store.url}"
        if len(chunk) != piece.length:
            raise CorruptObject(f"{place} are cut short: {len(chunk)} of {piece.length} bytes are there", key=key)
        raise CorruptObject(f"{place} are not what was written: the digest differs", key=key)

    def _read(self, key: str, offset: int, length: int) -> Content:
        if length > READ_AHEAD_BYTES // 2:
            return self._store.get(key, offset=offset, length=length)
        known, start, content = self._ahead
        if known != key or not start <= offset <= offset + length <= start + len(content):
            start, content = offset, self._store.get(key, offset=offset, length=READ_AHEAD_BYTES)
            self._ahead = (key, start, content)
        return content[offset - start : offset - start + length]
