"""Requests that only an examination of a bucket makes, by boto3."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore import exceptions as boto
from botocore.config import Config

from ..errors import StorageError
from .boto3_calls import NoBatchesError
from .boto3_client import Server
from .boto3_errors import code_of, status_of
from .boto3_uploads import S3UploadStore
from .endpoint import Keys, find_proxy, is_of_aws
from .location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_WRONG_DIGEST: Final = base64.b64encode(bytes(16)).decode()


class S3ExaminedBucket(S3UploadStore):
    """A bucket with the requests that jobs do not need, or that jobs leave to the store to choose.

    Args:
        location: Bucket and prefix.
        server: The server. The default is what boto3's chain says.
        keys: Credentials. The default is what boto3's chain says.
    """

    def __init__(self, location: S3Location, *, server: Server | None = None, keys: Keys | None = None) -> None:
        super().__init__(location, server=server, keys=keys)
        self.location = location
        self.server = server

    @classmethod
    def at(cls, location: S3Location, endpoint: str) -> S3ExaminedBucket:
        """Return a bucket on a server, or on that of boto3's chain if the endpoint is empty."""
        return cls(location, server=Server(endpoint, None) if endpoint else None)

    def with_keys(self, keys: Keys) -> S3ExaminedBucket:
        """Return the same bucket with other credentials."""
        return S3ExaminedBucket(self.location, server=self.server, keys=keys)

    @property
    def endpoint(self) -> str:
        """URL of the server."""
        return self._calls.process_client().client.meta.endpoint_url

    @property
    def proxy(self) -> str | None:
        """URL of the proxy, without its credentials; None for none."""
        proxy = find_proxy(self.endpoint)
        return proxy and f"{urlsplit(proxy).scheme}://{proxy.rpartition('@')[2].rpartition('//')[2]}"

    @property
    def own_certificates(self) -> str:
        """The file of certificates of one's own; "" for the usual ones."""
        return str(self._calls.process_client().session.get_config_variable("ca_bundle") or "")

    @property
    def is_of_aws(self) -> bool:
        """Whether the server is AWS's own."""
        return is_of_aws(self.endpoint)

    def keys(self) -> Keys | None:
        """Return the credentials that boto3's chain gives; None for none."""
        credentials = self._calls.process_client().session.get_credentials()
        if credentials is None:
            return None
        frozen = credentials.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    def count_parts(self, key: str, upload_id: str) -> int:
        """Return the number of parts that an upload has. One request."""
        name = self._name(key)

        def request(client: S3Client) -> int:
            answer = client.list_parts(Bucket=self._bucket, Key=name, UploadId=upload_id)
            return len(answer.get("Parts", ()))

        return self._calls.call("listing the parts of", key, "ListParts", request)

    def list_pages(self, prefix: str, *, page_keys: int) -> Iterator[list[str]]:
        """Yield the keys below a prefix in pages. One request per page."""
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix, "MaxKeys": page_keys}
        while True:
            page = self._calls.call("listing", None, "ListObjectsV2", lambda client: client.list_objects_v2(**wanted))
            yield [entry["Key"].removeprefix(self._prefix) for entry in page.get("Contents", ())]
            if not page.get("IsTruncated"):
                return
            wanted["ContinuationToken"] = page["NextContinuationToken"]

    def delete_at_once(self, keys: Sequence[str]) -> bool:
        """Delete keys in one request, and return whether the server did it for these credentials."""
        try:
            return not self._delete_batch(keys, [self._name(key) for key in keys])
        except NoBatchesError:
            return False

    def refuses_damage(self, key: str) -> bool:
        """Return whether the server refuses a body that has another digest than the request says. One request."""
        name = self._name(key)

        def request(client: S3Client) -> bool:
            try:
                client.put_object(Bucket=self._bucket, Key=name, Body=b"x", ContentMD5=_WRONG_DIGEST)
            except boto.ClientError as error:
                if (status_of(error) or 500) >= 500:
                    raise
                return True
            return False

        return self._calls.call("writing", key, "PutObject", request)

    def encryption_of(self, key: str) -> str:
        """Return how the server says that it encrypts an object; "" if it says nothing. One request."""
        name = self._name(key)

        def request(client: S3Client) -> str:
            answer = client.head_object(Bucket=self._bucket, Key=name)
            return " ".join(filter(None, [answer.get("ServerSideEncryption", ""), answer.get("SSEKMSKeyId", "")]))

        return self._calls.call("looking up", key, "HeadObject", request)

    def read_setting(self, action: str) -> dict[str, Any] | None:
        """Return a setting of the bucket, or None if the server has no such setting. One request; {} if it is unset.

        Args:
            action: `GetBucketVersioning`, `GetObjectLockConfiguration` or `GetBucketLifecycleConfiguration`.
        """

        def request(client: S3Client) -> dict[str, Any] | None:
            method = getattr(client, f"get_{_snake(action.removeprefix('Get'))}")
            try:
                answer: dict[str, Any] = method(Bucket=self._bucket)
            except boto.ClientError as error:
                if status_of(error) == 404 and code_of(error) != "NoSuchBucket":
                    return {}
                if status_of(error) in (400, 405, 501):
                    return None
                raise
            return answer

        return self._calls.call("asking for the settings of the bucket", None, action, request)

    def answers_by_host(self) -> bool:
        """Return whether the server knows the bucket by its host name too, `bucket.host`. At most one request."""

        def request(client: S3Client) -> bool:
            process_client = self._calls.process_client()
            config = process_client.config.merge(Config(s3={"addressing_style": "virtual"}))
            other = process_client.factory.client(
                "s3", config=config, region_name=client.meta.region_name, endpoint_url=client.meta.endpoint_url
            )
            try:
                other.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
            except (boto.ClientError, boto.BotoCoreError):
                return False
            return True

        try:
            return self._calls.call("listing", None, "ListObjectsV2", request)
        except StorageError:
            return False


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")
