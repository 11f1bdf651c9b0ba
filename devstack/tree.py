"""The processes below a process, or of its group; the importer of psutil for servers, imported on first use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
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


def group_lives(group: int) -> bool:
    """Whether anything of a process group still runs.

    Zombies do not: they hold no memory, file or port. Orphans are left as such until init reaps them, which takes
    it seconds, and in some containers never happens. Without `/proc` they count as well.
    """
    try:
        os.killpg(group, 0)
        processes = [name for name in os.listdir("/proc") if name.isdigit()]
    except ProcessLookupError:
        return False
    except FileNotFoundError:
        return True
    for process in processes:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            # "17 (any (name)) S 1 17 …": state, parent, group.
            state, _, of_group = (
                Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
            )
            if int(of_group) == group and state != "Z":
                return True
    return False


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
