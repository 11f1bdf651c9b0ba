"""A store in a container of Azure or a bucket of Google Cloud."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar

import obstore
from obstore.store import AzureStore, GCSStore

from .. import deadline
from ..errors import (
    BucketNotFound,
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnusable,
)
from ..keys import check_key, check_range
from ..object_store import Body, Content, ObjectInfo, ObjectStore, Retention, check_room
from ..obstore_errors import find_error, is_panic, is_past_end, make_error
from ..obstore_process import LARGE_BYTES, PART_BYTES, PARTS_AT_ONCE, ask, may_ask
from .location import CloudLocation, parse_cloud_url

_T = TypeVar("_T")

_CLIENTS: Final[dict[str, Callable[..., Any]]] = {"az": AzureStore, "gs": GCSStore}
_PAGE: Final = 1000
_RETRIES: Final = 8
_LARGE_TIMEOUT_S: Final = 3600.0
_REMEDIES: Final[dict[tuple[str, type[StorageError]], str]] = {
    ("az", BucketNotFound): "Make the container, or correct the URL or AZURE_STORAGE_ACCOUNT_NAME.",
    ("gs", BucketNotFound): "Make the bucket, or correct the URL.",
    ("az", StorageDenied): (
        "Check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or the SAS token or identity and its role: "
        "Storage Blob Data Contributor."
    ),
    ("gs", StorageDenied): "Check GOOGLE_APPLICATION_CREDENTIALS, and the account's role: Storage Object User.",
}


class CloudStore(ObjectStore):
    """Objects in a container of Azure or a bucket of Google Cloud, below a prefix, with obstore.

    Both clouds put an object only if it is absent, which is what fanout rests on. Account, credentials and endpoint
    come from the environment, as obstore reads it: `AZURE_STORAGE_ACCOUNT_NAME` and `AZURE_STORAGE_ACCOUNT_KEY`, or
    `GOOGLE_APPLICATION_CREDENTIALS`, among others. Each process makes its own clients at first use.

    obstore does not survive a fork. A process that was forked from one that had made a request can make none; see
    `StorageUnusable`. On Azure a listing after a key reads the pages before it, too: Azure has no such request.

    Args:
        location: The location that an az:// or gs:// URL names, or the URL itself.
    """

    def __init__(self, location: CloudLocation | str) -> None:
        self._location = parse_cloud_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._prefix = self._location.prefix
        self._lock = threading.Lock()
        self._cached: tuple[int, Any, Any] | None = None

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        name, size_bytes = self._name(key), memoryview(body).nbytes
        client = self._client(large=size_bytes > LARGE_BYTES)
        mode: Any = "create" if if_absent else "overwrite"
        self._ask(
            lambda: obstore.put(
                client,
                name,
                body,
                mode=mode,
                # A condition holds for one request.
                use_multipart=size_bytes > 2 * PART_BYTES and not if_absent,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            ),
            "writing",
            key,
            size_bytes,
        )

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        check_range(offset, length)
        if length == 0:
            self.head(key)
            return b""
        name, client = self._name(key), self._client(large=(length or 0) > LARGE_BYTES)
        options: Any = None
        if offset or length is not None:
            options = {"range": {"offset": offset} if length is None else (offset, offset + length)}

        def read() -> Content:
            try:
                answer = obstore.get(client, name, options=options)
                check_room(answer.range[1] - answer.range[0], key=key)
                return memoryview(answer.bytes())
            except Exception as error:
                if options is not None and is_past_end(error):
                    return b""
                raise

        return self._ask(read, "reading", key, length or 0)

    def head(self, key: str) -> ObjectInfo:
        name, client = self._name(key), self._client()
        info = self._ask(lambda: obstore.head(client, name), "looking up", key)
        return ObjectInfo(key, info["size"], info["last_modified"])

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        full_prefix = self._prefix + prefix
        # obstore takes a prefix for a folder.
        folder = full_prefix.rpartition("/")[0]
        if folder and not {"", ".", ".."}.isdisjoint(folder.split("/")):
            return
        client, offset = self._client(), self._prefix + start_after if start_after else None
        pages = iter(obstore.list(client, folder or None, offset=offset, chunk_size=_PAGE))
        while page := self._ask(lambda: next(pages, None), "listing", None):
            for entry in page:
                if entry["path"].startswith(full_prefix):
                    key = entry["path"].removeprefix(self._prefix)
                    yield ObjectInfo(key, entry["size"], entry["last_modified"])

    def delete(self, keys: Iterable[str]) -> None:
        client = self._client()
        names = [self._name(key) for key in keys]
        for start in range(0, len(names), _PAGE):
            batch = names[start : start + _PAGE]
            try:
                self._ask(partial(obstore.delete, client, batch), "deleting", None)
            except StorageError:
                # The answer does not tell which keys are missing or were refused, nor whether the others were deleted.
                # obstore has one error for a refused key and for a server that gives no answer.
                for name in batch:
                    self._delete_one(client, name)

    def _delete_one(self, client: Any, name: str) -> None:
        try:
            self._ask(lambda: obstore.delete(client, name), "deleting", name.removeprefix(self._prefix))
        except ObjectNotFound:
            return

    def retention(self) -> Retention | None:
        return None

    def _ask(self, act: Callable[[], _T], doing: str, key: str | None, size_bytes: int = 0) -> _T:
        """Make a request within its limit.

        Raises:
            StorageError: It failed.
        """
        subject = f"{doing} {key!r}" if key is not None else doing
        try:
            return ask(act, subject, self.url, size_bytes)
        except StorageError:
            raise
        except BaseException as error:
            kind = find_error(error)
            if kind is None:
                raise
            raise self._make_error(kind, error, subject, key) from error

    def _make_error(
        self, kind: type[StorageError], error: BaseException, subject: str, key: str | None
    ) -> StorageError:
        if kind is ObjectExists:
            return ObjectExists(f"{subject} in {self.url}: an object exists there", key=key)
        if kind is ObjectNotFound:
            return ObjectNotFound(f"{subject} in {self.url}: no object exists there", key=key)
        made = make_error(kind, error, f"{subject} in {self.url}", key)
        made.remedy = _REMEDIES.get((self._location.scheme, kind), made.remedy)
        return made

    def _name(self, key: str) -> str:
        if "\\" in check_key(key):
            raise InvalidKey(f"the key {key[:200]!a} has a backslash", key=key, remedy="Azure takes it for a slash.")
        return self._prefix + key

    def _client(self, *, large: bool = False) -> Any:
        if not may_ask():
            raise StorageUnusable(
                f"obstore can't reach {self.url} from process {os.getpid()}: it was forked from one that had used it",
                remedy="Start workers with --pool threads, or let no parent process make a request.",
            )
        cached = self._cached
        if cached is None or cached[0] != os.getpid():
            with self._lock:
                cached = self._cached = (os.getpid(), self._make_client(), self._make_client(large=True))
        return cached[2 if large else 1]

    def _make_client(self, *, large: bool = False) -> Any:
        limits = deadline.LIMITS
        try:
            return _CLIENTS[self._location.scheme](
                self._location.container,
                client_options={
                    "allow_http": True,
                    "connect_timeout": timedelta(seconds=limits.connect_s),
                    "timeout": timedelta(seconds=_LARGE_TIMEOUT_S if large else limits.answer_s),
                },
                retry_config={
                    "max_retries": _RETRIES,
                    "retry_timeout": timedelta(seconds=max(limits.call_s - limits.answer_s, limits.answer_s)),
                },
            )
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise self._make_error(StorageDenied, error, "making a client", None) from error
