"""Results for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fanout.report import format_size

from ..spread import Spread, shown
from . import summary as figures
from .record import Trial
from .summary import Summary, summaries

if TYPE_CHECKING:
    from rich.table import Table

PROCESSES = ("process-1", "process-2")


def costs(trials: Sequence[Trial]) -> Table:
    """What each case cost the broker, and how long it took. Medians; the range of repeated trials in brackets."""
    table = _table(
        "In the broker",
        [
            "input",
            "chunks",
            "variant",
            "RabbitMQ before",
            "growth",
            "published",
            "delivered",
            "messages",
            "wall",
            "right",
        ],
    )
    for one in summaries(trials):
        cells = [
            _size(one.of(figures.broker_before)),
            _size(one.of(figures.broker_growth)),
            _size(one.of(figures.published)),
            _size(one.of(figures.delivered)),
            _count(one.of(figures.messages)),
            _seconds(one.of(figures.wall)),
            "yes" if one.right else "[red]NO[/]",
        ]
        table.add_row(*_heading(one), *(cells if one.done else [f"[yellow]{one.remark}[/]"]))
    return table


def footprints(trials: Sequence[Trial]) -> Table:
    """Peak memory of everything else, and what the store was asked."""
    table = _table(
        "Everywhere else: peak memory of process trees, and the store",
        [
            "input",
            "chunks",
            "variant",
            "caller",
            "setup",
            "process",
            "join",
            "Redis",
            "S3 requests",
            "S3 up",
            "S3 down",
        ],
    )
    for one in summaries(trials):
        if one.done:
            peaks = [("caller",), ("setup",), PROCESSES, ("join",), ("results",)]
            table.add_row(
                *_heading(one),
                *(_size(one.of(figures.peak(*roles))) for roles in peaks),
                _count(one.of(lambda trial: trial.requests.total if trial.requests else None)),
                _size(one.of(lambda trial: trial.requests.uploaded_bytes if trial.requests else None)),
                _size(one.of(lambda trial: trial.requests.downloaded_bytes if trial.requests else None)),
            )
    return table


def streams(trials: Sequence[Trial]) -> Table:
    """Peak memory by role while the input grows. A tree's memory, and in brackets its largest process's."""
    table = _table(
        "Peak memory: process tree (its largest process)",
        [
            "input",
            "chunks",
            "of",
            "setup in",
            "caller",
            "setup",
            "process",
            "join",
            "broker bytes a chunk",
            "wall",
            "right",
        ],
    )
    for one in summaries(trials):
        where = "caller" if one.variant == "stream-caller" else "worker"
        heading = [format_size(one.size_bytes), f"{one.chunks:,}", format_size(one.size_bytes // one.chunks), where]
        if not one.done:
            table.add_row(*heading, f"[yellow]{one.remark}[/]")
            continue
        cells = [_tree(one, roles) for roles in (("caller",), ("setup",), PROCESSES, ("join",))]
        a_chunk = one.of(lambda trial: _over(figures.published(trial), trial.case.chunks))
        cells += [_count(a_chunk), _seconds(one.of(figures.wall)), "yes" if one.right else "[red]NO[/]"]
        table.add_row(*heading, *cells)
    return table


def _table(title: str, columns: Sequence[str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="left" if column in ("variant", "setup in", "right") else "right")
    return table


def _heading(one: Summary) -> list[str]:
    return [format_size(one.size_bytes), f"{one.chunks:,}", str(one.variant)]


def _tree(one: Summary, roles: tuple[str, ...]) -> str:
    tree, process = one.of(figures.peak(*roles)), one.of(figures.largest_process(*roles))
    return f"{_size(tree)} ({_size(process)})"


def _over(value: float | None, number: int) -> float | None:
    return value / number if value is not None else None


def _size(found: Spread | None) -> str:
    return shown(found, lambda value: format_size(max(0, int(value))))


def _count(found: Spread | None) -> str:
    return shown(found, lambda value: f"{value:,.0f}")


def _seconds(found: Spread | None) -> str:
    return shown(found, lambda value: f"{value:.2f} s")
