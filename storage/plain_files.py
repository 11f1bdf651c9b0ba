"""Files of this machine as other programs write them, with an entity tag made of length and time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from .errors import ObjectChanged, ObjectNotFound, from_os_error
from .object_store import Bucket, TaggedObject

_PAGE: Final = 1000


class PlainFiles(Bucket):
    """Files, whose keys are their absolute paths without the "/" at the beginning. Safe for threads.

    An entity tag is a file's length and time of modification in nanoseconds. Programs that write a file twice within
    the clock tick of the file system, to the same length, leave the tag as it was.

    A listing does not follow links to directories, and holds the names of one directory at a time.
    """

    url = "file://"

    def head(self, key: str) -> TaggedObject:
        with self._translate("looking up", key):
            status = os.stat(_path(key))
        if not stat.S_ISREG(status.st_mode):
            raise ObjectNotFound(f"looking up {key!r} in {self.url}: it is no regular file", key=key)
        return TaggedObject(key, *_look(status))

    def list(self, folder: str = "", *, after: str = "") -> Iterator[list[TaggedObject]]:
        page: list[TaggedObject] = []
        with self._translate("listing", folder):
            for key in _walk(folder):
                if key <= after:
                    continue
                try:
                    page.append(TaggedObject(key, *_look(os.stat(_path(key)))))
                except FileNotFoundError:
                    # deleted since, or a link to nothing
                    continue
                if len(page) == _PAGE:
                    yield page
                    page = []
        if page:
            yield page

    def read(self, key: str, start: int, end: int, *, tag: str | None = None) -> bytes:
        if end <= start:
            return b""
        with self._translate("reading", key), open(_path(key), "rb", buffering=0) as file:
            body = _read(file.fileno(), start, end)
            found = _look(os.fstat(file.fileno()))[1]
        # After the read, so that a write that came between listing and reading is seen.
        if tag is not None and found != tag:
            raise ObjectChanged(f"reading {key!r} in {self.url}: its length and time are {found}, not {tag}", key=key)
        if len(body) != end - start:
            raise ObjectChanged(f"reading {key!r} in {self.url}: it ends before byte {end:,}", key=key)
        return body

    @contextmanager
    def _translate(self, doing: str, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
                raise ObjectNotFound(f"{doing} {key!r} in {self.url}: {error.strerror}", key=key) from error
            raise from_os_error(error, key) from error


def _path(key: str) -> str:
    return f"/{key}"


def _look(status: os.stat_result) -> tuple[int, str]:
    return status.st_size, f"{status.st_size}-{status.st_mtime_ns}"


def _read(descriptor: int, start: int, end: int) -> bytes:
    """Return a range of a file, or less if the file ends before."""
    blocks: list[bytes] = []
    while start < end and (block := os.pread(descriptor, end - start, start)):
        blocks.append(block)
        start += len(block)
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def _walk(folder: str) -> Iterator[str]:
    """Yield the keys of the files below a folder, in UTF-8 byte order."""
    with os.scandir(_path(folder)) as entries:
        # A directory comes where its keys come: behind "a.txt", as "a/" does.
        names = sorted(
            (
                entry.name + "/" * entry.is_dir(follow_symlinks=False)
                for entry in entries
                if entry.is_dir(follow_symlinks=False) or entry.is_file()
            ),
            key=os.fsencode,
        )
    start = f"{folder}/" if folder else ""
    for name in names:
        if name.endswith("/"):
            yield from _walk(start + name[:-1])
        else:
            yield start + name
