"""A store in a directory of this machine, for a laptop or a shared file system.

Layout: every segment of a key is percent-quoted, and the last one gets the suffix '@', which quoting never produces. So
no object is mistaken for a directory, keys `a` and `a/b` can both exist, and the files of this module cannot collide
with any key:

    a/b c  ->  <root>/a/b%20c@        being written  ->  <root>/@partial/…
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

from .errors import (
    ConditionalWriteUnsupported,
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    StorageError,
    StorageUnavailable,
    from_os_error,
)
from .keys import check_key, check_range
from .object_store import Body, ObjectInfo, ObjectStore, check_room

_SUFFIX = "@"
_PARTIAL = "@partial"
_MAX_NAME_BYTES = 255
# Attempts of a put whose directory a concurrent delete removes. Each further attempt needs a new race.
_PUT_ATTEMPTS = 100
_NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


class FileStore(ObjectStore):
    """Objects as files under one directory; several processes may use it at once.

    A put is atomic towards other processes and survives the death of this one. It is not flushed to the disk, so a
    power cut can lose it. Segments longer than 254 bytes when quoted are refused.

    A write-once put rests on `link`, which refuses an existing name, and any other put on `rename`. Processes of
    several machines may share the directory if their file system does both atomically between machines, and shows each
    file to all of them as soon as it is linked. NFS does that only where its clients cache no attributes and names.

    Args:
        root: An absolute directory, made at the first put.
    """

    is_local = True

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = Path(root).absolute()
        self.url = f"file://{quote(str(self._root), safe='/~')}"

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        target = self._path(key)
        with _translate_errors(key):
            for attempt in range(1, _PUT_ATTEMPTS + 1):
                try:
                    self._put(key, target, body, if_absent=if_absent)
                    return
                except StorageError:
                    raise
                except (FileNotFoundError, FileExistsError) as error:
                    # A delete removed the directory before it was used, or while mkdir, which had met it, checked that
                    # it is one.
                    if attempt == _PUT_ATTEMPTS:
                        raise StorageUnavailable(
                            f"the directory for {key!r} in {self.url} cannot be made", key=key
                        ) from error

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        path = self._path(key)
        try:
            with _translate_errors(key), path.open("rb") as file:
                # A read of n bytes allocates n bytes first, so ask for no more than the file has.
                available = max(os.fstat(file.fileno()).st_size - offset, 0)
                if not available:
                    return b""
                check_room(available if length is None else min(length, available), key=key)
                file.seek(offset)
                return file.read(available if length is None else min(length, available))
        except FileNotFoundError:
            raise self._not_found(key) from None

    def head(self, key: str) -> ObjectInfo:
        path = self._path(key)
        try:
            with _translate_errors(key):
                return _object_info(key, path.stat())
        except FileNotFoundError:
            raise self._not_found(key) from None

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        # Start in the deepest directory that all wanted keys share.
        above = prefix.rpartition("/")[0]
        if above:
            try:
                check_key(above)
            except InvalidKey:
                return
        with _translate_errors(prefix):
            yield from self._walk(above + "/" if above else "", prefix, start_after)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            path = self._path(key)
            with _translate_errors(key):
                path.unlink(missing_ok=True)
                self._prune(path.parent)

    def _put(self, key: str, target: Path, body: Body, *, if_absent: bool) -> None:
        with self._partial(body) as partial:
            target.parent.mkdir(parents=True, exist_ok=True)
            if not if_absent:
                os.replace(partial, target)
                return
            try:
                os.link(partial, target)
            except FileExistsError:
                raise ObjectExists(f"an object exists at {key!r} in {self.url} already", key=key) from None
            except OSError as error:
                if error.errno in _NO_HARD_LINKS:
                    raise ConditionalWriteUnsupported(
                        f"the file system of {self.url} has no hard links", key=key
                    ) from error
                raise

    @contextmanager
    def _partial(self, body: Body) -> Iterator[Path]:
        folder = self._root / _PARTIAL
        folder.mkdir(parents=True, exist_ok=True)
        # Not tempfile: its files are private to one user, and workers may run as several.
        partial = folder / uuid4().hex
        try:
            with partial.open("xb") as file:
                file.write(body)
            yield partial
        finally:
            partial.unlink(missing_ok=True)

    def _walk(self, folder: str, prefix: str, start_after: str) -> Iterator[ObjectInfo]:
        """Yield the objects below a folder ("" or "a/b/"), reading one directory at a time."""
        for entry, is_folder in self._entries(folder):
            if is_folder:
                wanted = entry.startswith(prefix) or prefix.startswith(entry)
                passed = start_after > entry and not start_after.startswith(entry)
                if wanted and not passed:
                    yield from self._walk(entry, prefix, start_after)
            elif entry.startswith(prefix) and entry > start_after:
                try:
                    info = _object_info(entry, self._path(entry).stat())
                except FileNotFoundError:
                    continue
                yield info

    def _entries(self, folder: str) -> Sequence[tuple[str, bool]]:
        """Return the keys and sub-folders directly in a folder, in the order of their keys."""
        entries = []
        try:
            names = os.listdir(self._root.joinpath(*map(_quote_segment, folder.split("/")[:-1])))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return []
            raise
        for name in names:
            if name.endswith(_SUFFIX):
                entries.append((folder + unquote(name.removesuffix(_SUFFIX)), False))
            elif _SUFFIX not in name:
                # The '/' is part of the comparison: `a!` comes before `a/b`, and `a0` after it.
                entries.append((f"{folder}{unquote(name)}/", True))
        return sorted(entries)

    def _prune(self, folder: Path) -> None:
        """Remove directories that have become empty, up to the root; rmdir never removes a full one."""
        while folder != self._root and self._root in folder.parents:
            try:
                folder.rmdir()
            except FileNotFoundError:
                pass
            except OSError:
                return
            folder = folder.parent

    def _path(self, key: str) -> Path:
        *folders, name = map(_quote_segment, check_key(key).split("/"))
        longest = max(len(part) for part in (*folders, name + _SUFFIX))
        if longest > _MAX_NAME_BYTES:
            raise InvalidKey(
                f"the key {key[:200]!a} has a segment that needs {longest} bytes as a file name",
                key=key,
                remedy=f"A file name has {_MAX_NAME_BYTES} bytes at most: use shorter segments here.",
            )
        return self._root.joinpath(*folders, name + _SUFFIX)

    def _not_found(self, key: str) -> ObjectNotFound:
        return ObjectNotFound(f"no object exists at {key!r} in {self.url}", key=key)


def _quote_segment(segment: str) -> str:
    return quote(segment, safe="")


def _object_info(key: str, status: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


@contextmanager
def _translate_errors(key: str) -> Iterator[None]:
    """Turn errors of the operating system into errors of this package, except for a missing file."""
    try:
        yield
    except (FileNotFoundError, StorageError):
        raise
    except OSError as error:
        raise from_os_error(error, key) from error
