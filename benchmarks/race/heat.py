"""One entry's turn: fresh processes, and all loads of the race, one after the other."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from .. import cpu
from ..counters import Requests
from ..driven import CaseStopped, Driven
from ..site import Cluster, Crew, Site
from ..status import Status
from . import spans
from .app import BARE
from .engines import PROCESSES, THREADS
from .entries import ENTRIES, Entry
from .lap import Lap
from .races import Course, Race
from .works import WORKS, Load

_READY_S = 120.0
_SETTLE_S = 0.3
_END_S = 20.0
_GRACE_S = 10.0
"""A run is given its time by its own engine; the runner so much longer."""


def run(race: Race, name: str, turn: int, site: Site, *, timeout_s: float, profile: bool = False) -> Iterator[Lap]:
    """Let an entry have its turn; yields each lap as it ends.

    Args:
        race: The race.
        name: Name of the entry.
        turn: Counted from 1.
        site: The servers.
        timeout_s: A run that takes longer is stopped, and one that would is not begun.
        profile: Record where the time goes.

    Raises:
        StackError: A server is not installed, or did not come up.
    """
    entry = ENTRIES[name]
    if entry.missing:
        for course in race.courses:
            yield Lap(race.name, name, course.load, turn, Status.SKIPPED, entry.missing, recorded=profile)
        return
    directory = site.directory / f"{race.name}-{name}-{turn}{'-profiled' if profile else ''}"
    recorded = directory / "spans" if profile else None
    with ExitStack() as stack:
        url = stack.enter_context(site.place(directory.name)) if entry.store else ""
        url = _with_options(url, entry.store_options)
        cluster = None
        environment = {**site.environment, "FANOUT_STORE": url}
        if recorded is not None:
            recorded.mkdir(parents=True)
            environment[spans.DIRECTORY] = str(recorded)
        if entry.workers:
            cluster = stack.enter_context(site.cluster(directory.name, _crew(race, entry, environment), url))
            environment |= cluster.environment
        arguments = [name, "--timeout-s", str(timeout_s)]
        log = directory / "runner.log"
        runner = stack.enter_context(
            Driven.started("benchmarks.race.runner", arguments, environment=environment, log=log)
        )
        yield from _Heat(race, entry, turn, site, cluster, runner, timeout_s, recorded).laps()


@dataclass(slots=True)
class _Heat:
    race: Race
    entry: Entry
    turn: int
    site: Site
    cluster: Cluster | None
    runner: Driven
    timeout_s: float
    recorded: Path | None
    warm: dict[str, tuple[Load, float]] = field(default_factory=dict)
    """The tiny load of each work, and the seconds of a run of it."""

    def laps(self) -> Iterator[Lap]:
        stopped = self._warmed_up()
        slowest: tuple[Load, float] | None = None
        for course in self.race.courses:
            if not stopped and slowest is not None:
                stopped = self._hopeless(course.load, *slowest)
            if stopped:
                yield replace(self._begun(course.load), status=Status.SKIPPED, reason=stopped)
                continue
            spent_s = 0.0
            for number in range(self.race.laps):
                lap = self._lap(course, count=number == 0)
                yield lap
                if lap.status is not Status.DONE:
                    stopped = f"not run: {lap.reason}"
                    break
                spent_s += sum(lap.walls_s)
                slowest = (course.load, max(lap.walls_s))
                if spent_s > self.race.budget_s:
                    break
        if not stopped:
            self.runner.end(_END_S)

    def _warmed_up(self) -> str:
        """Run the tiny load of each work; returns why the entry can't go on, if so."""
        for work in dict.fromkeys(course.load.work for course in self.race.courses):
            tiny = WORKS[work].tiny if work in WORKS else Load(work, size_bytes=20_000_000)
            # Twice, for what is only made when something is used again.
            found = self._lap(Course(tiny, times=2), count=False)
            if found.status is not Status.DONE:
                return found.reason
            self.warm[work] = (tiny, found.walls_s[-1])
        return ""

    def _hopeless(self, load: Load, slowest: Load, wall_s: float) -> str:
        if load.work != slowest.work:
            return ""
        # By the larger one: the time that a job takes at any size is not taken many times over.
        known, wall_s = max((slowest, wall_s), self.warm[load.work], key=lambda one: one[0].size)
        expected_s = wall_s * load.size / known.size
        return f"not run: it would take about {expected_s:.0f} s" if expected_s > self.timeout_s else ""

    def _lap(self, course: Course, *, count: bool) -> Lap:
        lap = self._begun(course.load)
        try:
            self.runner.tell(json.dumps({"load": course.load.to_row(), "times": course.times}))
            if not self.runner.line(_READY_S):
                return replace(lap, status=Status.FAILED, reason=self.runner.complaint())
            conf = self.site.gateway_conf if count and self.entry.workers and self.entry.store else None
            requests = Requests.of(conf) if conf is not None else None
            before_s = self._cpu()
            self.runner.tell("go")
            found = self.runner.line(self.timeout_s * course.times + _GRACE_S)
            # What is written after the answer, such as the note that it was delivered, is part of the job.
            time.sleep(_SETTLE_S)
            after_s = self._cpu()
        except CaseStopped as stopped:
            return replace(lap, reason=str(stopped))
        except BrokenPipeError:
            found = {}
        if not found:
            return replace(lap, status=Status.FAILED, reason=self.runner.complaint())
        if requests is not None and conf is not None:
            counted = (Requests.of(conf) - requests).by_kind
            lap = replace(lap, requests={kind: number / course.times for kind, number in counted.items()})
        if self.recorded is not None:
            lap = replace(lap, stages=spans.stages(spans.read(self.recorded), found["runs"]))
        return replace(
            lap,
            status=Status.DONE,
            walls_s=tuple(round(wall_s, 6) for wall_s in found["walls_s"]),
            right=found["right"],
            cpu_s={role: round((after_s[role] - before_s[role]) / course.times, 4) for role in before_s},
        )

    def _begun(self, load: Load) -> Lap:
        recorded = self.recorded is not None
        return Lap(self.race.name, self.entry.name, load, self.turn, Status.STOPPED, recorded=recorded)

    def _cpu(self) -> dict[str, float]:
        found = {"caller": cpu.process_s(self.runner.pid), "workers": cpu.descendants_s(self.runner.pid)}
        if self.entry.store and self.site.gateway is not None:
            found["store"] = cpu.tree_s(self.site.gateway.pids)
        if self.cluster is not None:
            found["workers"] = cpu.tree_s(worker.pid for worker in self.cluster.workers.values())
            if self.cluster.broker is not None:
                found["broker"] = cpu.tree_s([self.cluster.broker.pid])
            if self.cluster.results is not None:
                found["results"] = cpu.tree_s([self.cluster.results.pid])
        return found


def _crew(race: Race, entry: Entry, environment: dict[str, str]) -> Crew:
    bare = {BARE: "1"} if not entry.store else {}
    return Crew(
        "benchmarks.race.app:app",
        {"worker": None},
        concurrency=THREADS if race.threads else PROCESSES,
        pool="threads" if race.threads else "prefork",
        results=entry.results,
        variables={**environment, **bare},
    )


def _with_options(url: str, options: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{options}" if options else url
