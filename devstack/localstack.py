"""A private LocalStack without Docker: its S3, in its own Python environment."""

from __future__ import annotations

import os
import urllib.request
from pathlib import Path

from .errors import ServerUnavailable
from .ports import LOOPBACK, free_port
from .process import Process
from .server import Server, s3_environment

PYTHON_VARIABLE = "FANOUT_LOCALSTACK_PYTHON"
_REMEDY = f"localstack/install-native, then export {PYTHON_VARIABLE} as it says"

# LocalStack ignores the host part of GATEWAY_LISTEN and listens on every interface, without authentication.
# This start binds its endpoints to the loopback interface.
_START = """\
import functools
from twisted.internet import endpoints
endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
from localstack.runtime.main import main
main()
"""


class LocalStack(Server):
    """LocalStack's S3 on a free port of 127.0.0.1. It checks no signatures, and its objects end with it.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`.
    """

    def __init__(self, process: Process, *, port: int) -> None:
        self._process = process
        self.endpoint = f"http://{LOOPBACK}:{port}"

    @classmethod
    def start(cls, directory: Path, *, python: str | None = None, port: int | None = None) -> LocalStack:
        """Start it and wait until S3 responds. Takes 1 to 15 s and needs no root.

        Args:
            directory: Directory for its files and log, created if missing.
            python: The Python of the environment with `localstack-core`. Default: the variable
                FANOUT_LOCALSTACK_PYTHON.
            port: Its port. Default: a free one.

        Raises:
            ServerUnavailable: There is no such environment.
            ServerFailed: It did not start.
        """
        python = python or os.environ.get(PYTHON_VARIABLE)
        if not python or not os.access(python, os.X_OK):
            raise ServerUnavailable("LocalStack", _REMEDY)
        port = port or free_port()
        directory = directory.resolve()
        process = Process.start(
            [python, "-c", _START],
            name="localstack",
            directory=directory,
            environment={
                "SERVICES": "s3",
                "GATEWAY_LISTEN": f"{LOOPBACK}:{port}",
                # No name server, no certificate from the network, no usage statistics.
                "DNS_ADDRESS": "0",
                "SKIP_SSL_CERT_DOWNLOAD": "1",
                "DISABLE_EVENTS": "1",
                # In a container of another image it would write to /var/lib and /tmp.
                "OVERRIDE_IN_DOCKER": "0",
                "FILESYSTEM_ROOT": str(directory / "files"),
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            cwd=directory,
        )
        server = cls(process, port=port)
        process.wait_until(server._ready, what="answer its health check", timeout_s=120.0)
        return server

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it."""
        return s3_environment(endpoint=self.endpoint, access_key="test", secret_key="test")  # noqa: S106

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes."""
        return self._process.rss_bytes()

    def stop(self) -> None:
        """End it, and with it all its objects. Idempotent."""
        self._process.stop()

    def _ready(self) -> bool:
        try:
            # Use no proxy of the environment for the loopback address.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(f"{self.endpoint}/_localstack/health", timeout=5) as answer:
                return b'"s3"' in answer.read()
        except OSError:
            return False
