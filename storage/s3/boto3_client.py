"""boto3's clients, and the requests that they would send."""

from __future__ import annotations

import functools
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError
from botocore.loaders import Loader

from .. import deadline
from ..hashing import content_md5
from .endpoint import Keys, S3Access, find_proxy, is_of_aws

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECTIONS: Final = 32
_SIGNED: Final = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d+/([^/]+)/s3/")
# Directory buckets need a session of their own, and so a request, before a URL can be signed.
_EXPRESS: Final = "--x-s3"


@dataclass(frozen=True, slots=True)
class Server:
    """The server of a store. The first client of a store decides it for all others, in child processes too.

    Attributes:
        endpoint: URL of the server; None for AWS itself.
        region: The region.
    """

    endpoint: str | None
    region: str | None


@dataclass(frozen=True, slots=True, repr=False)
class ProcessClient:
    """A client, and the objects that it was made of.

    Attributes:
        client: boto3's client.
        factory: The boto3 session that made it.
        session: The botocore session below that, which knows the credentials.
        config: The client's configuration.
        is_renewable: Whether its credentials expire and are asked for again.
        at: When it was made, by `time.monotonic()`.
    """

    client: S3Client
    factory: boto3.session.Session
    session: Any
    config: Config
    is_renewable: bool
    at: float

    @property
    def server(self) -> Server | None:
        """The server that gets its requests; None for AWS, whose servers boto3 finds in its own way."""
        endpoint = self.client.meta.endpoint_url
        return None if is_of_aws(endpoint) else Server(endpoint, self.client.meta.region_name)


class _SharedLoader(Loader):
    """A loader of botocore's models for all sessions of a process, which each read two megabytes of JSON otherwise."""

    @property
    def search_paths(self) -> list[str]:
        """A copy: each session of boto3's appends a folder, whose models a client does not use."""
        return list(super().search_paths)


@functools.cache
def _shared_loader(paths: str | None) -> _SharedLoader:
    return _SharedLoader(
        [os.path.expanduser(os.path.expandvars(path)) for path in (paths or "").split(os.pathsep) if path]
    )


def read_models() -> None:
    """Read the models and import the modules that a client needs, so that processes that are forked later need not.

    Makes a client with other credentials, without a request, and forgets it. A configuration that botocore can't read
    is left to the first request, which says what is wrong.
    """
    with suppress(BotoCoreError):
        new_client("when_required", Server("http://127.0.0.1:9", "us-east-1"), Keys("none", "none"))


def new_client(checksums: str, server: Server | None = None, keys: Keys | None = None) -> ProcessClient:
    """Return a new client. May ask a credential helper or a server of credentials, as boto3's chain says.

    Args:
        checksums: boto3's checksum mode.
        server: The server of an earlier client of the same store, or the one that a setting names.
        keys: Credentials that a setting names. The default is what boto3's chain says.
    """
    session = botocore.session.get_session()
    session.register_component("data_loader", _shared_loader(session.get_config_variable("data_path")))
    arguments: dict[str, Any] = {"region_name": server.region} if server is not None else {}
    if server is not None and server.endpoint is not None:
        arguments["endpoint_url"] = server.endpoint
    if keys is not None:
        session.set_credentials(keys.access_key, keys.secret_key, keys.token)
    mode = cast(Any, checksums)
    config = Config(
        # The store does all retrying, within one limit.
        retries={"mode": "legacy", "total_max_attempts": 1},
        connect_timeout=deadline.LIMITS.connect_s,
        read_timeout=deadline.LIMITS.answer_s,
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
        user_agent_extra="fanout-storage",
        request_checksum_calculation=mode,
        response_checksum_validation=mode,
    )
    if server is not None and server.endpoint is None:
        # The type stubs do not know this name.
        ignoring: Any = {"ignore_configured_endpoint_urls": True}
        config = config.merge(Config(**ignoring))
    # A session of its own: boto3's default session is shared, and not safe for use from threads.
    factory = boto3.session.Session(botocore_session=session)
    client = factory.client("s3", config=config, **arguments)
    is_custom = not is_of_aws(client.meta.endpoint_url)
    if is_custom and "addressing_style" not in (getattr(client.meta.config, "s3", None) or {}):
        # bucket.host resolves at AWS, and rarely at a custom endpoint.
        config = config.merge(Config(s3={"addressing_style": "path"}))
        client = factory.client("s3", config=config, **arguments)
    if is_custom:
        client.meta.events.register("before-call.s3.DeleteObjects", _digest_by_md5)
    is_renewable = hasattr(session.get_credentials(), "refresh_needed")
    return ProcessClient(client, factory, session, config, is_renewable, time.monotonic())


def find_access(process_client: ProcessClient, bucket: str) -> S3Access | None:
    """Return how boto3 reaches a bucket, in terms that another client understands, or None if it cannot be told.

    Makes no request, unless credentials have to be asked for: it stops a client like the given one before it sends.
    """
    credentials = process_client.session.get_credentials()
    if credentials is None or bucket.endswith(_EXPRESS):
        return None
    endpoint = process_client.server.endpoint if process_client.server is not None else None
    scout = process_client.factory.client(
        "s3", config=process_client.config, region_name=process_client.client.meta.region_name, endpoint_url=endpoint
    )
    scout.meta.events.register_first("before-send.s3.HeadObject", _stop)
    try:
        scout.head_object(Bucket=bucket, Key="x")
    except _Stopped as stopped:
        url, headers = stopped.url, stopped.headers
    else:
        return None
    signed = _SIGNED.match(headers.get("authorization", ""))
    own_certificates = url.startswith("https:") and process_client.session.get_config_variable("ca_bundle")
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
        find_proxy(url),
        current if process_client.is_renewable else None,
    )


class _Stopped(Exception):
    """A request was stopped before it was sent."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        super().__init__()
        self.url = url
        self.headers = headers


def _stop(request: Any, **_: object) -> None:
    """Raise `_Stopped` with the URL and the headers of the request."""
    texts = {
        name.lower(): value.decode() if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    raise _Stopped(request.url, texts)


def _digest_by_md5(params: dict[str, Any], **_: object) -> None:
    """Send Content-MD5 with a batch delete: S3 requires it, and other servers often know no other digest."""
    params.get("context", {}).pop("checksum", None)
    params["headers"]["Content-MD5"] = content_md5(params["body"])
