"""A store in a bucket of S3, or of a server that speaks its protocol. The only importer of boto3."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import urlsplit

import boto3
from botocore import exceptions as boto
from botocore.config import Config
from urllib3.exceptions import HTTPError

from .errors import StorageDenied, StorageError, StorageUnavailable
from .keys import check_key, check_range
from .s3_access import S3Access
from .s3_codes import CONFLICTS, MISSING_RANGE, error_of
from .store import Body, ObjectInfo, ObjectStore
from .urls import S3Location, parse_s3_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

_BATCH_KEYS = 1000
_CONNECTIONS = 32
# With one answer in five a 503, three attempts lose 0.8 % of the calls, eight about 3 in a million.
_REQUEST_ATTEMPTS = 8
_CONFLICT_ATTEMPTS = 8
_BODY_ATTEMPTS = 4
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 60

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
)
_NO_ANSWER = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError)

_T = TypeVar("_T")


class S3Store(ObjectStore):
    """Objects in a bucket, below a prefix.

    Each process makes its own client at first use, with up to 32 connections; a forked child never
    touches its parent's. boto3 tries every request up to 8 times; what it does not repeat (a
    conflicting conditional write, a body that breaks off) is repeated here.

    Args:
        location: What an s3:// URL says, or the URL itself.
        pause: Waits so many seconds between the tries made here.
    """

    def __init__(self, location: S3Location | str, *, pause: Callable[[float], object] = time.sleep) -> None:
        self._location = parse_s3_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._bucket = self._location.bucket
        self._prefix = self._location.prefix
        self._pause = pause
        self._clients: dict[int, S3Client] = {}
        self._locks: dict[int, threading.Lock] = {}

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        name = self._name(key)
        # The stubs know only bytes here; botocore takes a bytearray as it is, without a copy.
        content: Any = body.tobytes() if isinstance(body, memoryview) else body
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        with self._translated("writing", key, is_conditional=if_absent):
            self._repeated(
                lambda: self._client.put_object(Bucket=self._bucket, Key=name, Body=content, **condition),
                _is_conflict,
                attempts=_CONFLICT_ATTEMPTS,
            )

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        if length == 0:
            self.head(key)
            return b""
        name = self._name(key)
        end = "" if length is None else offset + length - 1
        wanted: dict[str, Any] = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}

        def request() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=name, **wanted)
            content = _content_of(answer)
            # A server may ignore the range and send everything; the status is how it says so. rclone's gateway
            # says 200 to ranges too, but names the range that it sends.
            whole = answer["ResponseMetadata"]["HTTPStatusCode"] == 200 and not answer.get("ContentRange")
            if wanted and whole:
                return content[offset : None if length is None else offset + length]
            return content

        with self._translated("reading", key):
            try:
                return self._repeated(request, _is_broken_body, attempts=_BODY_ATTEMPTS)
            except boto.ClientError as error:
                # The object ends where the range starts, or before; a missing object is a 404.
                if wanted and _code_of(error) in MISSING_RANGE:
                    return b""
                raise

    def head(self, key: str) -> ObjectInfo:
        name = self._name(key)
        with self._translated("looking up", key):
            answer = self._client.head_object(Bucket=self._bucket, Key=name)
        return ObjectInfo(key, answer["ContentLength"], answer["LastModified"].astimezone(UTC))

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if start_after:
            wanted["StartAfter"] = self._prefix + start_after
        with self._translated("listing", None):
            for page in self._client.get_paginator("list_objects_v2").paginate(**wanted):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self._prefix)
                    yield ObjectInfo(key, entry["Size"], entry["LastModified"].astimezone(UTC))

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := [*islice(remaining, _BATCH_KEYS)]:
            names = [{"Key": self._name(key)} for key in batch]
            with self._translated("deleting", batch[0]):
                answer = self._client.delete_objects(
                    Bucket=self._bucket, Delete={"Objects": cast(Any, names), "Quiet": True}
                )
            for refusal in answer.get("Errors", ()):
                code = refusal.get("Code", "")
                # Some servers call the absence of what was to be deleted an error.
                if code != "NoSuchKey":
                    key = refusal.get("Key", "").removeprefix(self._prefix)
                    raise error_of(code, None, subject=f"deleting {key!r} in {self.url}", key=key)

    def create_bucket(self) -> None:
        """Make this store's bucket; idempotent, two requests at most.

        Raises:
            StorageDenied: The bucket belongs to someone else, or the credentials may not create it.
            StorageUnavailable: The endpoint does not answer.
        """
        with self._translated("creating the bucket", None):
            region = self._client.meta.region_name
            placement: dict[str, Any] = {}
            if region not in (None, "us-east-1", "aws-global"):
                placement = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            try:
                self._repeated(
                    lambda: self._client.create_bucket(Bucket=self._bucket, **placement),
                    _is_conflict,
                    attempts=_CONFLICT_ATTEMPTS,
                )
            except boto.ClientError as error:
                if _code_of(error) == "BucketAlreadyOwnedByYou":
                    return
                if _code_of(error) != "BucketAlreadyExists":
                    raise
                # Some servers say so of one's own bucket too: whoever can look into it may use it.
                self._client.head_bucket(Bucket=self._bucket)

    def access(self) -> S3Access:
        """How boto3's chain says that the bucket is reached. No request, unless a role has to be assumed.

        Raises:
            StorageError: The configuration can't be read.
        """
        meta = self._client.meta
        style = (getattr(meta.config, "s3", None) or {}).get("addressing_style")
        endpoint = meta.endpoint_url if _is_custom(self._client) else None
        is_virtual_hosted = endpoint is None and style != "path" and "." not in self._bucket
        if endpoint is not None and style == "virtual":
            scheme, _, host = endpoint.partition("://")
            endpoint, is_virtual_hosted = f"{scheme}://{self._bucket}.{host}", True
        return S3Access(endpoint, meta.region_name, is_virtual_hosted, boto3.session.Session())

    @property
    def _client(self) -> S3Client:
        process = os.getpid()
        client = self._clients.get(process)
        if client is None:
            # A lock per process: a thread that was not forked may hold the parent's for ever.
            with self._locks.setdefault(process, threading.Lock()):
                client = self._clients.get(process)
                if client is None:
                    client = self._clients[process] = _new_client(self._location.checksums)
        return client

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _repeated(self, request: Callable[[], _T], is_passing: Callable[[Exception], bool], *, attempts: int) -> _T:
        """Call until it succeeds, fails for good, or has failed `attempts` times; wait in between."""
        for attempt in range(1, attempts):
            try:
                return request()
            except Exception as error:
                if not is_passing(error):
                    raise
            # Full jitter: writers that met once must not meet again.
            self._pause(random.uniform(0, min(0.05 * 2**attempt, 5.0)))  # noqa: S311 - not a secret
        return request()

    @contextmanager
    def _translated(self, doing: str, key: str | None, *, is_conditional: bool = False) -> Iterator[None]:
        """Turn what boto3 raises into this package's errors."""
        subject = f"{doing} {key!r} in {self.url}" if key is not None else f"{doing} at {self.url}"
        try:
            yield
        except boto.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            raise error_of(_code_of(error), status, subject=subject, key=key, is_conditional=is_conditional) from error
        except _NO_CREDENTIALS as error:
            raise StorageDenied(f"{subject} found no usable credentials: {error}", key=key) from error
        except (*_NO_ANSWER, _BodyError) as error:
            raise StorageUnavailable(f"{subject} got no whole answer: {error}", key=key) from error
        except boto.BotoCoreError as error:
            raise StorageError(f"{subject} failed: {error}", key=key) from error


