"""What a result was measured on and with."""

from __future__ import annotations

import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from devstack import StackError
from devstack.process import find_program

from .sampler import machine_bytes, processors

PACKAGES = ("fanout", "celery", "kombu", "boto3", "obstore", "redis", "dask", "ray", "lithops")
_PROGRAMS = {
    "rabbitmq-server": ("rabbitmqctl", "version"),
    "redis-server": ("redis-server", "--version"),
    "ceph": ("radosgw", "--version"),
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a line was measured on.

    Attributes:
        date: ISO date and time, UTC.
        command: The command line.
        machine: Processors, memory, kernel, Python.
        versions: By program or package.
    """

    date: str
    command: str
    machine: dict[str, str | int]
    versions: dict[str, str]


def context(arguments: Sequence[str]) -> Context:
    """Date, machine and versions; takes a second. Nothing in it names the machine.

    Args:
        arguments: The command line without the program; where its results go is left out.
    """
    kernel = re.match(r"\d+\.\d+", platform.release())
    return Context(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(["python -m benchmarks", *_without_out(arguments)]),
        machine={
            "processors": processors(),
            "memory_bytes": machine_bytes(),
            "system": f"{platform.system()} {kernel[0] if kernel else ''}".strip(),
            "python": platform.python_version(),
        },
        versions={**_packages(), **_programs()},
    )


def _without_out(arguments: Sequence[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if not skip and argument != "--out" and not argument.startswith("--out="):
            kept.append(argument)
        skip = argument == "--out" and not skip
    return kept


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _programs() -> dict[str, str]:
    found: dict[str, str] = {}
    for name, (program, *args) in _PROGRAMS.items():
        try:
            path = find_program(program, remedy="", candidates=[f"/usr/lib/rabbitmq/bin/{program}"])
        except StackError:
            continue
        printed = subprocess.run([path, *args], capture_output=True, text=True, check=False).stdout  # noqa: S603
        number = re.search(r"\d+(\.\d+)+", printed)
        if number:
            found[name] = number[0]
    return found
