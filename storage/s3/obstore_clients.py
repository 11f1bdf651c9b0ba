"""Makes obstore's clients, told so much that nothing of the environment reaches them."""

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
from .endpoint import S3Access

# A hiccup is sat out here; what lasts is boto3's to sit out, which has more patience and names the cause.
_RETRIES: Final = 2
_LARGE_TIMEOUT_S: Final = 3600.0
# How often credentials that may change are looked at.
_RENEWAL_S: Final = 60.0

# What obstore may read of the environment without harm: where credentials come from, since it is given those, and the
# options of its HTTP client, since the ones that are passed replace all of them.
_WITHOUT_EFFECT: Final = frozenset(
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
# By which rustls finds certificates, and boto3 does not, or the other way round.
_CERTIFICATES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
_TOKENS: Final = ("aws_token", "aws_session_token")
# Nothing listens there: should the exclusion below ever fail to match, nothing is sent by a wrong way.
_NO_PROXY: Final = "http://127.0.0.1:9"


@dataclass(frozen=True, slots=True, repr=False)
class Clients:
    """obstore's clients in one process.

    Attributes:
        quick: For what is small, or of unknown size.
        large: For what is large; without a limit for the whole of a request.
        access: How they get there.
        at: When they were made, by `time.monotonic()`.
        good_until: When the credentials are to be looked at again.
    """

    quick: Client
    large: Client
    access: S3Access
    at: float
    good_until: float

    @staticmethod
    def next_look(access: S3Access) -> float:
        """When credentials that are good now are to be looked at again, by `time.monotonic()`."""
        return time.monotonic() + _RENEWAL_S if access.renewed is not None else float("inf")


def clients_by(access: S3Access, bucket: str, environ: Mapping[str, str] = os.environ) -> Clients | None:
    """Clients that go the given way, whatever the environment says; None if obstore can't be made to."""
    if access.bucket_url.startswith("https:") and any(environ.get(name) for name in _CERTIFICATES):
        return None
    settings = _settings(access)
    names = {name.lower() for name in environ}
    # Keys that never change cost less than something that gives them, but leave room for a token from elsewhere.
    if access.keys.token is None and names.isdisjoint(_TOKENS):
        settings |= {"access_key_id": access.keys.access_key, "secret_access_key": access.keys.secret_key}
    # Some systems keep proxies elsewhere than in the environment.
    is_plain = sys.platform == "linux" and access.proxy is None and not any(name.endswith("_proxy") for name in names)
    proxy = None if is_plain else access.proxy or _NO_PROXY
    if any(_may_stray(name, settings) for name in environ if name.startswith("AWS_")):
        return None
    try:
        quick = _client(access, bucket, settings, proxy, timeout_s=deadline.LIMITS.answer_s)
        large = _client(access, bucket, settings, proxy, timeout_s=_LARGE_TIMEOUT_S)
    except BaseException as error:
        if isinstance(error, Exception) or is_panic(error):
            # boto3 can do it, or says what is wrong.
            return None
        raise
    return Clients(quick, large, access, time.monotonic(), Clients.next_look(access))


def is_panic(error: BaseException) -> bool:
    """Whether it is a panic of obstore's, which is no Exception and can't be imported."""
    return type(error).__name__ == "PanicException"


def _settings(access: S3Access) -> Any:
    """All that obstore can be told, of what it would else read or guess."""
    told: dict[str, Any] = {
        # The URL is used as it is, bucket and all, in either style.
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
        "disable_bulk_delete": False,
    }
    return {name: value for name, value in told.items() if _is_known(name)}


def _client(access: S3Access, bucket: str, settings: Any, proxy: str | None, *, timeout_s: float) -> Client:
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


def _may_stray(variable: str, settings: Mapping[str, Any]) -> bool:
    """Whether a variable that is set may reach obstore past what it is told."""
    name = variable.lower()
    plain = name.removeprefix("aws_")
    if plain in _WITHOUT_EFFECT or not _is_known(name):
        return False
    told = {_ALIASES.get(known, known) for known in (key.removeprefix("aws_") for key in settings)} | {"bucket"}
    return _ALIASES.get(plain, plain) not in told


@lru_cache(maxsize=256)
def _is_known(name: str) -> bool:
    """Whether the installed obstore has a setting of that name."""
    try:
        setting: Any = {name: ""}
        Client("bucket", config=setting)
    except UnknownConfigurationKeyError:
        return False
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
    return True
