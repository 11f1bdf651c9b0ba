"""The location that an az:// or gs:// URL names: container or bucket, and prefix."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from ..errors import InvalidStoreUrl
from ..keys import read_prefix
from ..urls import split_url, unknown_scheme

_NAMES: Final = {
    "az": re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}"),
    "gs": re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]"),
}
SCHEMES: Final = tuple(_NAMES)
"""az for Azure Blob Storage, gs for Google Cloud Storage."""


@dataclass(frozen=True, slots=True)
class CloudLocation:
    """The location that an az:// or gs:// URL names.

    Attributes:
        scheme: One of `SCHEMES`.
        container: The container of Azure, or the bucket of Google.
        prefix: Prefix of every key: "" or segments that end in '/'.
    """

    scheme: str
    container: str
    prefix: str = ""

    @property
    def url(self) -> str:
        """The URL of this location, in its shortest form."""
        return f"{self.scheme}://{self.container}/{quote(self.prefix.rstrip('/'), safe='/~')}"


def parse_cloud_url(url: str) -> CloudLocation:
    """Return the location that an az:// or gs:// URL names.

    Raises:
        InvalidStoreUrl: It is no such URL, carries credentials or options, or has a malformed name or prefix. The
            message never repeats credentials.
    """
    parts = split_url(url)
    scheme = parts.scheme
    if scheme not in _NAMES:
        raise unknown_scheme(url)
    if "@" in parts.netloc or parts.query or parts.fragment or "#" in url:
        # The message does not repeat the URL: it may hold a secret.
        raise InvalidStoreUrl(
            f"the {scheme}:// URL has more than a container and a prefix",
            remedy="Account, credentials and endpoint come from the environment.",
        )
    if not _NAMES[scheme].fullmatch(parts.netloc):
        raise InvalidStoreUrl(f"{parts.netloc[:80]!r} is no name that a container or bucket of {scheme}:// can have")
    return CloudLocation(scheme, parts.netloc, read_prefix(parts.path, scheme=scheme))
