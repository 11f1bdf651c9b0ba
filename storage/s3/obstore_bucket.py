"""Objects of a bucket as they are, read with obstore: under any key, with entity tags and conditions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import obstore
from obstore.store import S3Store as Client

from ..errors import (
    ObjectChanged,
    StorageDenied,
    StorageError,
    StorageUnusable,
)
from ..object_store import Bucket, TaggedObject
from ..obstore_errors import find_error, make_error
from ..obstore_process import LARGE_BYTES
from .location import S3Location
from .obstore_store import ObstoreS3Store
from .server import S3Server

_PAGE: Final = 1000


class ObstoreBucket(Bucket):
    """The objects of a bucket, under any key. Safe for threads.

    A request that fails for a moment is tried three times, and ends within its own limits: 25 s an attempt, or an hour
    for a read of more than `LARGE_BYTES`.

    Args:
        bucket: Name of the bucket.
        server: The server. The default is what boto3's chain and AWS_ENDPOINT_URL_S3 say.
    """

    def __init__(self, bucket: str, server: S3Server | None = None) -> None:
        self.url = f"s3://{bucket}"
        self._store = ObstoreS3Store(S3Location(bucket), access=server.access(bucket) if server is not None else None)

    def head(self, key: str) -> TaggedObject:
        with self._translate("looking up", key):
            return _entry(obstore.head(self._client(), key))

    def list(self, folder: str = "", *, after: str = "") -> Iterator[list[TaggedObject]]:
        with self._translate("listing", folder or None):
            pages = iter(obstore.list(self._client(), folder or None, offset=after or None, chunk_size=_PAGE))
        while True:
            with self._translate("listing", folder or None):
                page = next(pages, None)
            if page is None:
                return
            yield [_entry(meta) for meta in page]

    def read(self, key: str, start: int, end: int, *, tag: str | None = None) -> bytes:
        if end <= start:
            return b""
        options: Any = {"range": (start, end)}
        if tag is not None:
            options["if_match"] = tag
        with self._translate("reading", key):
            body = obstore.get(self._client(large=end - start > LARGE_BYTES), key, options=options).bytes().to_bytes()
        if len(body) != end - start:
            raise ObjectChanged(f"reading {key!r} in {self.url}: it ends before byte {end:,}", key=key)
        return body

    def _client(self, *, large: bool = False) -> Client:
        clients = self._store.own_clients()
        if clients is None:
            raise StorageUnusable(
                f"obstore can't reach {self.url} from process {os.getpid()}: the process was forked from one that had "
                "used obstore, or some AWS settings have no equivalent there"
            )
        return clients.large if large else clients.quick

    @contextmanager
    def _translate(self, doing: str, key: str | None) -> Iterator[None]:
        try:
            yield
        except StorageError:
            raise
        except BaseException as error:
            kind = find_error(error)
            if kind is None:
                raise
            if kind is StorageDenied:
                self._store.forget_credentials()
            where = f"{doing} {key!r} in {self.url}" if key is not None else f"{doing} at {self.url}"
            raise make_error(kind, error, where, key) from error


def _entry(meta: Any) -> TaggedObject:
    return TaggedObject(meta["path"], meta["size"], meta["e_tag"] or "")
