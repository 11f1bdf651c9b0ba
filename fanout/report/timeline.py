"""The bars of the timeline: of each chunk of a small job, of many chunks together in a large one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import NamedTuple

from ..figures import format_duration
from .runs import Run

EXACT_BARS = 6_000
"""Most bars of single chunks. A larger job is drawn in cells."""

MOST_ROWS = 64
"""Most rows of workers. More lanes share rows."""

CELLS = 20_000
"""Most cells of a large job, over all rows."""

MOST_COLUMNS = 480
"""Most cells of a row, so that a cell has two pixels or more."""

HEIGHT = 0.84
"""Height of a full bar, where a row has 1."""

KINDS = ("fetched", "ran", "stored", "straggler", "failed", "combined", "setup", "join")
"""The kinds of bars, as the legend names them."""


class Bar(NamedTuple):
    """A bar of the timeline.

    Attributes:
        kind: One of `KINDS`.
        left: Seconds since the begin of the timeline at which it begins.
        right: Seconds at which it ends.
        bottom: Its lower edge, in rows.
        top: Its upper edge.
        label: Its text for a reader who points at it.
    """

    kind: str
    left: float
    right: float
    bottom: float
    top: float
    label: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The timeline of a job.

    Attributes:
        rows: The names of the rows, from the bottom.
        bars: The bars.
        is_exact: Whether each chunk has a bar of its own.
        cell_s: Seconds of a cell, if it has none.
        wall_s: Seconds from its begin to its end.
    """

    rows: Sequence[str]
    bars: Sequence[Bar] = field(repr=False)
    is_exact: bool = True
    cell_s: float = 0.0
    wall_s: float = 0.0


