"""A store in a bucket of S3 whose requests cost a fifth of boto3's. The only importer of obstore."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import cached_property
from math import ceil
from typing import TYPE_CHECKING, Any, Final

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store as Client

from .errors import ObjectExists, ObjectNotFound
from .keys import check_key, check_range
from .s3_access import access_of
from .store import Body, Content, ObjectInfo, ObjectStore
from .urls import S3Location, parse_s3_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

    from .s3 import S3Store

_LOG = logging.getLogger("fanout")

# What an S3 key and a path of obstore's write alike; any other key goes through boto3.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/-]+")
# A prefix that obstore can list: it takes it for a folder, and knows none of an empty name, "." or "..".
_FOLDER: Final = re.compile(r"(?:(?!\.{1,2}/)[A-Za-z0-9._-]+/)+")
_PAGE: Final = 1000
# A hiccup is sat out here; what lasts is boto3's to sit out, which has more patience and names the cause.
_RETRIES: RetryConfig = {"max_retries": 2}
_HTTP: ClientConfig = {"allow_http": True, "connect_timeout": "10s", "timeout": "120s"}
# What takes longer than that on a slow line: boto3 has no limit for the whole of a request.
_LARGE_BYTES: Final = 128 * 2**20
# What is uploaded in one request, or about that. An object of more than two such parts goes up in parts, several at
# once: one stream has neither all of a line nor all of a server's processors.
_PART_BYTES: Final = 8 * 2**20
_PARTS_AT_ONCE: Final = 4
# No part but the last may be smaller, says S3.
_SMALLEST_PART_BYTES: Final = 5 * 2**20
# Requests in a row that obstore could not do and boto3 could, after which obstore is left alone.
_MISUNDERSTANDINGS: Final = 10

# What boto3 knows how to heed and obstore does not: anywhere, and where the line is encrypted.
_BEYOND_OBSTORE: Final = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
_CERTIFICATES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")


class _Runtime:
    """obstore's threads: they live in the process that made its first request, and in no child forked from it."""

    def __init__(self) -> None:
        self._process: int | None = None

    def usable(self) -> bool:
        """Whether obstore may be used here: in a child whose parent used it, it would hang for ever."""
        process = os.getpid()
        if self._process is None:
            self._process = process
        return self._process == process


_RUNTIME = _Runtime()


