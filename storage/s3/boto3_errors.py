"""Translation of the errors of boto3 and botocore into errors of this package."""

from __future__ import annotations

import re
from typing import Final

from botocore import exceptions as boto
from urllib3.exceptions import HTTPError

from ..errors import InvalidStoreUrl, StorageDenied, StorageError, StorageUnavailable
from .error_codes import error_of

_NO_CREDENTIALS: Final = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
    boto.NoAuthTokenError,
    boto.TokenRetrievalError,
    boto.SSOError,
    boto.LoginError,
    boto.MetadataRetrievalError,
    boto.InfiniteLoopConfigError,
    boto.RefreshWithMFAUnsupportedError,
    boto.UnknownCredentialError,
)
_UNREACHABLE: Final = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_NO_ANSWER: Final = (boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, HTTPError, ConnectionError)
_CONFIG_FILE: Final = (boto.ConfigParseError, boto.ConfigNotFound, boto.InvalidConfigError, boto.InvalidDefaultsMode)
_READ_THE_FILE: Final = (
    "Check AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE, or ~/.aws/config and ~/.aws/credentials."
)
# Actions on the way to credentials. Their errors are never about an object.
_CREDENTIAL_CALLS: Final = re.compile(r"AssumeRole|GetRoleCredentials|CreateToken|GetSessionToken|CreateOAuth2Token")
_WAYS: Final[dict[type[Exception], str]] = {
    boto.SSLError: (
        "If the server's certificate is of an authority of your own, name its file in AWS_CA_BUNDLE, for callers and "
        "workers."
    ),
    boto.ProxyConnectionError: "Check HTTP_PROXY or HTTPS_PROXY, or name the server in NO_PROXY.",
}
_SHOWN_CHARACTERS: Final = 300


class BodyError(Exception):
    """An answer began well and its body broke off."""


def translate_error(
    error: Exception, *, subject: str, key: str | None, verb: str = "", is_conditional: bool = False
) -> StorageError:
    """Return the error of this package that an exception means; every exception means one.

    Args:
        error: The exception that boto3 raised, while making a client or a request.
        subject: The request, for the message: "writing 'a/b' in s3://bucket".
        key: The key concerned, if there is one.
        verb: The action of S3, for the remedy: PutObject.
        is_conditional: Whether the request was a write-once put.
    """
    if isinstance(error, StorageError):
        return error
    if isinstance(error, boto.ClientError):
        status = status_of(error)
        if _CREDENTIAL_CALLS.match(error.operation_name):
            error_type = StorageUnavailable if (status or 0) >= 500 else StorageDenied
            return error_type(f"{subject} found no usable credentials: {error}", key=key)
        return error_of(
            code_of(error),
            status,
            subject=subject,
            key=key,
            verb=verb,
            is_conditional=is_conditional,
            server_message=str(error.response.get("Error", {}).get("Message") or ""),
        )
    if isinstance(error, _NO_CREDENTIALS):
        return StorageDenied(f"{subject} found no usable credentials: {_words(error)}", key=key)
    if isinstance(error, (*_NO_ANSWER, BodyError)):
        remedy = next((words for kind, words in _WAYS.items() if isinstance(error, kind)), None)
        return StorageUnavailable(f"{subject} got no whole answer: {_words(error)}", key=key, remedy=remedy)
    if isinstance(error, _CONFIG_FILE):
        return StorageError(
            f"{subject}: the configuration for AWS can't be read: {_words(error)}", key=key, remedy=_READ_THE_FILE
        )
    if isinstance(error, boto.InvalidRegionError | boto.NoRegionError):
        return InvalidStoreUrl(f"{subject}: {_words(error)}", key=key, remedy="Check AWS_DEFAULT_REGION.")
    if isinstance(error, ValueError) and "endpoint" in str(error).lower():
        return InvalidStoreUrl(
            f"{subject}: {re.sub(r'//[^/@ ]*@', '//…@', _words(error))}",
            key=key,
            remedy="Check AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, or endpoint_url of the profile: http://host:port.",
        )
    if isinstance(error, boto.BotoCoreError | OSError):
        return StorageError(f"{subject} failed: {type(error).__name__}: {_words(error)}", key=key)
    # For example a credential helper that printed no JSON. The text may hold what it printed.
    return StorageError(
        f"{subject} failed: {type(error).__name__} in boto3", key=key, remedy="See the cause, and " + _lowered()
    )


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether no connection was made at all."""
    return isinstance(error, _UNREACHABLE)


def code_of(error: boto.ClientError) -> str:
    """Return the error code of an answer of S3; on a HEAD it is the status as text."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: boto.ClientError) -> int | None:
    """Return the HTTP status of an answer."""
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _words(error: Exception) -> str:
    return str(error)[:_SHOWN_CHARACTERS]


def _lowered() -> str:
    return _READ_THE_FILE[0].lower() + _READ_THE_FILE[1:]