class _BodyError(Exception):
    """An answer began well and its body broke off."""


def _content_of(answer: GetObjectOutputTypeDef) -> bytes:
    with closing(answer["Body"]) as body:
        try:
            return body.read()
        except (boto.BotoCoreError, HTTPError, OSError) as error:
            raise _BodyError(str(error)) from error


def _code_of(error: boto.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _is_conflict(error: Exception) -> bool:
    return isinstance(error, boto.ClientError) and _code_of(error) in CONFLICTS


def _is_broken_body(error: Exception) -> bool:
    return isinstance(error, _BodyError)


def _new_client(checksums: str) -> S3Client:
    # A session of its own: boto3's default session is shared, and not safe to use from threads.
    session = boto3.session.Session()
    mode = cast(Any, checksums)
    config = Config(
        # In standard mode retries draw on a quota that only successes refill: who polls for what is not there yet,
        # which is a 404, uses it up in a bad hour, and after that no request is tried again at all.
        retries={"mode": "legacy", "total_max_attempts": _REQUEST_ATTEMPTS},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="fanout-storage",
        request_checksum_calculation=mode,
        response_checksum_validation=mode,
    )
    try:
        client = session.client("s3", config=config)
        if _is_custom(client) and "addressing_style" not in (getattr(client.meta.config, "s3", None) or {}):
            # bucket.host resolves at AWS; at an endpoint of one's own it rarely does.
            client = session.client("s3", config=config.merge(Config(s3={"addressing_style": "path"})))
    except ValueError as error:
        raise StorageError(str(error), remedy="Check AWS_ENDPOINT_URL_S3 and AWS_DEFAULT_REGION.") from error
    if _is_custom(client):
        client.meta.events.register("before-call.s3.DeleteObjects", _digest_by_md5)
    return client


def _is_custom(client: S3Client) -> bool:
    host = urlsplit(client.meta.endpoint_url).hostname or ""
    return not host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def _digest_by_md5(params: dict[str, Any], **_: object) -> None:
    """Send Content-MD5 with a batch delete: it is required, and look-alikes often know no other digest."""
    params.get("context", {}).pop("checksum", None)
    digest = hashlib.md5(params["body"], usedforsecurity=False).digest()
    params["headers"]["Content-MD5"] = base64.b64encode(digest).decode()
