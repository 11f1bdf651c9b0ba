"""Runs one case in fresh processes and measures it."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..counters import Requests, Traffic
from ..driven import CaseStopped, Driven
from ..sampler import Sampler, available_bytes, kill_tree
from ..site import Crew, Site
from ..status import Status
from ..text import fingerprint, serial_count
from .cases import BARE, Case
from .record import Trial

GB = 1_000_000_000
RESERVE_BYTES = GB // 2
"""Memory that is left to the machine: with less a case is stopped, whatever its broker takes."""

WORKERS = {"setup": "setup", "process-1": "process", "process-2": "process", "join": "join"}
"""Name of each worker -> its queue. Each is prefork with one child."""

_SETTLE_S = 0.3
_READY_S = 120.0


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
        store_url = stack.enter_context(site.place(case.name))
        cluster = stack.enter_context(site.cluster(case.name, _crew(case), store_url))
        arguments = [case.name, "--document-bytes", str(case.document_bytes), "--timeout-s", str(timeout_s)]
        log = site.directory / case.name / "caller.log"
        caller = stack.enter_context(
            Driven.started("benchmarks.memory.caller", arguments, environment=cluster.environment, log=log)
        )
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
            caller.tell("go")
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


def _crew(case: Case) -> Crew:
    variables = {"FANOUT_BENCH_VARIANT": str(case.variant)}
    return Crew("benchmarks.memory.app:app", WORKERS, results=True, variables=variables)


def _requests(case: Case, site: Site, *, since: Requests | None = None) -> Requests | None:
    if site.gateway_conf is None or case.variant in BARE:
        return None
    counted = Requests.of(site.gateway_conf)
    return counted - since if since is not None else counted
