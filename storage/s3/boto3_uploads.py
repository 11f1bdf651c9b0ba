"""Multipart uploads in a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from botocore import exceptions as boto

from ..errors import UploadGone
from ..hashing import content_md5
from ..uploads import UnfinishedUpload, UploadStore
from .boto3_errors import code_of, status_of
from .boto3_store import S3Store, message_of
from .error_codes import wants_digest

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_TOKEN: Final = "fanout-upload"  # noqa: S105 - the name of a header
# Ceph says NoSuchKey of an upload that another process is just completing.
_GONE: Final = frozenset({"NoSuchUpload", "NoSuchKey"})


class S3UploadStore(S3Store, UploadStore):
    """Objects in a bucket, below a prefix, and the uploads that will become such objects.

    An object carries the token of its upload as metadata.
    """

    def start_upload(self, key: str, *, token: str) -> str:
        name = self._name(key)

        def request(client: S3Client) -> str:
            answer = client.create_multipart_upload(
                Bucket=self._bucket, Key=name, Metadata={_TOKEN: token}, **self._encryption
            )
            return answer["UploadId"]

        return self._calls.call("starting the upload of", key, "PutObject", request)

    def upload_part(self, key: str, upload_id: str, number: int, body: bytes | bytearray) -> str:
        name = self._name(key)
        content: Any = body

        part: Any = {"Bucket": self._bucket, "Key": name, "UploadId": upload_id, "PartNumber": number}

        def request(client: S3Client) -> str:
            had_digest = self.wants_digest
            digest: Any = {"ContentMD5": content_md5(body)} if had_digest else {}
            try:
                answer = client.upload_part(**part, Body=content, **digest)
            except boto.ClientError as error:
                if code_of(error) in _GONE:
                    raise self._upload_gone(key) from error
                if had_digest or not wants_digest(code_of(error), message_of(error)):
                    raise
                self.wants_digest = True
                answer = client.upload_part(**part, Body=content, ContentMD5=content_md5(body))
            return answer["ETag"].strip('"')

        return self._calls.call("uploading", key, "PutObject", request, size_bytes=len(body))

    def complete_upload(self, key: str, upload_id: str, entity_tags: Sequence[str], *, token: str) -> None:
        name = self._name(key)
        parts: Any = [{"ETag": f'"{tag}"', "PartNumber": number} for number, tag in enumerate(entity_tags, 1)]

        def request(client: S3Client) -> None:
            try:
                client.complete_multipart_upload(
                    Bucket=self._bucket, Key=name, UploadId=upload_id, MultipartUpload={"Parts": parts}
                )
            except boto.ClientError as error:
                # Ceph and moto answer 500 if the upload is gone and its key has an object.
                if code_of(error) not in _GONE and (
                    (status_of(error) or 0) < 500 or self._is_open(client, name, upload_id)
                ):
                    raise
                if not self._has_token(client, name, token):
                    raise self._upload_gone(key) from error

        self._calls.call("completing the upload of", key, "PutObject", request)

    def abort_upload(self, key: str, upload_id: str) -> None:
        name = self._name(key)

        def request(client: S3Client) -> None:
            try:
                client.abort_multipart_upload(Bucket=self._bucket, Key=name, UploadId=upload_id)
            except boto.ClientError as error:
                if code_of(error) not in _GONE and status_of(error) != 404:
                    raise

        self._calls.call("aborting the upload of", key, "AbortMultipartUpload", request)

    def list_uploads(self, prefix: str = "") -> Iterator[UnfinishedUpload]:
        wanted: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}

        def request(client: S3Client) -> Any:
            return client.list_multipart_uploads(**wanted)

        while True:
            page = self._calls.call("listing uploads", None, "ListMultipartUploads", request)
            for entry in page.get("Uploads", ()):
                started_at = entry["Initiated"].astimezone(UTC)
                yield UnfinishedUpload(entry["Key"].removeprefix(self._prefix), entry["UploadId"], started_at)
            if not page.get("IsTruncated") or not page.get("NextKeyMarker"):
                return
            wanted |= {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page.get("NextUploadIdMarker", "")}

    def _is_open(self, client: S3Client, name: str, upload_id: str) -> bool:
        try:
            client.list_parts(Bucket=self._bucket, Key=name, UploadId=upload_id, MaxParts=1)
        except boto.ClientError as error:
            if code_of(error) not in _GONE:
                raise
            return False
        return True

    def _has_token(self, client: S3Client, name: str, token: str) -> bool:
        try:
            answer = client.head_object(Bucket=self._bucket, Key=name)
        except boto.ClientError as error:
            if status_of(error) != 404:
                raise
            return False
        return {field.lower(): value for field, value in answer["Metadata"].items()}.get(_TOKEN) == token

    def _upload_gone(self, key: str) -> UploadGone:
        return UploadGone(f"the upload of {key!r} in {self.url} was aborted before it was completed", key=key)
