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
from .object_store import Body, Content, ObjectStore, check_room

READ_AHEAD_BYTES: Final = 64 * 1024
"""Bytes that `PackReader` reads at once from a pack of small slices."""

PACK_BYTES: Final = 8 * 2**20
UPLOAD_CONCURRENCY: Final = 4


@dataclass(frozen=True, slots=True)
class Slice:
    """Location of a chunk in a pack.

    Attributes:
        pack: Number of the pack, counted from 0.
        offset: First byte of the chunk in the pack.
        length: Bytes of the chunk.
        digest: The `checksum` of the chunk.
    """

    pack: int
    offset: int
    length: int
    digest: str


class PackWriter:
    """Writes chunks, in order, into packs that are uploaded in the background.

    Memory: `pack_bytes` × (`upload_concurrency` + 1) plus the chunk being appended, whatever the number of chunks.
    A chunk larger than `pack_bytes` counts instead of its pack.
    Requests: one put per pack. Packs are plain puts, so their keys must be this writer's own.

    Use it as a context manager. When the block fails, the writer drops uploads that have not begun, waits for those
    that have, and leaves no thread behind. When the block ends well, the writer uploads the rest and waits; the slices
    that `close` would have returned are left to `stored`. Not for use from several threads.

    Args:
        store: Where the packs go.
        key: Returns the key of a pack, given its number.
        pack_bytes: A pack is uploaded when it reaches this size, or when the next chunk would exceed it.
        upload_concurrency: How many uploads may run at once.
        first_bytes: Size of the first pack, which is uploaded alone. Each next pack is twice as large, up to
            `pack_bytes`, so that the first chunks can be read early. The default is `pack_bytes`.
    """

    def __init__(
        self,
        store: ObjectStore,
        key: Callable[[int], str],
        *,
        pack_bytes: int = PACK_BYTES,
        upload_concurrency: int = UPLOAD_CONCURRENCY,
        first_bytes: int | None = None,
    ) -> None:
        self._starts_alone = first_bytes is not None
        first_bytes = pack_bytes if first_bytes is None else min(first_bytes, pack_bytes)
        if first_bytes < 1 or upload_concurrency < 1:
            raise ValueError(
                f"pack_bytes and upload_concurrency must be positive, not {first_bytes} and {upload_concurrency}"
            )
        self._store = store
        self._key = key
        self._pack_bytes = first_bytes
        self._largest_bytes = pack_bytes
        self._upload_concurrency = upload_concurrency
        self._pool = ThreadPoolExecutor(upload_concurrency, thread_name_prefix="pack-upload")
        self._pack = 0
        self._buffers = _Buffers(pack_bytes)
        self._buffer: mmap | None = None
        self._filled = 0
        self._slices: list[Slice] = []
        # In order of the packs. A pack is removed once its slices have been returned.
        self._begun: deque[tuple[Future[None], list[Slice]]] = deque()
        self._failure: BaseException | None = None
        self._closed = False

    def append(self, chunk: bytes | memoryview) -> None:
        """Add a chunk to the current pack; blocks while a pack is full and all uploads are under way.

        A memoryview is copied. Bytes that fill a pack of their own are not.

        Raises:
            ValueError: The writer is closed.
            StorageError: An upload has failed. The writer is of no further use.
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
        """Begin to upload the chunks appended since the last pack, if any; blocks as `append` does.

        Raises:
            StorageError: An upload has failed.
        """
        self._raise_failure()
        if self._buffer is not None:
            buffer = self._buffer
            # The upload gets the buffer itself, not a copy, to keep the memory bound.
            upload = self._begin_upload(memoryview(buffer)[: self._filled])
            self._buffers.release(buffer, after=upload)
            self._buffer, self._filled = None, 0

    def _begin_upload(self, body: Body) -> Future[None]:
        """Begin to upload the current pack, and begin the next one."""
        running = {upload for upload, _ in self._begun if not upload.done()}
        at_once = 1 if self._starts_alone and self._pack == 1 else self._upload_concurrency
        while len(running) >= at_once:
            # no limit: each upload ends with the limits of the store
            running = wait(running, return_when=FIRST_COMPLETED).not_done
        self._raise_failure()
        # In this thread's context, which holds the limit that a caller may have set.
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
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
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

    They are mapped, not allocated. An allocator keeps more than is in use when buffers of several MB come and go in
    several threads. A page that is not written takes no memory.

    Args:
        size: Bytes of each buffer.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._free: list[mmap] = []
        self._in_use: list[tuple[Future[None], mmap]] = []

    def take(self) -> mmap:
        """Return a buffer that no upload reads any more."""
        in_use, self._in_use = self._in_use, []
        for upload, buffer in in_use:
            # Checked once per upload: one that ended between two checks would lose its buffer.
            if not upload.done():
                self._in_use.append((upload, buffer))
            # no limit: it is done
            elif not upload.cancelled() and upload.exception() is None:
                self._free.append(buffer)
            # Else drop it: a client that got no answer may still be sending it.
        return self._free.pop() if self._free else mmap(-1, self._size)

    def release(self, buffer: mmap, *, after: Future[None]) -> None:
        """Return a buffer, which may be used again after the upload."""
        self._in_use.append((after, buffer))


class PackReader:
    """Reads slices, and along with a small slice the slices next to it.

    A request for 64 KiB costs little more than one for 20 bytes, and a worker with one small chunk of a pack will
    probably get others of it. Memory: 64 KiB, plus the slice. Safe for use from several threads.

    Args:
        store: Where the packs are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        # Key, offset and content of the last read-ahead; replaced as a whole, so that no lock is needed.
        self._read_ahead: tuple[str, int, Content] = ("", 0, b"")
        # Key and offset of a read-ahead under way, and a function that returns its content.
        self._under_way: tuple[str, int, Callable[[], Content]] | None = None

    def begin(self, key: str, location: Slice, begin: Callable[[Callable[[], Content]], Callable[[], Content]]) -> None:
        """Begin the request that `read` makes for a small slice. A large slice is left to `read`.

        Args:
            key: The key of the pack.
            location: Where in the pack the chunk is.
            begin: Begins a request in another thread, and returns a function that returns its answer.
        """
        if location.length <= READ_AHEAD_BYTES // 2:
            self._under_way = (key, location.offset, begin(lambda: self._fetch_ahead(key, location.offset)))

    def read(self, key: str, location: Slice) -> Content:
        """Return one chunk of a pack; one ranged request, or none.

        Args:
            key: The key of the pack.
            location: Where in the pack the chunk is.

        Raises:
            ObjectNotFound: The pack is missing.
            CorruptObject: The bytes there are not the chunk. The error names the key and the range.
        """
        chunk = self._read(key, location.offset, location.length)
        if len(chunk) == location.length and checksum(chunk) == location.digest:
            return chunk
        # A caller that tries again must not get the same bytes.
        self._read_ahead = ("", 0, b"")
        where = f"bytes {location.offset} to {location.offset + location.length} of {key!r} in {self._store.url}"
        if len(chunk) != location.length:
            raise CorruptObject(f"{where} are cut short: {len(chunk)} of {location.length} bytes are there", key=key)
        raise CorruptObject(f"{where} are not what was written: the digest differs", key=key)

    def _read(self, key: str, offset: int, length: int) -> Content:
        if length > READ_AHEAD_BYTES // 2:
            check_room(length, key=key)
            return self._store.get(key, offset=offset, length=length)
        read_key, start, content = self._read_ahead
        if read_key != key or not start <= offset <= offset + length <= start + len(content):
            start, content = offset, self._take_begun(key, offset)
            self._read_ahead = (key, start, content)
        return content[offset - start : offset - start + length]

    def _take_begun(self, key: str, offset: int) -> Content:
        """Return the content from an offset on, of the request that was begun for it or of a new one."""
        under_way = self._under_way
        if under_way is None or under_way[:2] != (key, offset):
            return self._fetch_ahead(key, offset)
        self._under_way = None
        return under_way[2]()

    def _fetch_ahead(self, key: str, offset: int) -> Content:
        return self._store.get(key, offset=offset, length=READ_AHEAD_BYTES)
