"""The base class of private servers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self


class Server(ABC):
    """A running server. As a context manager it stops at exit."""

    @property
    @abstractmethod
    def environment(self) -> Mapping[str, str]:
        """The environment variables by which a client reaches it."""

    @abstractmethod
    def rss_bytes(self) -> int:
        """Return the resident memory of all its processes, in bytes."""

    @abstractmethod
    def stop(self) -> None:
        """End all its processes and wait until they are gone. Idempotent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def s3_environment(*, endpoint: str, access_key: str, secret_key: str) -> dict[str, str]:
    """Return the variables by which boto3 and libraries on top of it reach an S3 server."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        # Without it a client without credentials requests them from the network, and waits.
        "AWS_EC2_METADATA_DISABLED": "true",
    }
