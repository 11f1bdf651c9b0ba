"""The access of a process to external objects: roots, endpoints and clients."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeVar

from storage import Bucket, PlainFiles, S3Server, UploadStore, open_bucket, open_uploads

from ..config.settings import Config, from_environment
from ..errors import ConfigError, InvalidLocation, NotAllowed
from .location import Location, parse_location

T = TypeVar("T")

Purpose = Literal["reading", "writing"]
"""The purpose for which a location is opened."""

_SETTINGS: Final[dict[Purpose, str]] = {"reading": "source_roots", "writing": "sink_roots"}
_NAMED_ROOT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=(s3://.*)", re.DOTALL)
_SERVER_FIELDS: Final = tuple(S3Server.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Root:
    """A folder or bucket that a process may use, with everything below it.

    Attributes:
        endpoint: Name of the endpoint; None for the one of the environment, and for files.
        location: The folder.
    """

    endpoint: str | None
    location: Location

    @classmethod
    def parse(cls, text: str) -> Root:
        """Return the root that a setting names: a URL or path, or `name=s3://bucket/folder` for a named endpoint.

        Raises:
            InvalidLocation: It is neither.
        """
        named = _NAMED_ROOT.fullmatch(text)
        return cls(named[1], parse_location(named[2])) if named else cls(None, parse_location(text))

    def holds(self, location: Location, endpoint: str | None) -> bool:
        """Return whether a location lies below this root. A link counts as the file that it leads to."""
        if location.is_local and self.location.is_local:
            return _real(location).is_below(_real(self.location))
        return self.endpoint == endpoint and location.is_below(self.location)


@dataclass(frozen=True, slots=True)
class Access:
    """The access of a process to external objects.

    Attributes:
        source_roots: Roots for reading; None for no limit.
        sink_roots: Roots for writing; None for no limit.
        servers: Name of an endpoint -> its server.
    """

    source_roots: tuple[Root, ...] | None = ()
    sink_roots: tuple[Root, ...] | None = ()
    servers: Mapping[str, S3Server] = field(default_factory=dict)
    _buckets: dict[tuple[str, str | None], Bucket] = field(default_factory=dict, repr=False, compare=False)
    _uploads: dict[tuple[str, str | None], UploadStore] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of_worker(cls, config: Config) -> Access:
        """Return the access of a worker: below the roots of its settings, and nowhere else.

        Raises:
            ConfigError: A root or an endpoint is malformed.
        """
        return cls(
            _parse_roots("source_roots", config.source_roots),
            _parse_roots("sink_roots", config.sink_roots),
            _parse_servers(config),
        )

    @classmethod
    def of_caller(cls, config: Config | None = None) -> Access:
        """Return the access of a process that runs what it names itself: anywhere, unless a setting says where.

        Args:
            config: Its settings; None for those of the environment.

        Raises:
            ConfigError: A root or an endpoint is malformed.
        """
        config = config or Config.read({"store": "-"}, from_environment(os.environ))
        return cls.of_worker(config).as_caller()

    def as_caller(self) -> Access:
        """Return the same access, without a limit where no root is set, with the same clients."""
        return replace(self, source_roots=self.source_roots or None, sink_roots=self.sink_roots or None)

    def open(self, location: Location, *, endpoint: str | None = None) -> Bucket:
        """Return the bucket of a location for reading, or the files of this machine. No request.

        One client per bucket and endpoint, which the threads of this process share.

        Args:
            location: An object, or a folder with all that lies below it.
            endpoint: Name of the endpoint; None for the one of the environment.

        Raises:
            NotAllowed: The location does not lie below a root of this process.
            ConfigError: This process has no endpoint of that name.
            MissingPackage: obstore is not installed.
        """
        self.check(location, endpoint=endpoint)
        return _FILES if location.is_local else self._client(self._buckets, open_bucket, location.bucket, endpoint)

    def open_uploads(self, location: Location, *, endpoint: str | None = None) -> UploadStore:
        """Return the bucket of a location, for uploads. No request.

        One client per bucket and endpoint, which the threads of this process share. It is boto3's.

        Args:
            location: The folder of a sink in a bucket.
            endpoint: Name of the endpoint; None for the one of the environment.

        Raises:
            NotAllowed: The location does not lie below a root of this process.
            ConfigError: This process has no endpoint of that name.
        """
        self.check(location, endpoint=endpoint, purpose="writing")
        return self._client(self._uploads, open_uploads, location.bucket, endpoint)

    def check(self, location: Location, *, endpoint: str | None = None, purpose: Purpose = "reading") -> None:
        """Check that this process may use a location. No request; for a file, its links are followed.

        Raises:
            NotAllowed: It may not. The error names the setting and its value.
        """
        roots = self.source_roots if purpose == "reading" else self.sink_roots
        if roots is None or any(root.holds(location, endpoint) for root in roots):
            return
        named = [f"{root.endpoint}={root.location.url}" if root.endpoint else root.location.url for root in roots]
        url = f"{endpoint}={location.url}" if endpoint else location.url
        raise NotAllowed(url, _SETTINGS[purpose], named)

    def _client(
        self,
        cached: dict[tuple[str, str | None], T],
        connect: Callable[[str, S3Server | None], T],
        bucket: str,
        endpoint: str | None,
    ) -> T:
        """Return the client of a bucket on an endpoint, made at first use."""
        key = (bucket, endpoint)
        client = cached.get(key)
        if client is None:
            server = self._server(endpoint) if endpoint is not None else None
            # Of two threads that make one each, both use the first.
            client = cached.setdefault(key, connect(bucket, server))
        return client

    def _server(self, endpoint: str) -> S3Server:
        if endpoint not in self.servers:
            known = ", ".join(sorted(self.servers)) or "none"
            raise ConfigError(f"external_endpoints: this process has no endpoint {endpoint!r}; it has {known}")
        return self.servers[endpoint]


_FILES: Final = PlainFiles()


def _real(location: Location) -> Location:
    return Location(location.bucket, os.path.realpath(f"/{location.key}").strip("/"))


def _parse_roots(setting: str, roots: Sequence[str]) -> tuple[Root, ...]:
    try:
        return tuple(Root.parse(root) for root in roots)
    except InvalidLocation as error:
        raise ConfigError(f"setting {setting}: {error}") from error


def _parse_servers(config: Config) -> dict[str, S3Server]:
    servers: dict[str, S3Server] = {}
    for name, settings in config.external_endpoints.items():
        where = f"external_endpoints[{name!r}]"
        if not isinstance(settings, Mapping) or not settings.get("endpoint_url"):
            raise ConfigError(f"{where} must be a mapping with an endpoint_url")
        unknown = sorted(settings.keys() - set(_SERVER_FIELDS))
        if unknown:
            raise ConfigError(f"{where} has unknown fields: {', '.join(unknown)}; known: {', '.join(_SERVER_FIELDS)}")
        given: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
        if not all(isinstance(value, str) for value in given.values()):
            raise ConfigError(f"{where} has a value that is no text")
        servers[name] = S3Server(**given)
    return servers
