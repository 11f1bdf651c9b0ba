"""A session: fresh processes of one contender on fresh servers, a warm-up, and the runs of its workloads."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from devstack import RabbitMQ

from . import stages
from .caller import Caller, Failed, Stopped
from .comparisons import Comparison
from .contenders import CONTENDER, CONTENDERS, QUEUES, Contender
from .counters import Requests, Traffic
from .processes import Sampler, available_bytes, kill_tree, process_s, tree_s
from .run import Run, Status
from .servers import Cluster, Site
from .workloads import Workload

RESERVE_BYTES = 500_000_000
"""Memory that is left to the machine: with less a run is stopped."""
GRACE_S = 10.0
"""The contender ends a run at the timeout itself; the session so much later."""

_READY_S = 120.0
_SETTLE_S = 0.3
_REFUSAL = re.compile(r"message size \d+ is larger than configured max size \d+")


def run_comparison(comparison: Comparison, site: Site, *, profile: bool = False) -> Iterator[Run]:
    """Run all sessions of a comparison: contenders follow each other, so that each meets the same machine.

    A case is not run if the same contender was stopped, or failed, in a smaller one. With `profile` each session is
    run a second time, with the stages recorded.

    Raises:
        StackError: A server is not installed, or did not come up.
    """
    failed: list[Run] = []
    for repetition in range(1, comparison.repeat + 1):
        for name, workloads in comparison.sessions:
            for recorded in (False, True) if profile else (False,):
                hopeless = [one for one in workloads if any(_is_smaller(run, name, one) for run in failed)]
                reason = "not run: a smaller one was not finished"
                for workload in hopeless:
                    yield Run(comparison.name, name, workload, repetition, Status.SKIPPED, reason, recorded=recorded)
                if rest := [one for one in workloads if one not in hopeless]:
                    for run in run_session(comparison, name, rest, repetition, site, recorded=recorded):
                        failed += [run] if run.status in (Status.STOPPED, Status.FAILED) else []
                        yield run.keep_series(comparison.watched)


def _is_smaller(run: Run, name: str, workload: Workload) -> bool:
    one = run.workload
    is_smaller = one.size_bytes <= workload.size_bytes and one.chunks <= workload.chunks and one != workload
    return is_smaller and run.contender == name and one.work == workload.work


def run_session(
    comparison: Comparison,
    name: str,
    workloads: Sequence[Workload],
    repetition: int,
    site: Site,
    *,
    recorded: bool = False,
) -> Iterator[Run]:
    """Run the workloads of one contender one after the other; yield each run as it ends.

    Args:
        comparison: The comparison.
        name: Name of the contender.
        workloads: Its workloads, all on the same number of threads.
        repetition: Counted from 1.
        site: The servers.
        recorded: Whether to record the stages.

    Raises:
        StackError: A server is not installed, or did not come up.
    """
    contender = CONTENDERS[name]
    begun = Run(comparison.name, name, workloads[0], repetition, Status.STOPPED, recorded=recorded)
    if contender.missing:
        skipped = replace(begun, status=Status.SKIPPED, reason=contender.missing)
        yield from (replace(skipped, workload=workload) for workload in workloads)
        return
    first = workloads[0]
    sizes = f"{first.size}-{first.chunks}-{first.threads}-{repetition}"
    label = f"{comparison.name}-{name}-{sizes}{'-recorded' * recorded}"
    directory = site.directory / label
    with ExitStack() as stack:
        url = stack.enter_context(site.make_place(label, contender))
        environment = {"FANOUT_STORE": url, CONTENDER: name, **site.provide_inputs(workloads)}
        if comparison.watched:
            environment[QUEUES] = "1"
        if recorded:
            (directory / "spans").mkdir(parents=True)
            environment[stages.DIRECTORY] = str(directory / "spans")
        cluster = None
        if contender.broker:
            cluster = stack.enter_context(
                site.start_cluster(directory, contender, environment, threads=workloads[0].threads)
            )
            environment = cluster.environment
        arguments = [name, str(comparison.timeout_s)]
        log = directory / "caller.log"
        caller = stack.enter_context(Caller.start(arguments, environment=environment, log=log))
        session = _Session(comparison, contender, site, cluster, caller, directory / "spans", begun)
        yield from session.run_all(workloads)


@dataclass(slots=True)
class _Session:
    comparison: Comparison
    contender: Contender
    site: Site
    cluster: Cluster | None
    caller: Caller
    spans: Path
    begun: Run
    """What all runs have in common."""
    sampler: Sampler | None = None
    grown_to: int = 0
    is_over: threading.Event = field(default_factory=threading.Event)
    """Set when the broker has reached its limit."""

    def run_all(self, workloads: Sequence[Workload]) -> Iterator[Run]:
        """Warm up, and run each workload as often as the comparison says."""
        ended = self._warm_up(workloads)
        for workload in workloads:
            if ended is not None:
                yield replace(ended, workload=workload)
                continue
            spent_s, number = 0.0, 0
            while ended is None and number < self.comparison.runs and spent_s <= self.comparison.budget_s:
                run = self._run(workload, self.comparison.times(workload), is_first=number == 0)
                yield run
                number, spent_s = number + 1, spent_s + sum(run.walls_s)
                if run.status is not Status.DONE:
                    ended = replace(self.begun, status=Status.SKIPPED, reason=f"not run: {run.reason}")
        if ended is None:
            self.caller.end()

    def _warm_up(self, workloads: Sequence[Workload]) -> Run | None:
        """Run the tiny workload of each work; return the run that failed, if one did."""
        for work in {workload.work: workload for workload in workloads}.values():
            # Twice, for what is only made when something is used again.
            found = self._run(self.comparison.warm_up or work.tiny, 2, is_warm_up=True)
            if found.status is not Status.DONE:
                return found
            self.begun = replace(self.begun, warm_up_s=self.begun.warm_up_s or found.walls_s[0])
        return None

    def _run(self, workload: Workload, times: int, *, is_first: bool = False, is_warm_up: bool = False) -> Run:
        run = replace(self.begun, workload=workload)
        try:
            self.caller.ask(workload, _READY_S, self._check)
            traffic, requests = self._count(is_first)
            sampler = self.sampler = None if is_warm_up else self._start_sampler()
            cpu_before_s = self._cpu()
            walls_s, answers, spans, noted = self.caller.ask(
                times, self.comparison.timeout_s * times + GRACE_S, self._check
            )
            # What is written after the answer, such as the note that it was delivered, is part of the job.
            time.sleep(_SETTLE_S)
            cpu_s = {role: round((after_s - cpu_before_s[role]) / times, 4) for role, after_s in self._cpu().items()}
            self._check()
            memory = sampler.stop() if sampler is not None else {}
            traffic_after, requests_after = self._count(is_first)
        except (Stopped, Failed) as error:
            status = Status.FAILED if isinstance(error, Failed) else Status.STOPPED
            memory = self.sampler.stop() if self.sampler is not None else {}
            return replace(run, status=status, reason=str(error), memory=memory)
        return replace(
            run,
            status=Status.DONE,
            walls_s=tuple(round(wall_s, 6) for wall_s in walls_s),
            right=all(map(workload.accepts, answers)),
            cpu_s=cpu_s,
            memory=memory,
            noted=noted,
            traffic=traffic_after - traffic if traffic and traffic_after else None,
            requests=requests_after.since(requests, runs=times) if requests and requests_after else None,
            stages=stages.share_time(stages.read_spans(self.spans), spans) if run.recorded else {},
        )

    def _count(self, is_first: bool) -> tuple[Traffic | None, Requests | None]:
        """Ask the servers for their counters; it takes a second, and is done for the first run of a case."""
        if not is_first or self.cluster is None:
            return None, None
        broker, conf = self.cluster.broker, self.site.gateway_conf
        traffic = Traffic.of(broker) if self.comparison.watched and isinstance(broker, RabbitMQ) else None
        return traffic, Requests.of(conf) if conf is not None and self.contender.store == "s3" else None

    def _start_sampler(self) -> Sampler | None:
        if not self.comparison.watched:
            return None
        pids = self.cluster.pids if self.cluster is not None else {}

        def stop(name: str, size: int) -> None:
            self.grown_to = size
            self.is_over.set()
            kill_tree(pids[name])

        limits = {"broker": self.comparison.limit_bytes} if "broker" in pids else {}
        sampler = Sampler({**pids, "caller": self.caller.pid}, limits, stop)
        sampler.start()
        return sampler

    def _check(self) -> None:
        """End the run before it hurts the machine, and if the broker refused a message without telling the caller."""
        if self.is_over.is_set():
            raise Stopped(f"stopped at {self.grown_to / 1e9:.1f} GB")
        if self.comparison.watched and available_bytes() < RESERVE_BYTES:
            raise Stopped("stopped: the machine has no memory left")
        if self.cluster is not None and self.cluster.broker_log is not None:
            refusal = _REFUSAL.search(self.cluster.broker_log.read_text(errors="replace"))
            if refusal is not None:
                raise Failed(f"RabbitMQ: {refusal[0]}")

    def _cpu(self) -> dict[str, float]:
        caller_s = process_s(self.caller.pid)
        found = {"caller": caller_s, "workers": tree_s([self.caller.pid]) - caller_s}
        if self.contender.store == "s3" and self.site.gateway is not None:
            found["store"] = tree_s(self.site.gateway.pids)
        if self.cluster is not None:
            servers = {role: pid for role, pid in self.cluster.pids.items() if role in ("broker", "results")}
            found["workers"] = tree_s(pid for role, pid in self.cluster.pids.items() if role not in servers)
            found |= {role: tree_s([pid]) for role, pid in servers.items()}
        return found
