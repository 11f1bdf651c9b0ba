"""Descendants and groups of processes. Imports psutil at first use."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import ModuleType
from typing import Any

from .errors import ServerUnavailable


def children(pid: int) -> list[int]:
    """Return the process ids of the direct children, oldest first, or an empty list if the process is gone.

    Raises:
        ServerUnavailable: psutil is not installed.
    """
    direct = _find_descendants(pid, recursive=False)
    return [child.pid for child in sorted(direct, key=lambda child: (child.create_time(), child.pid))]


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants, in bytes, or 0 if it is gone.

    Pages that forked children share with their parent count once per process.

    Raises:
        ServerUnavailable: psutil is not installed.
    """
    psutil = _import_psutil()
    total = 0
    for process_id in [pid, *(child.pid for child in _find_descendants(pid, recursive=True))]:
        try:
            total += psutil.Process(process_id).memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def is_group_alive(group: int) -> bool:
    """Return whether a process of the group still runs.

    Zombies do not count: they hold no memory, file or port. Orphans stay zombies until init reaps them, which takes
    seconds, and never happens in some containers. Without `/proc` zombies count, too.
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


def _find_descendants(pid: int, *, recursive: bool) -> list[Any]:
    psutil = _import_psutil()
    try:
        found: list[Any] = psutil.Process(pid).children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []
    return found


def _import_psutil() -> ModuleType:
    try:
        import psutil  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ServerUnavailable("psutil", "pip install psutil") from error
    module: ModuleType = psutil
    return module