def make_timeline(
    lanes: Mapping[str, Sequence[Run]],
    *,
    setup: Run | None,
    join: Run | None,
    zero_at: float,
    wall_s: float,
    stragglers: frozenset[int] = frozenset(),
) -> Timeline:
    """Return the timeline of a job.

    Args:
        lanes: Lane -> its runs of process and combine, by start.
        setup: The run of setup.
        join: The run of join.
        zero_at: When the timeline begins, in seconds since the epoch.
        wall_s: Seconds from then to its end.
        stragglers: The chunks that took far longer than others.
    """
    bars_of_chunks = sum(run.chunks + 2 for lane in lanes.values() for run in lane)
    is_exact = bars_of_chunks <= EXACT_BARS and len(lanes) <= MOST_ROWS
    groups = _group(list(lanes), len(lanes) if is_exact else MOST_ROWS)
    # Rows are numbered from the bottom: join, the workers from the last to the first, setup.
    below = 1 if join is not None else 0
    rows = ["join"] * below + [_name(group) for group in reversed(groups)] + ["setup"] * (setup is not None)
    bars: list[Bar] = []
    cell_s = 0.0
    if is_exact:
        for row, group in enumerate(reversed(groups), start=below):
            bars += (bar for run in lanes[group[0]] for bar in _draw_run(run, row, zero_at, stragglers))
    elif groups and wall_s:
        cell_s = wall_s / min(MOST_COLUMNS, CELLS // len(groups))
        for row, group in enumerate(reversed(groups), start=below):
            bars += _draw_cells([lanes[name] for name in group], row, zero_at, cell_s, wall_s, stragglers)
    for run, row in ((join, 0), (setup, len(rows) - 1)):
        if run is not None:
            label = f"{run.step} on {run.worker}: {format_duration(run.ended_at - run.started_at)}"
            bars.append(_bar(run.step, run.started_at, run.ended_at, row, zero_at, label))
    return Timeline(rows, bars, is_exact, cell_s, wall_s)


def _group(lanes: Sequence[str], rows: int) -> list[list[str]]:
    """Return the lanes in at most so many groups of nearly equal size."""
    if not lanes:
        return []
    size = -(-len(lanes) // max(1, rows))
    return [list(lanes[start : start + size]) for start in range(0, len(lanes), size)]


def _name(group: Sequence[str]) -> str:
    return group[0] if len(group) == 1 else f"{group[0]} and {len(group) - 1} more"


def _bar(kind: str, began_at: float, ended_at: float, row: int, zero_at: float, label: str) -> Bar:
    edge = (1 - HEIGHT) / 2
    left, right = began_at - zero_at, max(began_at, ended_at) - zero_at
    return Bar(kind, round(left, 6), round(right, 6), row + edge, row + 1 - edge, label)


def _draw_run(run: Run, row: int, zero_at: float, stragglers: frozenset[int]) -> Iterator[Bar]:
    if run.step == "combine":
        label = f"combine: {format_duration(run.ran_s)}"
        yield _bar("combined", run.started_at, run.ended_at, row, zero_at, label)
        return
    ran_at = run.started_at + run.fetched_s
    if run.fetched_s > 0:
        label = f"fetched parameters and items: {format_duration(run.fetched_s)}"
        yield _bar("fetched", run.started_at, ran_at, row, zero_at, label)
    waited = f", waited {format_duration(run.waited_s)}" if run.waited_s is not None else ""
    for span in run.chunk_spans():
        kind = "failed" if run.failed else "straggler" if span.chunk in stragglers else "ran"
        failed = f", {run.failed:,} items failed" if run.failed else ""
        label = f"chunk {span.chunk:,}: {format_duration(span.took_s)}{waited}{failed}"
        yield _bar(kind, span.began_at, span.began_at + span.took_s, row, zero_at, label)
    if run.stored_s:
        label = f"stored the result: {format_duration(run.stored_s)}"
        yield _bar("stored", run.ended_at, run.ended_at + run.stored_s, row, zero_at, label)


def _draw_cells(
    lanes: Sequence[Sequence[Run]],
    row: int,
    zero_at: float,
    cell_s: float,
    wall_s: float,
    stragglers: frozenset[int],
) -> Iterator[Bar]:
    """Yield bars whose heights are the shares of a cell's time, with equal neighbours joined."""
    columns = max(1, round(wall_s / cell_s))
    seconds = {kind: [0.0] * columns for kind in ("fetched", "ran", "straggler", "stored", "combined", "failed")}
    for run in (run for lane in lanes for run in lane):
        for kind, began_at, ended_at in _spans_of(run, stragglers):
            _add(seconds[kind], began_at - zero_at, ended_at - zero_at, cell_s)
    whole = cell_s * len(lanes)
    cells = zip(*([round(min(1.0, used / whole), 2) for used in column] for column in seconds.values()), strict=True)
    column = 0
    for mix, same in groupby(cells):
        count = len(list(same))
        bottom = row + (1 - HEIGHT) / 2
        for kind, share in zip(seconds, mix, strict=True):
            if share:
                top = min(bottom + share * HEIGHT, row + (1 + HEIGHT) / 2)
                left, right = column * cell_s, (column + count) * cell_s
                yield Bar(kind, round(left, 3), round(right, 3), round(bottom, 3), round(top, 3), "")
                bottom = top
        column += count


def _spans_of(run: Run, stragglers: frozenset[int]) -> Iterator[tuple[str, float, float]]:
    """Yield kind, begin and end of the parts of a run; its chunks by themselves if one of them is a straggler."""
    ran_at = run.started_at + run.fetched_s
    yield "fetched", run.started_at, ran_at
    if run.step == "combine":
        yield "combined", ran_at, run.ended_at
    elif run.failed:
        yield "failed", ran_at, run.ended_at
    elif stragglers.isdisjoint(range(run.chunk, run.chunk + run.chunks)):
        yield "ran", ran_at, run.ended_at
    else:
        for span in run.chunk_spans():
            kind = "straggler" if span.chunk in stragglers else "ran"
            yield kind, span.began_at, span.began_at + span.took_s
    yield "stored", run.ended_at, run.ended_at + (run.stored_s or 0.0)


def _add(cells: list[float], began_s: float, ended_s: float, cell_s: float) -> None:
    """Add the seconds between two moments to the cells that they lie in."""
    first, last = (min(max(int(at_s / cell_s), 0), len(cells) - 1) for at_s in (began_s, ended_s))
    for cell in range(first, last + 1):
        seconds = min(ended_s, (cell + 1) * cell_s) - max(began_s, cell * cell_s)
        cells[cell] += max(0.0, seconds)
