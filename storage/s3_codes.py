"""What the error codes of S3 and of its many look-alikes mean: one table."""

from __future__ import annotations

from typing import Final

from .errors import (
    BucketNotFound,
    ConditionalWriteUnsupported,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)

# A HEAD has no body, so botocore gives its status as the code: hence the numbers.
_ERRORS: Final[dict[str, type[StorageError]]] = {
    "NoSuchKey": ObjectNotFound,
    "NotFound": ObjectNotFound,
    "404": ObjectNotFound,
    "NoSuchBucket": BucketNotFound,
    "PreconditionFailed": ObjectExists,
    "412": ObjectExists,
    "NotImplemented": ConditionalWriteUnsupported,
    "AccessDenied": StorageDenied,
    "AllAccessDisabled": StorageDenied,
    "AccountProblem": StorageDenied,
    "BucketAlreadyExists": StorageDenied,
    "ExpiredToken": StorageDenied,
    "InvalidAccessKeyId": StorageDenied,
    "InvalidToken": StorageDenied,
    "RequestTimeTooSkewed": StorageDenied,
    "SignatureDoesNotMatch": StorageDenied,
    "ConditionalRequestConflict": StorageUnavailable,
    "InternalError": StorageUnavailable,
    "OperationAborted": StorageUnavailable,
    "RequestTimeout": StorageUnavailable,
    "ServiceUnavailable": StorageUnavailable,
    "SlowDown": StorageUnavailable,
    "Throttling": StorageUnavailable,
    "ThrottlingException": StorageUnavailable,
    "TooManyRequests": StorageUnavailable,
}
_STATUSES: Final[dict[int, type[StorageError]]] = {
    401: StorageDenied,
    403: StorageDenied,
    404: ObjectNotFound,
    408: StorageUnavailable,
    409: StorageUnavailable,
    412: ObjectExists,
    429: StorageUnavailable,
    501: ConditionalWriteUnsupported,
}
_REMEDIES: Final[dict[str, str]] = {
    "PermanentRedirect": "The bucket lies in another region: set AWS_DEFAULT_REGION to it.",
    "IllegalLocationConstraintException": "The bucket lies in another region: set AWS_DEFAULT_REGION to it.",
    "MissingContentLength": "The store takes no checksum trailers: drop checksums=when_supported.",
}

# Two conditional writes met, or two creations of a bucket: neither has won, each may try again.
CONFLICTS: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})


# The range starts at the end of the object or past it: there is nothing to read, and nothing wrong.
MISSING_RANGE: Final = frozenset({"InvalidRange", "416"})


def error_of(
    code: str, status: int | None, *, subject: str, key: str | None, is_conditional: bool = False
) -> StorageError:
    """Return the error that an answer means.

    Args:
        code: The error code the server gave; on a HEAD the status as text.
        status: The HTTP status; None for one key of a batch, which has none of its own.
        subject: What was asked, for the message: "writing 'a/b' in s3://bucket".
        key: The key concerned, if one is.
        is_conditional: Whether the request was a write-once put: only then does "not implemented"
            mean that such puts are.
    """
    kind = _ERRORS.get(code) or _STATUSES.get(status or 0)
    if kind is None:
        kind = StorageUnavailable if (status or 0) >= 500 else StorageError
    remedy = _REMEDIES.get(code)
    if kind is ConditionalWriteUnsupported and not is_conditional:
        kind = StorageError
        remedy = "The store lacks what was asked: try without checksums=when_supported, or upgrade the store."
    if kind is ObjectNotFound and key is None:
        kind = BucketNotFound
    answer = f"{code}, status {status}" if status is not None and code != str(status) else code
    return kind(f"{subject} was answered with {answer or 'no code'}", key=key, remedy=remedy)
