"""What a run was measured on and with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import psutil  # type: ignore[import-untyped, unused-ignore]

from devstack import StackError
from devstack.process import find_program

_PACKAGES = ("fanout", "celery", "kombu", "boto3", "obstore", "redis", "backports.zstd", "dask", "ray", "lithops")
_PROGRAMS = {
    "rabbitmq-server": ("rabbitmqctl", "version"),
    "redis-server": ("redis-server", "--version"),
    "ceph": ("radosgw", "--version"),
}


@dataclass(frozen=True, slots=True)
class Context:
    """What a run was measured on.

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


def describe_context(arguments: Sequence[str]) -> Context:
    """Describe date, machine and versions; takes a second. Nothing in it names the machine.

    Args:
        arguments: The command line without the program; where its results go is left out.
    """
    kernel = re.match(r"\d+\.\d+", platform.release())
    command = re.sub(r" --out[ =]\S+", "", " ".join(["python -m benchmarks", *arguments]))
    machine: dict[str, str | int] = {
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": int(psutil.virtual_memory().total),
        "system": f"{platform.system()} {kernel[0] if kernel else ''}".strip(),
        "python": platform.python_version(),
    }
    versions = {package: _package_version(package) for package in _PACKAGES} | dict(_program_versions())
    return Context(datetime.now(UTC).isoformat(timespec="seconds"), command, machine, versions)


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _program_versions() -> Iterator[tuple[str, str]]:
    for name, (program, *arguments) in _PROGRAMS.items():
        with suppress(StackError):
            path = find_program(program, remedy="", candidates=[f"/usr/lib/rabbitmq/bin/{program}"])
            printed = subprocess.run([path, *arguments], capture_output=True, text=True, check=False).stdout  # noqa: S603
            if number := re.search(r"\d+(\.\d+)+", printed):
                yield name, number[0]
