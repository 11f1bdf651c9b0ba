"""Error codes of S3 and of other servers that speak its protocol, and the errors that they mean."""

from __future__ import annotations

import re
from typing import Final

from ..errors import (
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
    "AllAccessDisabled": StorageDenied,
    "AccountProblem": StorageDenied,
    "AuthFailure": StorageDenied,
    "BucketAlreadyExists": StorageDenied,
    "IncompleteSignature": StorageDenied,
    "InvalidObjectState": StorageDenied,
    "InvalidPayer": StorageDenied,
    "InvalidSecurity": StorageDenied,
    "MissingSecurityHeader": StorageDenied,
    "NotSignedUp": StorageDenied,
    "OptInRequired": StorageDenied,
    "RequestExpired": StorageDenied,
    "RequestTimeTooSkewed": StorageDenied,
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
# Denials have many codes, most of them under status 403 and some under 400. So have those of a key service.
_DENIALS: Final = re.compile(
    r"ExpiredToken|InvalidToken|SecurityToken|TokenRefresh|AuthenticationToken|Credential|Signature|Denied|Unauthori"
    r"|Forbidden|AccessKey|Authoriz|Authentic|ClientTokenId|UnrecognizedClient|^KMS\.",
    re.IGNORECASE,
)
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
    "PermanentRedirect": "The bucket is in another region: set AWS_DEFAULT_REGION to it.",
    "IllegalLocationConstraintException": "The bucket is in another region: set AWS_DEFAULT_REGION to it.",
    "RequestTimeTooSkewed": "This machine's clock differs too much from the store's: synchronise it (NTP).",
    "ExpiredToken": "The session token has expired: renew the credentials (AWS_SESSION_TOKEN, profile or role).",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set AWS_DEFAULT_REGION to it.",
    "BucketAlreadyExists": "The name is taken, by another account: choose another bucket.",
    "MissingContentLength": "The store takes no checksum trailers: drop checksums=when_supported.",
}

# The right that each action of S3 needs, as a policy names it.
_RIGHTS: Final[dict[str, str]] = {
    "PutObject": "s3:PutObject",
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "ListObjectsV2": "s3:ListBucket",
    "DeleteObject": "s3:DeleteObject",
    "CreateBucket": "s3:CreateBucket",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObjectLockConfiguration": "s3:GetBucketObjectLockConfiguration",
    "GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}
_ON_THE_BUCKET: Final = " on the bucket itself (arn:aws:s3:::bucket, without /*)"
# What a policy that has the right may still miss.
_HINTS: Final[dict[str, str]] = {
    "s3:GetObject": ", or s3:ListBucket on the bucket: without that S3 calls a missing object forbidden",
    "s3:ListBucket": _ON_THE_BUCKET,
    "s3:ListBucketMultipartUploads": _ON_THE_BUCKET,
}
_SHOWN_CHARACTERS: Final = 300

# Two conditional writes met, or two creations of a bucket. Neither has won, and each may try again.
CONFLICTS: Final = frozenset({"ConditionalRequestConflict", "OperationAborted"})


# The range starts at the end of the object or past it: the result is empty, and no error.
MISSING_RANGE: Final = frozenset({"InvalidRange", "416"})


def error_of(
    code: str,
    status: int | None,
    *,
    subject: str,
    key: str | None,
    verb: str = "",
    is_conditional: bool = False,
    server_message: str = "",
) -> StorageError:
    """Return the error that an answer means.

    Args:
        code: The error code that the server gave; on a HEAD the status as text.
        status: The HTTP status; None if the answer had none.
        subject: The request, for the message: "writing 'a/b' in s3://bucket".
        key: The key concerned, if there is one.
        verb: The action of S3, which names the right that may be missing.
        is_conditional: Whether the request was a write-once put. Only then does "not implemented" mean that the server
            has no such puts.
        server_message: The server's message.
    """
    error_type = _ERRORS.get(code) or (StorageDenied if _DENIALS.search(code) else _STATUSES.get(status or 0))
    if error_type is None:
        error_type = StorageUnavailable if (status or 0) >= 500 else StorageError
    remedy = _REMEDIES.get(code)
    if error_type is ConditionalWriteUnsupported and not is_conditional:
        error_type = StorageError
        remedy = "The store lacks what was asked: try without checksums=when_supported, or upgrade the store."
    if error_type is ObjectNotFound and key is None:
        error_type = BucketNotFound
    right = _missing_right(code, status, verb) if error_type is StorageDenied and remedy is None else ""
    if error_type is StorageDenied and remedy is None:
        remedy = _remedy_for_denial(code, right)
    answer = f"{code}, status {status}" if status is not None and code != str(status) else code
    # Known codes need no words of the server's.
    words = (
        f": {server_message[:_SHOWN_CHARACTERS]}"
        if server_message and error_type in (StorageError, StorageDenied)
        else ""
    )
    error = error_type(f"{subject} was answered with {answer or 'no code'}{words}", key=key, remedy=remedy)
    if isinstance(error, StorageDenied):
        error.right = right
    return error


def lacks_batches(code: str, status: int | None) -> bool:
    """Return whether the answer to a batch delete may mean that the server has no such request for these credentials.

    Servers differ in their answers. If another reason was behind it, the single deletes that follow will meet it again.
    Ceph 16 asks for s3:DeleteObject on the bucket itself for a batch, and for one object only on that.
    """
    if code == "AccessDenied":
        return True
    if (code in _ERRORS and code != "NotImplemented") or _DENIALS.search(code):
        return False
    return status in (400, 405, 411, 415, 501)


def wants_digest(code: str, server_message: str) -> bool:
    """Return whether a write was refused for lack of a digest, as a bucket with object lock does."""
    return (
        "ObjectLock" in code
        or "MissingContentMD5" in code
        or bool(re.search(r"content-md5", server_message, re.IGNORECASE))
    )


def _missing_right(code: str, status: int | None, verb: str) -> str:
    """Return the right whose lack explains a denial best; "" if the denial has another reason."""
    if code.startswith(("KMS", "Kms")):
        return ""
    lacks = "Denied" in code or (status == 403 and code in ("403", "", "Forbidden"))
    return _RIGHTS.get(verb, "") if lacks else ""


def _remedy_for_denial(code: str, right: str) -> str | None:
    if code.startswith(("KMS", "Kms")):
        return (
            "The bucket is encrypted with a key of KMS: the credentials need kms:GenerateDataKey and kms:Decrypt on it."
        )
    if not right:
        return None
    return f"The credentials may lack {right}{_HINTS.get(right, '')}. See also the bucket policy, and the clock."
