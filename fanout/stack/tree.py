"""The processes below a process; the importer of psutil for servers, which is imported on first use."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from .errors import ServerUnavailable


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children, oldest first; empty when the process is gone.

    Raises:
        ServerUnavailable: psutil is not installed.
    """
    found = _below(pid, recursive=False)
    return [child.pid for child in sorted(found, key=lambda child: (child.create_time(), child.pid))]


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and all below it, in bytes; 0 when it is gone.

    Pages that forked children share with their parent count once per process.

    Raises:
        ServerUnavailable: psutil is not installed.
    """
    psutil = _psutil()
    total = 0
    for process_id in [pid, *(child.pid for child in _below(pid, recursive=True))]:
        try:
            total += psutil.Process(process_id).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def _below(pid: int, *, recursive: bool) -> list[Any]:
    psutil = _psutil()
    try:
        found: list[Any] = psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []
    return found


def _psutil() -> ModuleType:
    try:
        import psutil  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ServerUnavailable("psutil", "pip install psutil") from error
    module: ModuleType = psutil
    return module
