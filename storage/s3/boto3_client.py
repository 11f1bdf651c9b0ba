"""Makes boto3's clients, and asks them where they would send a request."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config

from .. import deadline
from ..hashing import content_md5
from .endpoint import Keys, S3Access, is_of_aws, proxy_for

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECTIONS: Final = 32
_SIGNED: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d+/([^/]+)/s3/")
# Directory buckets are signed for by sessions of their own, for which there would have to be a request.
_EXPRESS: Final = "--x-s3"


@dataclass(frozen=True, slots=True)
class Settled:
    """Where a store's objects lie. What its first client found holds for all others, in children as well.

    Attributes:
        endpoint: URL of the server; None for AWS itself.
        region: The region.
    """

    endpoint: str | None
    region: str | None


@dataclass(frozen=True, slots=True, repr=False)
class Made:
    """A client, and what it was made of.

    Attributes:
        client: boto3's client.
        factory: The boto3 session that made it.
        session: The botocore session below that, which knows the credentials.
        config: What the client was told.
        is_renewable: Whether its credentials are asked for again by and by.
        at: When it was made, by `time.monotonic()`.
    """

    client: S3Client
    factory: boto3.session.Session
    session: Any
    config: Config
    is_renewable: bool
    at: float

    @property
    def settled(self) -> Settled | None:
        """Where it sends its requests; None if that is AWS, whose servers boto3 finds in its own way."""
        endpoint = self.client.meta.endpoint_url
        return None if is_of_aws(endpoint) else Settled(endpoint, self.client.meta.region_name)


def new_client(checksums: str, settled: Settled | None = None) -> Made:
    """Make a client. May ask a credential helper or a server of credentials, as boto3's chain says.

    Args:
        checksums: boto3's checksum mode.
        settled: Where an earlier client of the same store sent its requests.
    """
    session = botocore.session.get_session()
    told: dict[str, Any] = {"region_name": settled.region} if settled is not None else {}
    if settled is not None and settled.endpoint is not None:
        told["endpoint_url"] = settled.endpoint
    mode = cast(Any, checksums)
    config = Config(
        # All retrying is done by the store, within one limit.
        retries={"mode": "legacy", "total_max_attempts": 1},
        connect_timeout=deadline.LIMITS.connect_s,
        read_timeout=deadline.LIMITS.answer_s,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="fanout-storage",
        request_checksum_calculation=mode,
        response_checksum_validation=mode,
    )
    if settled is not None and settled.endpoint is None:
        # Not a name that the type stubs know.
        ignoring: Any = {"ignore_configured_endpoint_urls": True}
        config = config.merge(Config(**ignoring))
    # A session of its own: boto3's default session is shared, and not safe to use from threads.
    factory = boto3.session.Session(botocore_session=session)
    client = factory.client("s3", config=config, **told)
    is_custom = not is_of_aws(client.meta.endpoint_url)
    if is_custom and "addressing_style" not in (getattr(client.meta.config, "s3", None) or {}):
        # bucket.host resolves at AWS; at an endpoint of one's own it rarely does.
        config = config.merge(Config(s3={"addressing_style": "path"}))
        client = factory.client("s3", config=config, **told)
    if is_custom:
        client.meta.events.register("before-call.s3.DeleteObjects", _digest_by_md5)
    is_renewable = hasattr(session.get_credentials(), "refresh_needed")
    return Made(client, factory, session, config, is_renewable, time.monotonic())


def access_by(made: Made, bucket: str) -> S3Access | None:
    """How boto3 gets to a bucket, in terms that another client understands; None if it has none for it.

    Makes no request, unless credentials have to be asked for: a client like the given one is stopped as it begins to
    send.
    """
    credentials = made.session.get_credentials()
    if credentials is None or bucket.endswith(_EXPRESS):
        return None
    endpoint = made.settled.endpoint if made.settled is not None else None
    scout = made.factory.client(
        "s3", config=made.config, region_name=made.client.meta.region_name, endpoint_url=endpoint
    )
    scout.meta.events.register_first("before-send.s3.HeadObject", _stop)
    try:
        scout.head_object(Bucket=bucket, Key="x")
    except _Stopped as stopped:
        url, headers = stopped.url, stopped.headers
    else:
        return None
    signed = _SIGNED.match(headers.get("authorization", ""))
    own_certificates = url.startswith("https:") and made.session.get_config_variable("ca_bundle")
    if signed is None or own_certificates or urlsplit(url).query:
        return None

    def current() -> Keys:
        frozen = credentials.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    return S3Access(
        endpoint,
        signed[1],
        url.removesuffix("/x"),
        current(),
        proxy_for(url),
        current if made.is_renewable else None,
    )


class _Stopped(Exception):
    """A request was stopped as it was about to be sent."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__()
        self.url = url
        self.headers = headers


def _stop(request: Any, **_: object) -> None:
    texts = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    raise _Stopped(request.url, texts)


def _digest_by_md5(params: dict[str, Any], **_: object) -> None:
    """Send Content-MD5 with a batch delete: it is required, and look-alikes often know no other digest."""
    params.get("context", {}).pop("checksum", None)
    params["headers"]["Content-MD5"] = content_md5(params["body"])
