"""The examination of a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ..examination import Examination, Finding, Verdict
from .boto3_examination import S3ExaminedBucket
from .features import check_features
from .location import S3Location
from .rights import check_rights

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class S3Examination(Examination):
    """The checks of a bucket.

    Args:
        location: Bucket and prefix.
        endpoint: URL of the server; "" for the one of boto3's chain.
    """

    def __init__(self, location: S3Location, *, endpoint: str = "") -> None:
        self._bucket = S3ExaminedBucket.at(location, endpoint)

    def check_connection(self) -> Finding:
        endpoint = urlsplit(self._bucket.endpoint)
        seen = [f"{endpoint.scheme}://{endpoint.netloc.rpartition('@')[2]}"]
        if self._bucket.proxy is not None:
            seen.append(f"through the proxy {self._bucket.proxy}")
        if endpoint.scheme == "https":
            seen.append(f"with certificates of {self._bucket.own_certificates or 'the usual authorities'}")
        elif endpoint.hostname not in _LOOPBACK:
            return Finding(
                "connection",
                f"{', '.join(seen)}, not encrypted",
                Verdict.CHANGE,
                "The network can read all data of jobs: use https://, with AWS_CA_BUNDLE for an authority of your own.",
            )
        return Finding("connection", ", ".join(seen))

    def check_rights(self) -> Iterator[Finding]:
        yield from check_rights(self._bucket)

    def check_features(self) -> Iterator[Finding]:
        yield from check_features(self._bucket)