class ObstoreS3Store(ObjectStore):
    """Objects in a bucket, below a prefix; small requests cost a fifth of the CPU that `S3Store` needs for them.

    obstore does what it does well: to write, read, look up and list under plain keys. All else goes through an
    `S3Store`, and so does whatever obstore could not do: boto3 tries it again, more patiently, and its answer counts.
    So both give the same results and the same errors. boto3 is not even imported until then, if the environment
    alone says how to reach the store.

    What is larger than 16 MiB is uploaded in parts, unless it is to be written once; parts of an upload that broke off
    are removed by a rule of the bucket (AbortIncompleteMultipartUpload), if it has one.

    Each process makes its own client at first use. obstore does not survive a fork: a child whose parent has used it
    works with boto3.

    Args:
        location: What an s3:// URL says, or the URL itself.
    """

    def __init__(self, location: S3Location | str) -> None:
        self._location = parse_s3_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._prefix = self._location.prefix
        self._lock = threading.Lock()
        self._made: tuple[int, Client | None] | None = None
        self._misunderstandings = 0

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        size_bytes = memoryview(body).nbytes
        # A condition is for an object of one part.
        in_parts = size_bytes > 2 * _PART_BYTES and not if_absent
        client = self._client_for(self._name(key)) if in_parts or size_bytes <= _LARGE_BYTES else None
        if client is not None:
            mode: Any = "create" if if_absent else "overwrite"
            try:
                obstore.put(
                    client,
                    self._name(key),
                    body,
                    mode=mode,
                    use_multipart=in_parts,
                    chunk_size=_part_bytes(size_bytes),
                    max_concurrency=_PARTS_AT_ONCE,
                )
            except AlreadyExistsError as error:
                # To obstore a conflict of two writers is the same; but then neither may have won.
                if "status code: 409" not in str(error):
                    raise ObjectExists(f"writing {key!r} in {self.url}: an object stands there", key=key) from error
            except (BaseError, FileNotFoundError) as error:
                self._misunderstood(error)
            else:
                self._misunderstandings = 0
                return
        self._careful.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        check_range(offset, length)
        client = self._client_for(self._name(key)) if length is None or 0 < length <= _LARGE_BYTES else None
        if client is not None:
            try:
                content = self._read(client, self._name(key), offset, length)
            except FileNotFoundError as error:
                if "NoSuchBucket" not in str(error):
                    raise ObjectNotFound(f"reading {key!r} in {self.url}: nothing stands there", key=key) from error
            except BaseError as error:
                self._misunderstood(error)
            else:
                self._misunderstandings = 0
                return content
        return self._careful.get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        client = self._client_for(self._name(key))
        if client is not None:
            try:
                found = obstore.head(client, self._name(key))
            except FileNotFoundError as error:
                raise ObjectNotFound(f"looking up {key!r} in {self.url}: nothing stands there", key=key) from error
            except BaseError as error:
                self._misunderstood(error)
            else:
                return ObjectInfo(key, found["size"], found["last_modified"])
        return self._careful.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        whole = self._prefix + prefix
        client = self._client_for(whole + start_after) if _FOLDER.fullmatch(whole) else None
        last = start_after
        if client is not None:
            offset = self._prefix + start_after if start_after else None
            try:
                for page in obstore.list(client, whole, offset=offset, chunk_size=_PAGE):
                    for found in page:
                        last = found["path"].removeprefix(self._prefix)
                        yield ObjectInfo(last, found["size"], found["last_modified"])
            except (BaseError, FileNotFoundError) as error:
                self._misunderstood(error)
            else:
                return
        yield from self._careful.list(prefix, start_after=last)

    def delete(self, keys: Iterable[str]) -> None:
        self._careful.delete(keys)

    def create_bucket(self) -> None:
        """See `S3Store.create_bucket`."""
        self._careful.create_bucket()

    @staticmethod
    def _read(client: Client, name: str, offset: int, length: int | None) -> Content:
        # A view, not a copy: to make bytes of it would cost more than the request.
        if length is not None:
            return memoryview(obstore.get_range(client, name, start=offset, length=length))
        wanted: Any = {"range": {"offset": offset}} if offset else None
        return memoryview(obstore.get(client, name, options=wanted).bytes())

    @cached_property
    def _careful(self) -> S3Store:
        """The same objects by way of boto3."""
        from .s3 import S3Store

        return S3Store(self._location)

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _misunderstood(self, error: Exception) -> None:
        """Note that boto3 is asked once more; its success means that obstore and this server do not get on."""
        self._misunderstandings += 1
        _LOG.debug("%s: asked again by way of boto3: %s", self.url, str(error).partition("\n")[0])
        if self._misunderstandings == _MISUNDERSTANDINGS:
            _LOG.warning(
                "%s: obstore failed %d times in a row; from now on by way of boto3", self.url, _MISUNDERSTANDINGS
            )

    def _client_for(self, name: str) -> Client | None:
        """obstore's client, or None where boto3 has to do it."""
        if not _PLAIN.fullmatch(name) or self._misunderstandings >= _MISUNDERSTANDINGS or not _RUNTIME.usable():
            return None
        if _botocore_is_mocked():
            return None
        process = os.getpid()
        made = self._made
        if made is None or made[0] != process:
            with self._lock:
                made = self._made = (process, self._new_client())
        return made[1]

    def _new_client(self) -> Client | None:
        """A client, unless the environment asks for what only boto3 can do, or has no credentials."""
        if any(os.environ.get(name) for name in _BEYOND_OBSTORE):
            return None
        access = access_of(os.environ, bucket=self._location.bucket) or self._careful.access()
        is_plain = (access.endpoint or "").startswith("http://")
        if not is_plain and any(os.environ.get(name) for name in _CERTIFICATES):
            return None
        settings: Any = {"unsigned_payload": True, "virtual_hosted_style_request": access.is_virtual_hosted}
        if access.endpoint is not None:
            # Under this name, since that is the one that obstore also takes from the environment.
            settings["aws_endpoint_url_s3"] = access.endpoint
        if access.region is not None:
            settings["region"] = access.region
        provider = None
        if access.session is not None:
            from obstore.auth.boto3 import Boto3CredentialProvider

            try:
                provider = Boto3CredentialProvider(access.session)
            except ValueError:
                # There are no credentials: boto3 says so in its own words.
                return None
        return Client(
            self._location.bucket,
            config=settings,
            client_options=_HTTP,
            retry_config=_RETRIES,
            credential_provider=provider,
        )


def _part_bytes(size_bytes: int) -> int:
    """The size of equal parts, as many as go up at once or a multiple of that: then none goes up alone at the end."""
    rounds = max(1, round(size_bytes / (_PARTS_AT_ONCE * _PART_BYTES)))
    return max(_SMALLEST_PART_BYTES, ceil(size_bytes / (_PARTS_AT_ONCE * rounds)))


def _botocore_is_mocked() -> bool:
    """Whether moto stands in for AWS, so that nothing may pass botocore by: a test must not reach the real one."""
    moto = sys.modules.get("moto.core.models")
    return moto is not None and bool(moto.botocore_stubber.enabled)
