"""Resident memory over time, and CPU seconds, of whole process trees."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]

INTERVAL_S = 0.05
_TREE_S = 0.5


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resident memory of a process and all below it. Pages that processes share count once for each.

    Attributes:
        before_bytes: At the start.
        peak_bytes: The largest sample of the whole tree, or the largest high-water mark of one process if that is more.
        process_bytes: The largest high-water mark (VmHWM) of a single process of the tree.
        series: Samples of the whole tree: seconds since the start, bytes.
    """

    before_bytes: int
    peak_bytes: int
    process_bytes: int
    series: tuple[tuple[float, int], ...] = ()

    @property
    def growth_bytes(self) -> int:
        """How much it has grown."""
        return self.peak_bytes - self.before_bytes

    def thin(self, points: int) -> Footprint:
        """Return it with the largest sample of each of so many stretches."""
        if len(self.series) <= points:
            return self
        bounds = [len(self.series) * index // points for index in range(points + 1)] if points else []
        stretches = [self.series[start:end] for start, end in pairwise(bounds)]
        return replace(self, series=tuple(max(one, key=lambda sample: sample[1]) for one in stretches))


class Sampler(threading.Thread):
    """A thread that samples process trees 20 times a second from `start` to `stop`.

    High-water marks are put back at the start, where the system allows it, and read at the end: they have the peaks
    between two samples.

    Args:
        roots: The process at the top of each tree, by name.
        limits: Bytes by name: a tree that has reached its limit is reported once.
        on_limit: Called with the tree's name and size, from this thread.
    """

    def __init__(
        self,
        roots: Mapping[str, int],
        limits: Mapping[str, int] | None = None,
        on_limit: Callable[[str, int], None] = lambda name, size: None,
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._roots, self._limits, self._on_limit = roots, dict(limits or {}), on_limit
        self._series: dict[str, list[tuple[float, int]]] = {name: [] for name in roots}
        self._trees: dict[str, list[psutil.Process]] = {}
        self._ended = threading.Event()
        self._started_at = 0.0

    def start(self) -> None:
        """Put the high-water marks back, take the first sample, and go on."""
        self._find_processes()
        for process in (process for tree in self._trees.values() for process in tree):
            # Writing 5 puts VmHWM back to what is resident now. Not allowed in some containers.
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self._started_at = time.monotonic()
        self._sample()
        super().start()

    def run(self) -> None:
        """Sample until the end."""
        looked_at = time.monotonic()
        while not self._ended.wait(INTERVAL_S):
            if time.monotonic() - looked_at >= _TREE_S:
                self._find_processes()
                looked_at = time.monotonic()
            self._sample()

    def stop(self) -> dict[str, Footprint]:
        """Take a last sample, read the high-water marks, and return what was seen, by name."""
        self._ended.set()
        self.join()
        self._find_processes()
        self._sample()
        found = {}
        for name, series in self._series.items():
            largest = max((_high_water_bytes(process.pid) for process in self._trees[name]), default=0)
            sampled = max(size for _, size in series)
            found[name] = Footprint(series[0][1], max(sampled, largest), largest, tuple(series))
        return found

    def _sample(self) -> None:
        at_s = round(time.monotonic() - self._started_at, 3)
        for name, tree in self._trees.items():
            size = sum(map(_resident_bytes, tree))
            self._series[name].append((at_s, size))
            if size >= self._limits.get(name, size + 1):
                del self._limits[name]
                self._on_limit(name, size)

    def _find_processes(self) -> None:
        """Look once at all processes of the machine for all trees: to ask for each tree's would cost as much each."""
        children: dict[int, list[psutil.Process]] = {}
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found[process.pid] = process
                children.setdefault(process.ppid(), []).append(process)
        for name, root in self._roots.items():
            self._trees[name] = tree = [found[root]] if root in found else []
            for process in tree:
                tree += children.get(process.pid, [])


def available_bytes() -> int:
    """Return the memory of the machine that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def kill_tree(pid: int) -> None:
    """End a process and all below it at once (SIGKILL)."""
    for process in reversed(_find_tree(pid)):
        with contextlib.suppress(psutil.Error):
            process.kill()


def process_s(pid: int) -> float:
    """Return the CPU seconds of one process so far, user and system; 0 if it is gone."""
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def tree_s(pids: Iterable[int]) -> float:
    """Return the CPU seconds so far of processes and all below them, ended ones that were waited for included."""
    total_s = 0.0
    for process in (process for pid in pids for process in _find_tree(pid)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


def _find_tree(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def _resident_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _high_water_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0
