"""A progress bar drawn by rich. The only module that imports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from ..progress import JobState, Progress, format_rate, format_seconds

LABEL_WIDTH = 14
BAR_WIDTH = 20
"""Most characters of the label and of the bar. The bar shrinks where 80 columns are too few."""

NOTE_WIDTH = 40
"""Most characters of a step's note behind the bar."""

COLORS = {JobState.SUCCEEDED: "green", JobState.FAILED: "red", JobState.CANCELLED: "yellow"}


def draw(label: str, file: TextIO) -> AbstractContextManager[Callable[[Progress], object]] | None:
    """Return a bar to draw on; None if the file is no terminal and this is no notebook.

    Args:
        label: What is drawn, in words. The first word is drawn before the bar.
        file: Where to draw.
    """
    console = Console(file=file)
    return _draw(label, console) if console.is_terminal or console.is_jupyter else None


@contextmanager
def _draw(label: str, console: Console) -> Iterator[Callable[[Progress], object]]:
    with Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR_WIDTH),
        TextColumn("{task.fields[text]}"),
        TimeElapsedColumn(),
        console=console,
        refresh_per_second=4,
    ) as bars:
        task = bars.add_task(label.split()[0][:LABEL_WIDTH], total=None, text="")

        def show(progress: Progress) -> None:
            bars.update(task, total=progress.items, completed=progress.items_done or 0, text=_describe(progress))

        yield show


def _describe(progress: Progress) -> str:
    """Return what comes after the bar, in rich's markup."""
    parts = []
    if progress.items is None or progress.state not in (JobState.PROCESSING, JobState.SUCCEEDED):
        color = COLORS.get(progress.state)
        parts.append(f"[{color}]{progress.state}[/]" if color else str(progress.state))
    if progress.items is not None:
        least = "≥" if progress.is_partial else ""
        parts.append(f"{least}{_shorten(progress.items_done or 0)}/{_shorten(progress.items)}")
    if progress.items_failed:
        parts.append(f"[red]{_shorten(progress.items_failed)} failed[/]")
    if progress.items_per_s is not None:
        parts.append(f"{format_rate(progress.items_per_s)}/s")
    if progress.left_s is not None:
        parts.append(f"{format_seconds(progress.left_s)} left")
    if progress.note:
        parts.append(escape(progress.note[:NOTE_WIDTH]))
    return "  ".join(parts)


def _shorten(number: int) -> str:
    """Return a number in at most six characters: `9,999`, `120k` or `1.25M`."""
    if number < 10_000:
        return f"{number:,}"
    return f"{number / 1_000:.0f}k" if number < 1_000_000 else f"{number / 1_000_000:.2f}M"
