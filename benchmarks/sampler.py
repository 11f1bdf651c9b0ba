"""Resident memory of whole process trees over time."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
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


class Sampler(threading.Thread):
    """Samples process trees 20 times a second from `start` to `stop`.

    High-water marks are put back at the start, where the system allows it, and read at the end, so that a peak
    between two samples is not missed.

    Args:
        roots: The process at the top of each tree, by name.
        limits: Bytes by name: a tree that has reached its limit is reported once.
        on_limit: Called with the tree's name and size, from this thread.
        interval_s: Seconds from one sample to the next.
    """

    def __init__(
        self,
        roots: Mapping[str, int],
        *,
        limits: Mapping[str, int] | None = None,
        on_limit: Callable[[str, int], None] | None = None,
        interval_s: float = INTERVAL_S,
    ) -> None:
        super().__init__(name="sampler", daemon=True)
        self._roots = dict(roots)
        self._limits = dict(limits or {})
        self._on_limit = on_limit
        self._interval_s = interval_s
        self._series: dict[str, list[tuple[float, int]]] = {name: [] for name in roots}
        self._trees: dict[str, list[psutil.Process]] = {}
        self._ended = threading.Event()
        self._started_at = 0.0

    def start(self) -> None:
        self._look_for_processes()
        for process in self._processes():
            # Writing 5 puts VmHWM back to what is resident now. Not allowed in some containers.
            with contextlib.suppress(OSError):
                Path(f"/proc/{process.pid}/clear_refs").write_text("5")
        self._started_at = time.monotonic()
        self._sample()
        super().start()

    def run(self) -> None:
        looked_at = time.monotonic()
        while not self._ended.wait(self._interval_s):
            if time.monotonic() - looked_at >= _TREE_S:
                self._look_for_processes()
                looked_at = time.monotonic()
            self._sample()

    def stop(self) -> dict[str, Footprint]:
        """Take a last sample, read the high-water marks, and return what was seen, by name."""
        self._ended.set()
        if self.is_alive():
            self.join()
        self._look_for_processes()
        self._sample()
        return {name: self._footprint(name) for name in self._roots}

    def _footprint(self, name: str) -> Footprint:
        series = self._series[name]
        largest = max((_high_water_bytes(process.pid) for process in self._trees[name]), default=0)
        sampled = max(size for _, size in series)
        return Footprint(series[0][1], max(sampled, largest), largest, tuple(series))

    def _sample(self) -> None:
        at_s = round(time.monotonic() - self._started_at, 3)
        for name, tree in self._trees.items():
            size = sum(map(_resident_bytes, tree))
            self._series[name].append((at_s, size))
            if size >= self._limits.get(name, size + 1):
                del self._limits[name]
                if self._on_limit is not None:
                    self._on_limit(name, size)

    def _processes(self) -> Iterable[psutil.Process]:
        return (process for tree in self._trees.values() for process in tree)

    def _look_for_processes(self) -> None:
        """One look at all processes of the machine for all trees: to ask for each tree's would cost as much each."""
        known = {process.pid: process for process in self._processes()}
        children: dict[int, list[psutil.Process]] = {}
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found[process.pid] = known.get(process.pid, process)
                children.setdefault(process.ppid(), []).append(found[process.pid])
        for name, root in self._roots.items():
            tree = [found[root]] if root in found else []
            for process in tree:
                tree += children.get(process.pid, [])
            self._trees[name] = tree


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _high_water_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def available_bytes() -> int:
    """Memory of the machine that can be had without swapping."""
    return int(psutil.virtual_memory().available)


def machine_bytes() -> int:
    """Memory of the machine."""
    return int(psutil.virtual_memory().total)


def kill_tree(pid: int) -> None:
    """End a process and all below it at once (SIGKILL)."""
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        for process in [*top.children(recursive=True), top]:
            with contextlib.suppress(psutil.Error):
                process.kill()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0))
