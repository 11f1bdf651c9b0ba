"""A process of our own that is driven through its standard streams: a line to it, JSON lines from it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_POLL_S = 0.02


class CaseStopped(Exception):
    """A case took too much memory or time. Says what, as in "stopped at 8.0 GB"."""


class Driven:
    """A Python module that runs as a process, and says JSON lines; see `memory.caller` and `race.runner`."""

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self._popen = popen
        self._log = log
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, name="driven", daemon=True).start()

    @classmethod
    @contextmanager
    def started(
        cls, module: str, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path
    ) -> Iterator[Driven]:
        """Start it; it is killed at the end.

        Args:
            module: As for `python -m`.
            arguments: Its command line.
            environment: Added to the environment of this process.
            log: Where its standard error goes.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as errors:
            popen = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **environment},
            )
        with popen:
            try:
                yield cls(popen, log)
            finally:
                popen.kill()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def tell(self, line: str) -> None:
        """Give it a line."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(line + "\n")
        self._popen.stdin.flush()

    def line(self, timeout_s: float, check: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """What it says next; empty when it has ended instead.

        Raises:
            CaseStopped: `check` says so, or the time is up.
        """
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            check()
            try:
                return self._lines.get(timeout=_POLL_S)
            except queue.Empty:
                continue
        raise CaseStopped(f"stopped after {timeout_s:.0f} s")

    def end(self, timeout_s: float) -> None:
        """Close its input and wait for its end, so that it can put away what it started; not for ever."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        try:
            self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()

    def complaint(self) -> str:
        """The last line it wrote to its standard error."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the process ended without a word"

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.put(json.loads(line))
        self._lines.put({})
