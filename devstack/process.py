"""One supervised child process with its descendants."""

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
from .ports import is_listening

_POLL_S = 0.01
_TAIL_LINES = 25


class Process:
    """A child process with its own session, process group and log file.

    The whole group ends when `stop` is called, and when this process dies, even by SIGKILL. A guard ensures the
    second: a shell that reads from a pipe of this process and kills the group when the pipe closes.
    PR_SET_PDEATHSIG would fire at the end of the starting *thread* and is lost at a second fork. Exit handlers do not
    run at SIGKILL. A child that this process *forks* without exec keeps the pipe open, and the group then lives until
    that child ends, too.

    A pickled copy is for another process, which can read the log, measure, and signal the group, but not end it.

    Attributes:
        name: Its name in errors.
        pid: Its process id, which is also the id of its process group.
        log_path: File of its standard output and standard error.
    """

    def __init__(self, popen: subprocess.Popen[bytes], *, name: str, log_path: Path, log_start: int) -> None:
        self.name = name
        self.pid = popen.pid
        self.log_path = log_path
        self._log_start = log_start
        self._owned: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]] | None = (popen, _start_guard(popen.pid))

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_owned": None}

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
        """Start a command, and append its output to `<directory>/<name>.log`.

        Args:
            command: Program and arguments, run without a shell.
            name: A short name, unique in the directory.
            directory: Directory of the log, created if missing.
            environment: Variables, added to this process's environment.
            cwd: Its working directory. Default: this process's.

        Raises:
            ServerUnavailable: The program does not exist.
        """
        directory.mkdir(parents=True, exist_ok=True)
        log_path = directory / f"{name}.log"
        with log_path.open("ab") as log:
            # Read the position before the start, because the child shares it and moves it.
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
        """Whether the process itself still runs.

        Raises:
            ServerFailed: This is a copy.
        """
        return self._popen.poll() is None

    def log(self) -> str:
        """Return its output since its start."""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def wait_until(self, condition: Callable[[], bool], *, what: str, timeout_s: float = 60.0) -> None:
        """Wait until a condition holds. Stop the process if it ends or the time runs out before.

        Args:
            condition: Polled until it returns True.
            what: The condition in errors, as in "did not <what> within 60 s".
            timeout_s: Time limit in seconds.

        Raises:
            ServerFailed: The process ended, or the condition did not hold in time.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if not self.alive:
                reason = f"ended with status {self._popen.returncode} before it did {what}"
                self.stop()
                raise self.make_error(reason)
            if time.monotonic() > deadline:
                self.stop()
                raise self.make_error(f"did not {what} within {timeout_s:g} s")
            time.sleep(_POLL_S)

    def wait_for_port(self, port: int, *, timeout_s: float = 60.0) -> None:
        """Wait until a port of 127.0.0.1 accepts connections. Raises as `wait_until`."""
        self.wait_until(lambda: is_listening(port), what=f"answer on port {port}", timeout_s=timeout_s)

    def wait_for_log(self, text: str, *, timeout_s: float = 60.0) -> None:
        """Wait until its log contains a text. Raises as `wait_until`."""
        self.wait_until(lambda: text in self.log(), what=f"log {text!r}", timeout_s=timeout_s)

    def make_error(self, reason: str) -> ServerFailed:
        """Return the error for a failure of the process, with the end of its log."""
        return ServerFailed(self.name, reason, "\n".join(self.log().splitlines()[-_TAIL_LINES:]))

    def rss_bytes(self) -> int:
        """Return the resident memory of the process and its descendants, in bytes. See `tree.rss_bytes`."""
        return tree.rss_bytes(self.pid)

    def signal(self, number: signal.Signals, *, group: bool = False) -> None:
        """Send a signal to the process, or to all of its group. Do nothing if they are gone."""
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

        Idempotent. A suspended process is resumed, so that it can handle the signal.

        Args:
            timeout_s: Time for a graceful end, in seconds. 0 kills at once.

        Raises:
            ServerFailed: This is a copy.
        """
        self._require_owned()
        if timeout_s > 0:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT, group=True)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout_s)
        # Once the group is gone another group may get its number. Only a living guard proves that it is the same.
        if self._guard.poll() is None:
            self.signal(signal.SIGKILL, group=True)
            # no limit: nothing survives a SIGKILL
            self._popen.wait()
            self._wait_for_group()
            self._guard.kill()
            # no limit: nothing survives a SIGKILL
            self._guard.wait()
            if self._guard.stdin is not None:
                self._guard.stdin.close()

    @property
    def _popen(self) -> subprocess.Popen[bytes]:
        return self._require_owned()[0]

    @property
    def _guard(self) -> subprocess.Popen[bytes]:
        return self._require_owned()[1]

    def _require_owned(self) -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
        if self._owned is None:
            raise ServerFailed(self.name, "belongs to another process, which alone can end it", "")
        return self._owned

    def _wait_for_group(self) -> None:
        # Without `/proc` the rest of the group may be zombies only, so the wait has a limit.
        deadline = time.monotonic() + 5.0
        while tree.is_group_alive(self.pid) and time.monotonic() < deadline:
            time.sleep(_POLL_S)


def find_program(name: str, *, remedy: str, candidates: Sequence[str] = ()) -> str:
    """Return the path of a program.

    Args:
        name: Name, looked up on PATH and in the sbin directories, which are not on each user's PATH.
        remedy: A command that installs it, for the error.
        candidates: Absolute paths that are preferred if they exist.

    Raises:
        ServerUnavailable: No such program was found.
    """
    for candidate in candidates:
        if os.access(candidate, os.X_OK):
            return candidate
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    program = shutil.which(name, path=path)
    if program is None:
        raise ServerUnavailable(name, remedy)
    return program


def _start_guard(group: int) -> subprocess.Popen[bytes]:
    # The guard has its own session, so that a Ctrl-C in the terminal does not end it before this process.
    return subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", 'read -r _; kill -s KILL -- "-$1"', "guard", str(group)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
