"""Figures of runs, and their medians, lowest and highest over the runs of a case."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median

from fanout.figures import format_size

from .run import Run, Status
from .workloads import Workload, waits

NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs.

    Attributes:
        median: The middle one.
        low: The smallest.
        high: The largest.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Return the spread of the values that there are; None if there are none."""
        found = [value for value in values if value is not None]
        return cls(median(found), min(found), max(found)) if found else None


@dataclass(frozen=True, slots=True)
class Case:
    """All runs of one contender with one workload.

    Attributes:
        contender: Name of the contender.
        workload: The workload.
        runs: One at least, in the order in which they were run.
    """

    contender: str
    workload: Workload
    runs: tuple[Run, ...]

    @property
    def done(self) -> tuple[Run, ...]:
        """The runs that came to their end."""
        return tuple(run for run in self.runs if run.status is Status.DONE)

    @property
    def wall(self) -> Spread | None:
        """Seconds to the answer."""
        return Spread.of(wall_s for run in self.done for wall_s in run.walls_s)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of runs.

    Attributes:
        heading: Its name in tables, with the unit where `show` has none.
        values: Its values in one run.
        show: A value as text.
        has_range: Whether a table shows the lowest and the highest too.
    """

    heading: str
    values: Callable[[Run], Iterable[float | None]]
    show: Callable[[float], str]
    has_range: bool = False

    def spread(self, case: Case) -> Spread | None:
        """Return the figure over the runs of a case that came to their end."""
        return Spread.of(value for run in case.done for value in self.values(run))

    def text(self, case: Case) -> str:
        """Return the median as text, with the range in brackets where it is asked for and the runs differ."""
        return show_spread(self.spread(case), self.show, has_range=self.has_range)


def show_spread(spread: Spread | None, show: Callable[[float], str], *, has_range: bool = True) -> str:
    """Return the median as text, with the range in brackets where the values differ."""
    if spread is None:
        return NOTHING
    low, high = show(spread.low), show(spread.high)
    return show(spread.median) if low == high or not has_range else f"{show(spread.median)} ({low} … {high})"


def group_runs(runs: Iterable[Run], *, recorded: bool = False) -> list[Case]:
    """Group the runs by case, in the order of first appearance; those with recorded stages, or those without."""
    found: dict[tuple[str, Workload], list[Run]] = {}
    for run in runs:
        if run.recorded == recorded:
            found.setdefault((run.contender, run.workload), []).append(run)
    return [Case(*key, tuple(group)) for key, group in found.items()]


def compare_medians(runs: Sequence[Run], contender: str, others: Sequence[str], workload: Workload) -> Spread | None:
    """Return how many times as long one contender takes as the fastest of others.

    It is a ratio of medians for each repetition of one command, and so of what ran close in time.
    """

    def of(name: str, session: tuple[str, int]) -> Spread | None:
        key = (name, workload, session)
        same = (run for run in runs if (run.contender, run.workload, _session(run)) == key)
        return Spread.of(wall_s for run in same for wall_s in run.walls_s)

    ratios = []
    for session in sorted({_session(run) for run in runs}):
        medians = [spread.median for other in others if (spread := of(other, session))]
        if medians and (one := of(contender, session)):
            ratios.append(one.median / min(medians))
    return Spread.of(ratios)


def _session(run: Run) -> tuple[str, int]:
    return run.context.date if run.context is not None else "", run.repetition


def name_workload(workload: Workload) -> str:
    """Return a workload in words, such as "40 MB × 32 chunks"."""
    size = show_size(workload.size_bytes).replace(".0 ", " ") if workload.size_bytes else ""
    if workload.work in ("upload", "download"):
        return f"{workload.work} {size}"
    items = f"{workload.items:,} items" if workload.items and workload.work != "wait" else ""
    noun = "step" if workload.work == "wait" else "chunk"
    chunks = f"{workload.chunks:,} {noun}{'s' * (workload.chunks > 1)}" if workload.chunks else ""
    threads = f" on {workload.threads} threads" if workload.threads else ""
    return " × ".join(filter(None, (size, items, chunks))) + threads


def show_size(size_bytes: float) -> str:
    """Return a number of bytes for people."""
    return format_size(max(0, int(size_bytes)))


def _time(heading: str, value: Callable[[Workload, float], float], show: Callable[[float], str]) -> Figure:
    return Figure(heading, lambda run: (value(run.workload, wall_s) for wall_s in run.walls_s), show, True)


def _size(heading: str, value: Callable[[Run], float | None]) -> Figure:
    return Figure(heading, lambda run: [value(run)], show_size)


def _memory(heading: str, attribute: str, *roles: str) -> Figure:
    """Make a figure of the largest of some process trees."""

    def values(run: Run) -> list[int | None]:
        return [max((getattr(run.memory[role], attribute) for role in roles if role in run.memory), default=None)]

    return Figure(heading, values, show_size)


def _published(run: Run) -> float | None:
    return run.traffic.published_bytes if run.traffic and not run.traffic.lost else None


def _cpu(role: str) -> Figure:
    return Figure(role, lambda run: [run.cpu_s.get(role)], "{:,.3f}".format)


SECONDS = _time("answer after, s", lambda workload, wall_s: wall_s, "{:,.2f}".format)
WALL = replace(SECONDS, heading="wall, s", has_range=False)
MILLISECONDS = _time("answer after, ms", lambda workload, wall_s: 1000 * wall_s, "{:,.1f}".format)
CHUNK_MS = _time("ms a chunk", lambda workload, wall_s: 1000 * wall_s / workload.chunks, "{:,.2f}".format)
ITEM_MS = _time("ms an object", lambda workload, wall_s: 1000 * wall_s / workload.items, "{:,.3f}".format)
ITEM_US = _time("µs an item", lambda workload, wall_s: 1e6 * wall_s / workload.items, "{:,.2f}".format)
THROUGHPUT = _time("MB a second", lambda workload, wall_s: workload.size_bytes / 1e6 / wall_s, "{:,.0f}".format)
SPEED_UP = _time("speed-up", lambda workload, wall_s: sum(waits(workload)) / wall_s, "{:,.1f}".format)

BROKER_GROWTH = _memory("grows by", "growth_bytes", "broker")
BROKER_PEAK = _memory("peak", "peak_bytes", "broker")
PUBLISHED = _size("published", _published)
CHUNK_BYTES = Figure(
    "broker bytes a chunk",
    lambda run: [None if (size := _published(run)) is None else size / run.workload.chunks],
    "{:,.0f}".format,
)
MESSAGES = Figure("messages", lambda run: [run.traffic.published if run.traffic else None], "{:,.0f}".format)
_WORKERS = ("process-1", "process-2")
_ROLES = {"caller": ["caller"], "setup": ["setup"], "process": ["process-1", "process-2"], "join": ["join"]}
PEAKS = {name: _memory(name, "peak_bytes", *roles) for name, roles in _ROLES.items()}
LARGEST = [_memory(name, "process_bytes", *roles) for name, roles in _ROLES.items()]
LARGEST_SETUP = replace(LARGEST[1], heading="setup")
LARGEST_WORKER = Figure(
    "largest worker",
    lambda run: (
        [max((one.process_bytes for role, one in run.memory.items() if role in _WORKERS), default=None)]
        if len(run.memory) > 1
        else [one.process_bytes for one in run.memory.values()]
    ),
    show_size,
)
FIRST_CHUNK = Figure("first part after, s", lambda run: [run.noted.get("first_chunk_s")], "{:,.2f}".format)
SETUP_BYTES = _size("setup wrote", lambda run: run.noted.get("setup_bytes"))
RESULTS_PEAK = _memory("Redis", "peak_bytes", "results")
CPU = [_cpu(role) for role in ("caller", "workers", "store", "broker", "results")]
REQUESTS = Figure("S3 requests", lambda run: [run.requests.total if run.requests else None], "{:,.0f}".format)
PRICE = Figure("at S3's prices, $", lambda run: [run.requests.dollars if run.requests else None], "{:,.3f}".format)
UPLOADED = _size("S3 up", lambda run: run.requests.uploaded_bytes if run.requests else None)
DOWNLOADED = _size("S3 down", lambda run: run.requests.downloaded_bytes if run.requests else None)
