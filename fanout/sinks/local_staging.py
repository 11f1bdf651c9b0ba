"""Sinks in a directory: an object is staged under `_fanout/`, and a commit moves it to its place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from storage import Digester, InvalidKey, StorageError, UploadGone, from_os_error

from ..records.ids import new_token
from .staging import STAGED, Orphan
from .written import StagedObject

_BLOCK_BYTES: Final = 2**20
_SEGMENT_BYTES: Final = 255
_FILE: Final = re.compile(r"(.+)\.([0-9a-f]{16})")


class LocalStaging:
    """A sink in a directory of this machine, or of a file system that all workers share.

    A file survives the death of the process that wrote it. It is not flushed to the disk, so a power cut can lose it.

    Args:
        url: URL of the sink.
        root: Its directory, made at the first write.
        check: Raises if a path is not allowed. Called before anything is written there.
    """

    def __init__(self, url: str, root: Path, check: Callable[[Path], None]) -> None:
        self.url = url
        self._root = root
        self._check = check

    def begin(self, name: str, token: str, launch_id: str) -> _File:
        path = self._staged(token, launch_id)
        with _translate(path):
            self._check(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            return _File(path)

    def publish(self, staged: StagedObject, launch_id: str) -> None:
        target, source = self._root / staged.name, self._staged(staged.token, launch_id)
        self._check(target)
        with _translate(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.replace(source, target)
            except FileNotFoundError:
                # Another join, or an earlier run of this one, has moved it.
                if not self._holds(target, staged):
                    raise UploadGone(
                        f"the file for {staged.name!r} in {self.url} was removed before it was published",
                        key=staged.name,
                    ) from None

    def find_visible(self) -> str | None:
        try:
            return next((name for name in sorted(os.listdir(self._root)) if not name.startswith(("_", "."))), None)
        except FileNotFoundError:
            return None

    def get(self, name: str) -> bytes | None:
        with _translate(self._root / name):
            try:
                return (self._root / name).read_bytes()
            except FileNotFoundError:
                return None

    def put(self, name: str, body: bytes) -> None:
        with self._written(name, body) as path:
            os.replace(path, self._root / name)

    def put_once(self, name: str, body: bytes) -> bytes | None:
        with self._written(name, body) as path:
            try:
                os.link(path, self._root / name)
            except FileExistsError:
                existing = (self._root / name).read_bytes()
                return None if existing == body else existing
        return None

    def list_staged(self) -> Iterator[Orphan]:
        folder = self._root / STAGED
        with suppress(FileNotFoundError):
            for entry in sorted(os.listdir(folder)):
                known = _FILE.fullmatch(entry)
                if known is None:
                    continue
                with suppress(FileNotFoundError):
                    written_at = datetime.fromtimestamp((folder / entry).stat().st_mtime, UTC)
                    yield Orphan("", known[2], f"{STAGED}/{entry}", written_at)

    def check_names(self, names: Collection[str]) -> None:
        for name in names:
            folders = (name[:at] for at, character in enumerate(name) if character == "/")
            folder = next((each for each in folders if each in names), None)
            if folder is not None:
                raise InvalidKey(
                    f"{self.url} can't hold both {folder!r} and {name!r}",
                    key=name,
                    remedy="Give no object the name of a folder that holds others.",
                )
            if any(len(os.fsencode(segment)) > _SEGMENT_BYTES for segment in name.split("/")):
                raise InvalidKey(
                    f"{self.url} can't hold {name!r:.300}",
                    key=name,
                    remedy=f"A file system allows {_SEGMENT_BYTES} bytes for a file or folder.",
                )

    def find_own(self, launch_id: str) -> Callable[[Orphan], bool]:
        return lambda orphan: orphan.path.startswith(f"{STAGED}/{launch_id}.")

    def remove(self, orphan: Orphan) -> None:
        path = self._root / orphan.path
        with _translate(path):
            path.unlink(missing_ok=True)

    def tidy(self) -> None:
        # It is not empty while another run stages something.
        with suppress(OSError):
            (self._root / STAGED).rmdir()

    def _staged(self, token: str, launch_id: str) -> Path:
        return self._root / STAGED / f"{launch_id}.{token}"

    def _holds(self, path: Path, staged: StagedObject) -> bool:
        """Return whether a file has the content that a staged object had. Reads the file."""
        digester = Digester()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK_BYTES):
                    digester.update(block)
        except FileNotFoundError:
            return False
        return digester.hexdigest() == staged.digest

    @contextmanager
    def _written(self, name: str, body: bytes) -> Iterator[Path]:
        self._check(self._root / name)
        with _translate(self._root / name):
            path = self._staged(new_token(), "put")
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.write_bytes(body)
                yield path
            finally:
                path.unlink(missing_ok=True)


class _File:
    """One file that is being written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("xb")

    def add(self, block: bytes | bytearray) -> None:
        with _translate(self._path):
            self._file.write(block)

    def finish(self) -> tuple[str, tuple[str, ...]]:
        with _translate(self._path):
            self._file.close()
        return "", ()

    def abort(self) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


@contextmanager
def _translate(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into those of a store, which say whether trying again makes sense."""
    try:
        yield
    except StorageError:
        raise
    except (IsADirectoryError, NotADirectoryError, FileExistsError) as error:
        raise InvalidKey(
            f"{str(path)!r} can't be written: {error.strerror}",
            key=str(path),
            remedy="Give no object the name of a folder that holds others.",
        ) from error
    except OSError as error:
        raise from_os_error(error, str(path)) from error
