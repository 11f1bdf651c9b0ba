"""One supervised child process, and everything it starts."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import tree
from .errors import ServerFailed, ServerUnavailable
from .ports import answers

_POLL_S = 0.01
_TAIL_LINES = 25


class Process:
    """A child process with a session, a process group and a log file of its own.

    The whole group ends when `stop` is called and also when this process dies, SIGKILL included. A guard sees
    to the second: a shell that reads from a pipe of ours and kills the group when the pipe closes.
    PR_SET_PDEATHSIG would fire when the starting *thread* ends and is lost on a second fork; exit handlers do
    not run on SIGKILL. A child that this process *forks* without exec keeps the pipe open: the group then
    outlives us until that child ends as well.

    Attributes:
        name: How errors call it.
        pid: Its process id, which is also the id of its process group.
        log_path: Where its standard output and standard error go.
    """

    def __init__(self, popen: subprocess.Popen[bytes], *, name: str, log_path: Path, log_start: int) -> None:
        self.name = name
        self.pid = popen.pid
        self.log_path = log_path
        self._popen = popen
        self._log_start = log_start
        self._guard = _guard(popen.pid)

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        name: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        """Start a command; its log is `<directory>/<name>.log`, appended to when it exists.

        Args:
            command: Program and arguments; no shell is involved.
            name: A short name, unique in the directory.
            directory: Made when missing.
            environment: Added to the environment of this process.
            cwd: Its working directory; ours when not given.

        Raises:
            ServerUnavailable: The program does not exist.
        """
        directory.mkdir(parents=True, exist_ok=True)
        log_path = directory / f"{name}.log"
        with log_path.open("ab") as log:
            # Now, for the child shares our position in the file and moves it.
            log_start = log.tell()
            try:
                popen = subprocess.Popen(  # noqa: S603
                    [str(part) for part in command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **(environment or {})},
                    cwd=cwd,
                    start_new_session=True,
                )
            except FileNotFoundError as error:
                raise ServerUnavailable(str(command[0]), "install it, or correct its path") from error
            return cls(popen, name=name, log_path=log_path, log_start=log_start)

    @property
    def alive(self) -> bool:
        """Whether the process itself still runs."""
        return self._popen.poll() is None

    def log(self) -> str:
        """Return what it has written since it was started."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_until(self, condition: Callable[[], bool], *, what: str, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds; stop the process when it ends or the time runs out before.

        Args:
            condition: Called again and again.
            what: Names the condition in errors, as in "did not <what> within 60 s".
            timeout_s: Seconds to wait at most.

        Raises:
            ServerFailed: It ended, or the condition did not come true in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.alive:
                reason = f"ended with status {self._popen.returncode} before it did {what}"
                self.stop()
                raise self.failed(reason)
            if time.monotonic() > deadline:
                self.stop()
                raise self.failed(f"did not {what} within {timeout_s:g} s")
            time.sleep(_POLL_S)

    def wait_for_port(self, port: int, *, timeout_s: float = 60.0) -> None:
        """Wait until a port of 127.0.0.1 accepts connections; errors as in `wait_until`."""
        self.wait_until(lambda: answers(port), what=f"answer on port {port}", timeout_s=timeout_s)

    def wait_for_log(self, text: str, *, timeout_s: float = 60.0) -> None:
        """Wait until its log holds a text; errors as in `wait_until`."""
        self.wait_until(lambda: text in self.log(), what=f"log {text!r}", timeout_s=timeout_s)

    def failed(self, reason: str) -> ServerFailed:
        """Make the error that says what the process did, with the end of its log."""
        return ServerFailed(self.name, reason, "\n".join(self.log().splitlines()[-_TAIL_LINES:]))

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and its descendants; see `tree.rss_bytes`."""
        return tree.rss_bytes(self.pid)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group; nothing happens when they are gone."""
        with contextlib.suppress(ProcessLookupError):
            if group:
                os.killpg(self.pid, number)
            elif self.alive:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End the whole group at once (SIGKILL) and wait until it is gone."""
        self.stop(timeout_s=0.0)

    def stop(self, *, timeout_s: float = 10.0) -> None:
        """End the process (SIGTERM, after the timeout SIGKILL) and the rest of its group, and wait for that.

        Idempotent. A suspended process is resumed, or it could not act on the signal.

        Args:
            timeout_s: Seconds the process has for a graceful end; with 0 it gets none.
        """
        if timeout_s > 0:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT, group=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout_s)
        # Once the group is gone its number may be somebody else's: only a live guard allows the kill.
        if self._guard.poll() is None:
            self.signal(signal.SIGKILL, group=True)
            # no limit: nothing survives a SIGKILL
            self._popen.wait()
            self._await_group()
            self._guard.kill()
            # no limit: nothing survives a SIGKILL
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()

    def _await_group(self) -> None:
        # Where the system does not tell zombies apart, we leave after a while what may be no more than that.
        deadline = time.monotonic() + 5.0
        while tree.group_lives(self.pid) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def find_program(name: str, *, remedy: str, candidates: Sequence[str] = ()) -> str:
    """Return the path of a program.

    Args:
        name: Looked up on PATH, and in the sbin directories, which are not on the PATH of every user.
        remedy: A command that installs it, for the error.
        candidates: Absolute paths that are preferred when they exist.

    Raises:
        ServerUnavailable: It is nowhere.
    """
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise ServerUnavailable(name, remedy)
    return found


def _guard(group: int) -> subprocess.Popen[bytes]:
    # In a session of its own: a Ctrl-C in the terminal must not end the guard before us.
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "guard", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
