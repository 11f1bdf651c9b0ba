"""A private moto server: S3 in the memory of one Python process, for tests and a first run."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

from .errors import ServerUnavailable
from .ports import LOOPBACK, free_port
from .process import Process
from .server import Server, s3_environment

_REMEDY = "pip install 'moto[s3,server]'"

# Werkzeug colours the request lines of unusual answers even when they go to a file.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_REQUEST = re.compile(r'\] "([A-Z]+) (\S+) HTTP/[\d.]+" \d{3}')


class MotoServer(Server):
    """A moto server on a free port of 127.0.0.1. It checks no signatures and keeps its objects in memory.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`.
    """

    def __init__(self, process: Process, *, port: int) -> None:
        self._process = process
        self.endpoint = f"http://{LOOPBACK}:{port}"

    @classmethod
    def start(cls, directory: Path, *, port: int | None = None) -> MotoServer:
        """Start a server in a new process and wait until it responds. Needs no root.

        Args:
            directory: Directory for its access log, created if missing.
            port: Its port. Default: a free one.

        Raises:
            ServerUnavailable: moto, or a package that its server mode needs, is not installed.
            ServerFailed: It did not start.
        """
        for package in ("moto", "flask", "flask_cors"):
            if importlib.util.find_spec(package) is None:
                raise ServerUnavailable(package, _REMEDY)
        port = port or free_port()
        program = Path(__file__).with_name("moto_app.py")
        process = Process.start(
            # -P: the package moto must not be looked for beside the program.
            [sys.executable, "-P", str(program), "--host", LOOPBACK, "--port", str(port)],
            name="moto",
            directory=directory,
            # Buffered lines would reach the log, and the counts, too late.
            environment={"PYTHONUNBUFFERED": "1", "AWS_EC2_METADATA_DISABLED": "true"},
        )
        process.wait_for_port(port)
        return cls(process, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it. It accepts any key."""
        return s3_environment(endpoint=self.endpoint, access_key="fanout", secret_key="fanout")  # noqa: S106

    def requests(self) -> Counter[str]:
        """Count its responses since its start, by HTTP method, from its access log.

        It logs a request after its response, so count after the clients have their responses.
        """
        return Counter(match[1] for match in _REQUEST.finditer(_COLOUR.sub("", self._process.log())))

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes. It holds several copies of each object."""
        return self._process.rss_bytes()

    def stop(self) -> None:
        """End it, and with it all its objects. Idempotent."""
        self._process.stop()
