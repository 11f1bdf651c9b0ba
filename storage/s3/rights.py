"""The rights that fanout uses in a bucket, and the requests that show which of them are missing."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final

from ..errors import ObjectNotFound, StorageDenied, StorageError
from ..examination import Finding, Verdict
from ..probe import PREFIX, PROBE_RESULT_KEY
from .boto3_examination import S3ExaminedBucket


@dataclass(frozen=True, slots=True)
class Right:
    """A right, by its name in a policy.

    Attributes:
        name: The name.
        of_bucket: Whether it is given on the bucket, and else on the objects.
        without: The effect of its lack.
        lack: The outcome of the check if it is missing.
    """

    name: str
    of_bucket: bool
    without: str
    lack: Verdict = Verdict.BROKEN

    def remedy(self, bucket: str, prefix: str) -> str:
        """Return where to allow it."""
        resource = bucket if self.of_bucket else f"{bucket}/{prefix}*"
        return f"Allow {self.name} on arn:aws:s3:::{resource}. {self.without}"


_SETTING: Final = "Without it, doctor can't tell that."

RIGHTS: Final = {
    right.name: right
    for right in (
        Right("s3:ListBucket", True, "Without it no job runs, and S3 calls a missing object forbidden."),
        Right("s3:PutObject", False, "Without it no job starts."),
        Right("s3:GetObject", False, "Without it no job runs."),
        Right("s3:DeleteObject", False, "Without it no job is removed, and no store can be probed."),
        Right(
            "s3:AbortMultipartUpload",
            False,
            "Without it, parts of large uploads that broke off stay, at a price, until a lifecycle rule removes them.",
            Verdict.CHANGE,
        ),
        Right(
            "s3:ListMultipartUploadParts",
            False,
            "Without it, a sink may fail to tell a commit that was repeated from one that was lost.",
            Verdict.CHANGE,
        ),
        Right(
            "s3:ListBucketMultipartUploads",
            True,
            "Without it, orphans of sinks stay, at a price, until a lifecycle rule removes them.",
            Verdict.CHANGE,
        ),
        Right("s3:GetBucketVersioning", True, _SETTING, Verdict.UNKNOWN),
        Right("s3:GetBucketObjectLockConfiguration", True, _SETTING, Verdict.UNKNOWN),
        Right("s3:GetLifecycleConfiguration", True, _SETTING, Verdict.UNKNOWN),
    )
}
"""All rights that fanout uses, by name."""

SETTINGS: Final = {
    "s3:GetBucketVersioning": "GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration": "GetObjectLockConfiguration",
    "s3:GetLifecycleConfiguration": "GetBucketLifecycleConfiguration",
}
"""The actions by which settings of the bucket are read, by right."""


def check_rights(bucket: S3ExaminedBucket) -> Iterator[Finding]:
    """Yield a check for each right in `RIGHTS`. At most 16 requests.

    A right counts as given if the request that needs it is answered in any way but with a denial.

    Raises:
        StorageError: The server does not answer, refuses the credentials themselves, or lacks the bucket.
    """
    key = f"{PREFIX}{secrets.token_hex(8)}/right"
    body = b"a right"

    existing: list[str] = []

    def read() -> None:
        # Ceph lets users read what they wrote, whatever their policy says. Workers read what others wrote, too.
        for name in (key, PROBE_RESULT_KEY, *existing):
            # Without s3:PutObject there is no object, which is no denial.
            with suppress(ObjectNotFound):
                bucket.get(name, length=1)

    yield _check(bucket, "s3:ListBucket", lambda: existing.extend(info.key for info in islice(bucket.list(), 1)))
    may_write = _check(bucket, "s3:PutObject", lambda: bucket.put(key, body))
    yield may_write
    yield _check(bucket, "s3:GetObject", read)
    yield _check(bucket, "s3:DeleteObject", lambda: bucket.delete([key]))
    if may_write.verdict is Verdict.OK:
        yield from _check_uploads(bucket, key)
    for right, action in SETTINGS.items():

        def ask(action: str = action) -> None:
            bucket.read_setting(action)

        yield _check(bucket, right, ask)


def _check_uploads(bucket: S3ExaminedBucket, key: str) -> Iterator[Finding]:
    try:
        upload_id = bucket.start_upload(key, token=key)
        bucket.upload_part(key, upload_id, 1, b"a part")
    except StorageDenied:
        raise
    except StorageError as error:
        # A server without such uploads. The check of its features says so.
        yield Finding("uploads", str(error.args[0]), Verdict.CHANGE, "Sinks need uploads in parts. Jobs do not.")
        return
    yield _check(bucket, "s3:ListMultipartUploadParts", lambda: bucket.count_parts(key, upload_id))
    yield _check(bucket, "s3:ListBucketMultipartUploads", lambda: next(iter(bucket.list_uploads(PREFIX)), None))
    yield _check(bucket, "s3:AbortMultipartUpload", lambda: bucket.abort_upload(key, upload_id))


def _check(bucket: S3ExaminedBucket, name: str, act: Callable[[], object]) -> Finding:
    """Make a request that needs a right, and return whether it is given."""
    right = RIGHTS[name]
    try:
        act()
    except StorageDenied as error:
        if not error.right:
            # The credentials are refused as such.
            raise
        remedy = right.remedy(bucket.location.bucket, bucket.location.prefix)
        return Finding(name, "is missing", right.lack, remedy)
    except StorageError as error:
        if right.lack is Verdict.BROKEN:
            raise
        return Finding(name, f"the server does not say: {error.args[0]}", Verdict.UNKNOWN)
    return Finding(name, "allowed")
