"""The caller as a session sees it: a process, driven over a pipe. Its own side is `runner`."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from .processes import kill_tree

_POLL_S = 0.02
_END_S = 20.0


class Stopped(Exception):
    """A run that took too much memory or time. Its text says what, as in "stopped at 8.0 GB"."""


class Failed(Exception):
    """A run that ended with an error. Its text says which."""


class Caller:
    """A process that makes the input, calls, and has the answer."""

    def __init__(self, popen: subprocess.Popen[bytes], pipe: Connection) -> None:
        self.pid = popen.pid
        self._popen, self._pipe = popen, pipe

    @classmethod
    @contextmanager
    def start(cls, arguments: list[str], *, environment: Mapping[str, str], log: Path) -> Iterator[Caller]:
        """Start it with the arguments of `runner`, its output in a log; kill it at the end, with all below it."""
        log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = Pipe()
        with ours, log.open("wb") as output:
            command = [sys.executable, "-m", "benchmarks.runner", *arguments, str(theirs.fileno())]
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": subprocess.STDOUT}
            with theirs:
                popen = subprocess.Popen(  # noqa: S603
                    command, pass_fds=[theirs.fileno()], env={**os.environ, **environment}, **streams
                )
            with popen:
                try:
                    yield cls(popen, ours)
                finally:
                    kill_tree(popen.pid)

    def ask(self, message: object, timeout_s: float, check: Callable[[], None]) -> Any:
        """Send a message and return the answer to it.

        Raises:
            Failed: It ended with an error.
            Stopped: `check` says so, or the time is up.
        """
        end = time.monotonic() + timeout_s
        try:
            self._pipe.send(message)
            while not self._pipe.poll(_POLL_S):
                check()
                if time.monotonic() > end:
                    raise Stopped(f"stopped after {timeout_s:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            answer = "the caller's process ended"
        if isinstance(answer, str):
            check()
            raise Failed(answer)
        return answer

    def end(self) -> None:
        """Let it put away what it started; wait for that, not for ever."""
        self._pipe.close()
        try:
            self._popen.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
