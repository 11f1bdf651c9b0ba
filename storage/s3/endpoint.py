"""The way to a bucket: server, region, credentials and proxy, decided once, as boto3's chain says.

Each client is then given all of it, so that none reads the environment by itself. Otherwise a variable that only one
client heeds would make objects go to two places.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import InvalidStoreUrl

_ENDPOINTS: Final = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
# Variables that only boto3 understands: where one of them is set, boto3 is asked.
_CHAIN_ONLY: Final = (
    "AWS_ACCOUNT_ID_ENDPOINT_MODE",
    "AWS_AUTH_SCHEME_PREFERENCE",
    "AWS_CA_BUNDLE",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_DATA_PATH",
    "AWS_DEFAULTS_MODE",
    "AWS_DEFAULT_PROFILE",
    "AWS_DISABLE_S3_EXPRESS_SESSION_AUTH",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "AWS_PROFILE",
    "AWS_S3_DISABLE_MULTIREGION_ACCESS_POINTS",
    "AWS_S3_USE_ARN_REGION",
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT",
    "AWS_SECURITY_TOKEN",
    "AWS_SIGV4A_SIGNING_REGION_SET",
    "AWS_USE_DUALSTACK_ENDPOINT",
    "AWS_USE_FIPS_ENDPOINT",
)
_PLAIN_REGION: Final = re.compile(r"(?:af|ap|ca|eu|il|me|mx|sa|us)-[a-z]+-[1-9]")
_PLAIN_BUCKET: Final = re.compile(r"[a-z0-9](?!.*--)[a-z0-9-]{1,61}[a-z0-9]")
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_SHOWN_CHARACTERS: Final = 100


@dataclass(frozen=True, slots=True)
class Keys:
    """Credentials of a moment; their repr shows no secret."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class S3Access:
    """The way to a bucket.

    Attributes:
        endpoint: URL of the server, as it was configured; None for AWS itself.
        region: The region that requests are signed for.
        bucket_url: The URL that a key is appended to, with the bucket in its host or its path.
        keys: The credentials.
        proxy: URL of the proxy to use; None for none.
        renew: Returns the credentials of the moment, which may take time; None where they never change.
    """

    endpoint: str | None
    region: str
    bucket_url: str
    keys: Keys
    proxy: str | None = field(default=None, repr=False)
    renew: Callable[[], Keys] | None = field(default=None, repr=False, compare=False)

    def with_keys(self, keys: Keys) -> S3Access:
        """Return the same way with other credentials."""
        return replace(self, keys=keys)


def read_access(environ: Mapping[str, str], *, bucket: str) -> S3Access | None:
    """Return the way that the environment alone gives, or None if boto3 would read a profile, a file or a role too.

    The result is the same as boto3's, without importing it.

    Raises:
        InvalidStoreUrl: The endpoint is no URL.
    """
    if any(environ.get(name) for name in _CHAIN_ONLY):
        return None
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not key or not secret or _has_files(environ):
        return None
    keys = Keys(key, secret, environ.get("AWS_SESSION_TOKEN") or None)
    region = environ.get("AWS_DEFAULT_REGION") or None
    endpoint = next((environ[name] for name in _ENDPOINTS if environ.get(name)), None)
    if endpoint is not None:
        check_endpoint(environ)
        region = region or "us-east-1"
        if not re.fullmatch(r"[a-z0-9-]+", region) or is_of_aws(endpoint):
            return None
        bucket_url = f"{endpoint.rstrip('/')}/{bucket}"
    elif region is None or not _PLAIN_REGION.fullmatch(region) or not _PLAIN_BUCKET.fullmatch(bucket):
        return None
    else:
        # The host of the oldest region does not contain its name.
        host = "s3.amazonaws.com" if region == "us-east-1" else f"s3.{region}.amazonaws.com"
        bucket_url = f"https://{bucket}.{host}"
    return S3Access(endpoint, region, bucket_url, keys, find_proxy(bucket_url))


def check_endpoint(environ: Mapping[str, str]) -> None:
    """Check that the endpoint in the environment is a URL.

    Raises:
        InvalidStoreUrl: It is not. The error names the variable, and the text to write instead.
    """
    for name in _ENDPOINTS:
        if environ.get(name):
            flaw = find_endpoint_flaw(name, environ[name])
            if flaw is not None:
                raise flaw
            # boto3 takes the first one that is set.
            return


def find_endpoint_flaw(name: str, endpoint: str) -> InvalidStoreUrl | None:
    """Return an error if an endpoint is no URL of a server, else None.

    Args:
        name: The variable that holds it, for the message.
        endpoint: The URL.
    """
    shown = endpoint[:_SHOWN_CHARACTERS] if "@" not in endpoint else "…@" + endpoint.rpartition("@")[2]
    try:
        parts = urlsplit(endpoint)
        host, port_is_good = parts.hostname or "", parts.port is None or parts.port > 0
    except ValueError:
        parts, host, port_is_good = urlsplit(""), "", False
    if parts.scheme in ("http", "https") and port_is_good and _HOST.fullmatch(host) and not re.search(r"\s", endpoint):
        return None
    remedy = "Write the URL of the server: http://host:port or https://host."
    if "://" not in endpoint and re.fullmatch(r"[A-Za-z0-9._-]+(:\d+)?(/\S*)?", endpoint):
        remedy = f"Write http://{endpoint}, or https:// if the server speaks TLS."
    return InvalidStoreUrl(f"{name} is {shown!r}, which is no URL of a server", remedy=remedy)


def is_of_aws(endpoint: str) -> bool:
    """Return whether a server is one of AWS's own."""
    host = urlsplit(endpoint).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn"))


def find_proxy(url: str) -> str | None:
    """Return the proxy for a URL, as boto3 finds it; None for none."""
    parts = urlsplit(url)
    try:
        if proxy_bypass(parts.netloc):
            return None
    except (TypeError, OSError):
        pass
    return getproxies().get(parts.scheme)


def _has_files(environ: Mapping[str, str]) -> bool:
    """Return whether a file exists in which boto3 would find settings."""
    names = {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}
    for name, usual in names.items():
        try:
            path = Path(environ.get(name) or usual).expanduser()
            if path.exists() and str(path) != os.devnull:
                return True
        except (OSError, RuntimeError):
            return True
    return False
