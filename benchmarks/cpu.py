"""CPU seconds of processes and of whole process trees."""

from __future__ import annotations

from collections.abc import Iterable

import psutil  # type: ignore[import-untyped, unused-ignore]


def process_s(pid: int) -> float:
    """CPU seconds of one process so far, user and system; 0 if it is gone."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def tree_s(pids: Iterable[int]) -> float:
    """CPU seconds so far of processes and all below them, those included that have ended and were waited for."""
    return sum(_tree_s(pid) for pid in pids)


def descendants_s(pid: int) -> float:
    """As `tree_s`, without the process itself."""
    return _tree_s(pid) - process_s(pid)


def _tree_s(pid: int) -> float:
    try:
        top = psutil.Process(pid)
        found = [top, *top.children(recursive=True)]
    except psutil.Error:
        return 0.0
    total_s = 0.0
    for process in found:
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        total_s += times.user + times.system + times.children_user + times.children_system
    return total_s
