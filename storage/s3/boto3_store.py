"""A store in a bucket of S3, or of a server that speaks its protocol, that uses boto3."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from contextvars import copy_context
from datetime import UTC
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from ..deadline import CallLimit
from ..errors import StorageError
from ..hashing import content_md5
from ..keys import check_key, check_range
from ..object_store import Body, ObjectInfo, ObjectStore, Retention, check_room
from .boto3_calls import NoBatchesError, S3Calls
from .boto3_client import Server, find_access
from .boto3_errors import BodyError, code_of, status_of
from .endpoint import Keys, S3Access
from .error_codes import MISSING_RANGE, lacks_batches, wants_digest
from .location import S3Location, parse_s3_url

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ListObjectsV2OutputTypeDef

_BATCH_KEYS: Final = 1000
_DELETES_AT_ONCE: Final = 8
_T = TypeVar("_T")


class S3Store(ObjectStore):
    """Objects in a bucket, below a prefix.

    Each process makes its own client at first use, with up to 32 connections. A forked child never uses its parent's,
    and writes to the same server. Every request is tried up to 8 times within the limit of its call (`storage.within`).
    It runs in a helper thread, so that the limit holds whatever the server does.

    Args:
        location: The location that an s3:// URL names, or the URL itself.
        server: Where the bucket is, if that is decided already. The default is what boto3's chain says at first use.
        keys: Credentials that a setting names. The default is what boto3's chain says.
        pause: Waits so many seconds between two attempts.
    """

    def __init__(
        self,
        location: S3Location | str,
        *,
        server: Server | None = None,
        keys: Keys | None = None,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._location = parse_s3_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._bucket = self._location.bucket
        self._prefix = self._location.prefix
        self._calls = S3Calls(self.url, checksums=self._location.checksums, server=server, pause=pause, keys=keys)
        self._encryption: dict[str, Any] = {}
        if self._location.encryption:
            self._encryption["ServerSideEncryption"] = self._location.encryption
        if self._location.kms_key:
            self._encryption["SSEKMSKeyId"] = self._location.kms_key
        self._deletes_singly = False
        self.wants_digest = False
        """Whether the bucket has refused a write without a digest, as one with object lock does."""

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        name = self._name(key)
        # The stubs know only bytes here. botocore takes a bytearray without a copy.
        content: Any = body.tobytes() if isinstance(body, memoryview) else body
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Key": name, "Body": content, **self._encryption}
        if if_absent:
            wanted["IfNoneMatch"] = "*"

        def request(client: S3Client) -> None:
            has_digest = self.wants_digest
            digest: Any = {"ContentMD5": content_md5(content)} if has_digest else {}
            try:
                client.put_object(**wanted, **digest)
            except boto.ClientError as error:
                if has_digest or not wants_digest(code_of(error), message_of(error)):
                    raise
                self.wants_digest = True
                client.put_object(**wanted, ContentMD5=content_md5(content))

        self._calls.call("writing", key, "PutObject", request, size_bytes=len(content), is_conditional=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        check_range(offset, length)
        if length == 0:
            self.head(key)
            return b""
        name = self._name(key)
        end = "" if length is None else offset + length - 1
        wanted: dict[str, Any] = {"Range": f"bytes={offset}-{end}"} if offset or length is not None else {}
        limit = CallLimit(length or 0)

        def request(client: S3Client) -> bytes:
            try:
                answer = client.get_object(Bucket=self._bucket, Key=name, **wanted)
            except boto.ClientError as error:
                # The object ends before the range starts; a missing object would be a 404.
                if wanted and code_of(error) in MISSING_RANGE:
                    return b""
                raise
            check_room(answer.get("ContentLength") or 0, key=key)
            limit.allow(answer.get("ContentLength") or 0)
            content = _content_of(answer)
            # A server that ignores the range sends everything, with status 200. rclone's gateway says 200 to ranges
            # too, but names the range that it sends.
            whole = answer["ResponseMetadata"]["HTTPStatusCode"] == 200 and not answer.get("ContentRange")
            if wanted and whole:
                return content[offset : None if length is None else offset + length]
            return content

        return self._calls.call("reading", key, "GetObject", request, limit=limit)

    def head(self, key: str) -> ObjectInfo:
        name = self._name(key)

        def request(client: S3Client) -> ObjectInfo:
            try:
                answer = client.head_object(Bucket=self._bucket, Key=name)
            except boto.ClientError as error:
                if status_of(error) != 400:
                    raise
                # The answer to a HEAD has no body that could give the reason, and an expired token is a 400, too.
                client.get_object(Bucket=self._bucket, Key=name, Range="bytes=0-0")["Body"].close()
                raise
            return ObjectInfo(key, answer["ContentLength"], answer["LastModified"].astimezone(UTC))

        return self._calls.call("looking up", key, "HeadObject", request)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if start_after:
            wanted["StartAfter"] = self._prefix + start_after

        def request(client: S3Client) -> ListObjectsV2OutputTypeDef:
            return client.list_objects_v2(**wanted)

        while True:
            page = self._calls.call("listing", None, "ListObjectsV2", request)
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(self._prefix)
                yield ObjectInfo(key, entry["Size"], entry["LastModified"].astimezone(UTC))
            token = page.get("NextContinuationToken")
            if not page.get("IsTruncated") or not token:
                return
            wanted["ContinuationToken"] = token

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        while batch := [*islice(remaining, _BATCH_KEYS)]:
            names = [self._name(key) for key in batch]
            if self._deletes_singly:
                self._delete_singly(batch)
                continue
            try:
                # A refusal has no status and is not retried, also where the server was only busy. A request for the
                # key alone is retried, and its answer says why.
                self._delete_singly(self._delete_batch(batch, names))
            except NoBatchesError:
                # Google's S3 interface has none, and neither have some other servers.
                self._delete_singly(batch)
                self._deletes_singly = True

    def create_bucket(self) -> None:
        """Make this store's bucket; idempotent, at most two requests.

        Raises:
            StorageDenied: The bucket belongs to another account, or the credentials may not create it.
            StorageUnavailable: The endpoint does not answer.
        """

        def request(client: S3Client) -> None:
            region = client.meta.region_name
            placement: dict[str, Any] = {}
            if region not in (None, "us-east-1", "aws-global"):
                placement = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            try:
                client.create_bucket(Bucket=self._bucket, **placement)
            except boto.ClientError as error:
                if code_of(error) == "BucketAlreadyOwnedByYou":
                    return
                if code_of(error) != "BucketAlreadyExists":
                    raise
                # Some servers say so of one's own bucket too. A client that can read it may use it.
                client.head_bucket(Bucket=self._bucket)

        self._calls.call("creating the bucket", None, "CreateBucket", request)

    def retention(self) -> Retention | None:
        """Return which deleted objects the bucket keeps, or None if its settings may not be read. Two requests."""

        def request(client: S3Client) -> Retention | None:
            try:
                versions = client.get_bucket_versioning(Bucket=self._bucket).get("Status") == "Enabled"
            except boto.ClientError as error:
                if status_of(error) in (400, 403, 404, 405, 501):
                    return None
                raise
            try:
                answer = client.get_object_lock_configuration(Bucket=self._bucket)
            except boto.ClientError as error:
                if (status_of(error) or 500) >= 500 and status_of(error) != 501:
                    raise
                return Retention(versions=versions)
            lock = answer.get("ObjectLockConfiguration", {})
            default = lock.get("Rule", {}).get("DefaultRetention", {})
            days = default.get("Days") or 365 * default.get("Years", 0)
            return Retention(versions, lock.get("ObjectLockEnabled") == "Enabled", default.get("Mode", ""), days)

        return self._calls.call("asking for the settings of the bucket", None, "GetBucketVersioning", request)

    def access(self) -> S3Access | None:
        """Return how boto3's chain reaches the bucket, or None if another client cannot be told.

        Makes no request, unless credentials have to be asked for.

        Raises:
            StorageError: The configuration cannot be read, or there are no credentials.
        """
        return self._calls.call(
            "finding the server", None, "", lambda _: find_access(self._calls.process_client(), self._bucket)
        )

    def renew(self, access: S3Access) -> S3Access:
        """Return the access with the credentials of this moment. May ask for them."""
        ask = access.renew
        if ask is None:
            return access
        return self._calls.call("renewing the credentials", None, "", lambda _: access.with_keys(ask()))

    def _delete_batch(self, keys: Sequence[str], names: Sequence[str]) -> Sequence[str]:
        """Delete keys in one request, and return those that the server refused to delete."""
        wanted: Any = {"Objects": [{"Key": name} for name in names], "Quiet": True}

        def request(client: S3Client) -> Any:
            try:
                return client.delete_objects(Bucket=self._bucket, Delete=wanted)
            except boto.ClientError as error:
                if lacks_batches(code_of(error), status_of(error)):
                    raise NoBatchesError from error
                raise

        answer = self._calls.call("deleting", keys[0], "DeleteObject", request)
        refusals = answer.get("Errors", ())
        # Some servers report an object that does not exist as an error.
        return [entry["Key"].removeprefix(self._prefix) for entry in refusals if entry.get("Code") != "NoSuchKey"]

    def _delete_singly(self, keys: Sequence[str]) -> None:
        def delete(key: str) -> None:
            name = self._name(key)
            try:
                self._calls.call(
                    "deleting", key, "DeleteObject", lambda client: client.delete_object(Bucket=self._bucket, Key=name)
                )
            except FileNotFoundError as error:
                if not isinstance(error, StorageError) or "NoSuchBucket" in str(error):
                    raise

        if not keys:
            return
        # The first one alone: the refusal of one is mostly that of all.
        delete(keys[0])
        if len(keys) == 1:
            return
        # no limit: each call has one
        with ThreadPoolExecutor(min(_DELETES_AT_ONCE, len(keys) - 1), thread_name_prefix="storage-delete") as pool:
            # Each in this thread's context, which holds the caller's limit.
            for deletion in [pool.submit(copy_context().run, delete, key) for key in keys[1:]]:
                # no limit: each call has one
                deletion.result()

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)


def _content_of(answer: GetObjectOutputTypeDef) -> bytes:
    with closing(answer["Body"]) as body:
        try:
            return body.read()
        except (boto.BotoCoreError, HTTPError, OSError) as error:
            raise BodyError(str(error)) from error


def message_of(error: boto.ClientError) -> str:
    """Return the message of the server's answer."""
    return str(error.response.get("Error", {}).get("Message", ""))
