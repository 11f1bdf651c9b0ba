"""How a bucket is reached: endpoint, region and credentials, as boto3's chain finds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class S3Access:
    """How a bucket is reached.

    Attributes:
        endpoint: URL of the server; None for AWS itself.
        region: The region; None if nothing names one.
        is_virtual_hosted: Whether the bucket is part of the host's name, rather than of the path.
        session: The boto3 session whose credentials count; None if those in the environment do.
    """

    endpoint: str | None
    region: str | None
    is_virtual_hosted: bool
    session: Any = None


def access_of(environ: Mapping[str, str], *, bucket: str) -> S3Access | None:
    """What the environment alone says, or None if boto3 would look elsewhere too: at a profile, a file, a role."""
    if any(environ.get(name) for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE")):
        return None
    if not environ.get("AWS_ACCESS_KEY_ID") or not environ.get("AWS_SECRET_ACCESS_KEY"):
        return None
    config = Path(environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    region = environ.get("AWS_DEFAULT_REGION") or ("us-east-1" if endpoint else None)
    if config.exists() or region is None:
        return None
    return S3Access(endpoint, region, is_virtual_hosted=endpoint is None and "." not in bucket)
