"""obstore's clients, with so many settings that no variable of the environment reaches them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from obstore.exceptions import UnknownConfigurationKeyError
from obstore.store import S3Store as Client

from .. import deadline
from ..obstore_errors import is_panic
from .endpoint import S3Access
from .location import S3Location

# obstore retries a short failure. boto3 takes over a longer one: it has more patience and names the cause.
_RETRIES: Final = 2
_LARGE_TIMEOUT_S: Final = 3600.0
# How often credentials that may change are read again.
_RENEWAL_S: Final = 60.0

# Variables that obstore may read without harm. It is given credentials, so their sources have no effect, and the
# options of its HTTP client that are passed replace all others.
_HARMLESS: Final = frozenset(
    {
        "access_key_id",
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "container_authorization_token_file",
        "container_credentials_full_uri",
        "container_credentials_relative_uri",
        "default_content_type",
        "endpoint_url_sts",
        "http1_only",
        "http2_keep_alive_interval",
        "http2_keep_alive_timeout",
        "http2_keep_alive_while_idle",
        "http2_max_frame_size",
        "http2_only",
        "imdsv1_fallback",
        "metadata_endpoint",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_ca_certificate",
        "proxy_excludes",
        "proxy_url",
        "randomize_addresses",
        "read_timeout",
        "role_arn",
        "role_session_name",
        "root_certificate",
        "secret_access_key",
        "session_token",
        "sse_bucket_key_enabled",
        "sse_customer_key_base64",
        "sse_kms_key_id",
        "sts_endpoint",
        "timeout",
        "token",
        "user_agent",
        "web_identity_token_file",
    }
)
_ALIASES: Final = {"bucket_name": "bucket", "default_region": "region", "endpoint_url": "endpoint"}
# Variables by which one of rustls and boto3 finds certificates, and the other does not.
_CERTIFICATES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_TOKENS: Final = ("aws_token", "aws_session_token")
# Nothing listens there. Should the exclusion of `_make_client` fail to match, no request takes a wrong way.
_NO_PROXY: Final = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True, repr=False)
class Clients:
    """obstore's clients in one process.

    Attributes:
        quick: For small bodies and those of unknown size.
        large: For large bodies; without a limit for the whole of a request.
        access: The way to the bucket.
        at: When they were made, by `time.monotonic()`.
        good_until: When the credentials are to be read again.
    """

    quick: Client
    large: Client
    access: S3Access
    at: float
    good_until: float

    @staticmethod
    def next_renewal(access: S3Access) -> float:
        """Return when credentials that are good now are to be read again, by `time.monotonic()`."""
        return time.monotonic() + _RENEWAL_S if access.renew is not None else float("inf")


def make_clients(access: S3Access, location: S3Location, environ: Mapping[str, str] = os.environ) -> Clients | None:
    """Return clients that go the given way, or None if the environment would make obstore go another one."""
    if access.bucket_url.startswith("https:") and any(environ.get(name) for name in _CERTIFICATES):
        return None
    bucket = location.bucket
    settings = _make_settings(access) | _make_encryption(location)
    names = {name.lower() for name in environ}
    # Constant keys cost less than a credential provider, but obstore would add a token from the environment.
    if access.keys.token is None and names.isdisjoint(_TOKENS):
        settings |= {"access_key_id": access.keys.access_key, "secret_access_key": access.keys.secret_key}
    # Some systems store proxies elsewhere than in the environment.
    is_plain = sys.platform == "linux" and access.proxy is None and not any(name.endswith("_proxy") for name in names)
    proxy = None if is_plain else access.proxy or _NO_PROXY
    if any(_may_override(name, settings) for name in environ if name.startswith("AWS_")):
        return None
    try:
        quick = _make_client(access, bucket, settings, proxy, timeout_s=deadline.LIMITS.answer_s)
        large = _make_client(access, bucket, settings, proxy, timeout_s=_LARGE_TIMEOUT_S)
    except BaseException as error:
        if isinstance(error, Exception) or is_panic(error):
            # boto3 can do it, or names the cause.
            return None
        raise
    return Clients(quick, large, access, time.monotonic(), Clients.next_renewal(access))


def _make_settings(access: S3Access) -> Any:
    """Return all settings that obstore would otherwise read or guess."""
    settings: dict[str, Any] = {
        # obstore uses the URL unchanged, bucket included, in either style.
        "virtual_hosted_style_request": True,
        "endpoint": access.bucket_url,
        "aws_endpoint_url_s3": access.bucket_url,
        "region": access.region,
        "unsigned_payload": True,
        "skip_signature": False,
        "s3_express": False,
        "request_payer": False,
        "conditional_put": "etag",
        "disable_tagging": False,
        # Single objects are deleted with obstore, and some servers have no batches.
        "disable_bulk_delete": True,
    }
    return {name: value for name, value in settings.items() if _is_known(name)}


def _make_encryption(location: S3Location) -> Any:
    """Return the settings by which each write asks for an encryption."""
    wanted = {"aws_server_side_encryption": location.encryption, "aws_sse_kms_key_id": location.kms_key}
    return {name: value for name, value in wanted.items() if value}


def _make_client(access: S3Access, bucket: str, settings: Any, proxy: str | None, *, timeout_s: float) -> Client:
    keys = access.keys
    credentials: Any = {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token,
        "expires_at": None,
    }
    options: Any = {
        "allow_http": True,
        "connect_timeout": timedelta(seconds=deadline.LIMITS.connect_s),
        "timeout": timedelta(seconds=timeout_s),
    }
    if proxy is not None:
        excluded = (urlsplit(access.bucket_url).hostname or "") if proxy == _NO_PROXY else ""
        options |= {"proxy_url": proxy, "proxy_excludes": excluded}
    return Client(
        bucket,
        config=settings,
        client_options=options,
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=deadline.LIMITS.answer_s / 8)},
        credential_provider=None if "access_key_id" in settings else lambda: credentials,
    )


def _may_override(variable: str, settings: Mapping[str, Any]) -> bool:
    """Return whether a variable of the environment may reach obstore in spite of the settings."""
    name = variable.lower()
    plain = name.removeprefix("aws_")
    if plain in _HARMLESS or not _is_known(name):
        return False
    given = {_ALIASES.get(known, known) for known in (key.removeprefix("aws_") for key in settings)} | {"bucket"}
    return _ALIASES.get(plain, plain) not in given


@lru_cache(maxsize=256)
def _is_known(name: str) -> bool:
    """Return whether the installed obstore has a setting of this name."""
    try:
        setting: Any = {name: ""}
        Client("bucket", config=setting)
    except UnknownConfigurationKeyError:
        return False
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
    return True
