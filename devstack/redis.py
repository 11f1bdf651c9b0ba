"""A private Redis server."""

from __future__ import annotations

from pathlib import Path

from .ports import LOOPBACK, free_port
from .process import Process, find_program
from .server import Server

_REMEDY = "apt-get install redis-server"


class Redis(Server):
    """A Redis server on a free port of 127.0.0.1, without persistence.

    Attributes:
        url: `redis://127.0.0.1:<port>/0`.
    """

    def __init__(self, process: Process, *, port: int) -> None:
        self._process = process
        self.url = f"redis://{LOOPBACK}:{port}/0"

    @classmethod
    def start(cls, directory: Path, *, port: int | None = None) -> Redis:
        """Start a server and wait until it accepts connections. Needs no root.

        Args:
            directory: Directory for its log, created if missing.
            port: Its port. Default: a free one.

        Raises:
            ServerUnavailable: Redis is not installed.
            ServerFailed: It did not start.
        """
        program = find_program("redis-server", remedy=_REMEDY)
        port = port or free_port()
        directory.mkdir(parents=True, exist_ok=True)
        process = Process.start(
            [
                *(program, "--bind", LOOPBACK, "--port", str(port), "--dir", str(directory.resolve())),
                *("--save", "", "--appendonly", "no"),
            ],
            name="redis",
            directory=directory,
        )
        process.wait_for_log("Ready to accept connections")
        return cls(process, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """`CELERY_RESULT_BACKEND`, which Celery reads itself."""
        return {"CELERY_RESULT_BACKEND": self.url}

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes."""
        return self._process.rss_bytes()

    def stop(self) -> None:
        """End it and wait for its end. Idempotent."""
        self._process.stop()
