"""Runs one case in fresh processes and measures it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import BARE, Case
from .counters import Requests, Traffic
from .record import Status, Trial
from .sampler import Sampler, available_bytes, kill_tree
from .site import Cluster, Site
from .text import fingerprint, serial_count

GB = 1_000_000_000
RESERVE_BYTES = GB // 2
"""Memory that is left to the machine: with less a case is stopped, whatever its broker takes."""

_POLL_S = 0.05
_SETTLE_S = 0.3
_READY_S = 120.0


class CaseStopped(Exception):
    """A case took too much memory or time. Says what, as in "stopped at 8.0 GB"."""


@dataclass(slots=True)
class _Limit:
    """Ends a case from the sampler's thread, before it hurts the machine."""

    pids: dict[str, int]
    reached: threading.Event = field(default_factory=threading.Event)
    size: int = 0

    def __call__(self, name: str, size: int) -> None:
        self.size = size
        self.reached.set()
        kill_tree(self.pids[name])

    def check(self) -> None:
        """Raise if it has been reached, or if the machine has no memory left."""
        if self.reached.is_set():
            raise CaseStopped(f"stopped at {self.size / GB:.1f} GB")
        if available_bytes() < RESERVE_BYTES:
            raise CaseStopped("stopped: the machine has no memory left")


def run(case: Case, site: Site, *, limit_bytes: int, timeout_s: float) -> Trial:
    """Run a case once, in fresh processes, and measure it.

    Args:
        case: What to run.
        site: Where.
        limit_bytes: The case is stopped when its broker has grown to this size.
        timeout_s: The case is stopped after this time.

    Raises:
        StackError: A server is not installed, or did not come up.
    """
    with ExitStack() as stack:
        store_url = stack.enter_context(site.store_of(case))
        cluster = stack.enter_context(site.cluster(case, store_url))
        caller = stack.enter_context(_Caller.started(case, cluster, site.directory / case.name, timeout_s))
        limit = _Limit(cluster.pids())
        sampler = None
        try:
            warm_up = caller.line(_READY_S, limit.check)
            if "warm_up_s" not in warm_up or not caller.line(_READY_S, limit.check):
                return Trial(case, Status.FAILED, caller.complaint())
            traffic = Traffic.of(cluster.broker) if cluster.broker is not None else None
            requests = _requests(case, site)
            sampler = Sampler(
                {**cluster.pids(), "caller": caller.pid},
                limits={"broker": limit_bytes} if cluster.broker is not None else {},
                on_limit=limit,
            )
            sampler.start()
            caller.go()
            answer = caller.line(timeout_s + 10, limit.check)
            time.sleep(_SETTLE_S)
            memory = sampler.stop()
            if traffic is not None and cluster.broker is not None:
                traffic = Traffic.of(cluster.broker) - traffic
            if requests is not None:
                requests = _requests(case, site, since=requests)
        except CaseStopped as stopped:
            memory = sampler.stop() if sampler is not None else {}
            return Trial(case, Status.STOPPED, str(stopped), memory=memory)
        if "wall_s" not in answer:
            return Trial(case, Status.FAILED, caller.complaint(), memory=memory)
    expected = fingerprint(serial_count(case.size_bytes, document_bytes=case.document_bytes))
    right = answer["fingerprint"] == expected
    return Trial(
        case,
        Status.DONE,
        wall_s=answer["wall_s"],
        warm_up_s=warm_up["warm_up_s"],
        right=right,
        memory=memory,
        traffic=traffic,
        requests=requests,
    )


def _requests(case: Case, site: Site, *, since: Requests | None = None) -> Requests | None:
    if site.gateway_conf is None or case.variant in BARE:
        return None
    counted = Requests.of(site.gateway_conf)
    return counted - since if since is not None else counted


class _Caller:
    """The caller's process; see `caller`."""

    def __init__(self, popen: subprocess.Popen[str], log: Path) -> None:
        self._popen = popen
        self._log = log
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, name="caller", daemon=True).start()

    @classmethod
    @contextmanager
    def started(cls, case: Case, cluster: Cluster, directory: Path, timeout_s: float) -> Iterator[_Caller]:
        """Start it; it is killed at the end."""
        log = directory / "caller.log"
        command = [sys.executable, "-m", "fanout.bench.caller", case.name]
        command += ["--document-bytes", str(case.document_bytes), "--timeout-s", str(timeout_s)]
        with log.open("wb") as errors:
            popen = subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **cluster.environment},
            )
        with popen:
            try:
                yield cls(popen, log)
            finally:
                popen.kill()

    @property
    def pid(self) -> int:
        return self._popen.pid

    def go(self) -> None:
        """Let it run the case."""
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()

    def line(self, timeout_s: float, check: Callable[[], None]) -> dict[str, Any]:
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

    def complaint(self) -> str:
        """The last line it wrote to its standard error."""
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "the caller ended without a word"

    def _read(self) -> None:
        assert self._popen.stdout is not None
        for line in self._popen.stdout:
            self._lines.put(json.loads(line))
        self._lines.put({})
