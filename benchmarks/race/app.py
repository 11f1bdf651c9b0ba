"""The Celery app of the races: the works as Celery tasks and as tasks of ours. The only module with Celery."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from celery import Celery, chain, chord, group

import fanout

from . import recorder, spans, tasks  # noqa: F401 - the tasks are declared by it
from .works import WORKS, Load, cut

BARE = "FANOUT_BENCH_BARE"
"""Environment variable that is set for Celery without fanout."""

TINY_ITEMS = 1000
"""Items in a chunk of Celery's own `chunks`."""

app = Celery("fanout-race")
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,
)
if not os.environ.get(BARE):
    # Bare Canvas has Celery's defaults: it runs without publisher confirms, and acknowledges early, which is faster.
    app.conf.update(fanout.RECOMMENDED)
fanout.connect(app)
if spans.DIRECTORY in os.environ:
    recorder.installed(Path(os.environ[spans.DIRECTORY]), app)


@app.task(name="bench.step")
def step(work: str, part: list[Any]) -> Any:
    """A part."""
    return WORKS[work].step(part)


@app.task(name="bench.total")
def total(results: list[Any], work: str) -> Any:
    """The end."""
    return WORKS[work].total(results)


@app.task(name="bench.whole_setup")
def whole_setup(whole: list[Any], chunks: int) -> list[list[Any]]:
    """The whole input, in parts."""
    return cut(whole, chunks)


@app.task(name="bench.whole_step")
def whole_step(parts: list[list[Any]], work: str, index: int) -> Any:
    """Is given everything, and takes its own part."""
    return WORKS[work].step(parts[index])


@app.task(name="bench.digits")
def digits(item: str) -> int:
    """One item."""
    return int(item)


def as_group(load: Load, whole: list[Any]) -> Callable[[float], Any]:
    """A group, its results collected and summed by the caller."""
    parts = cut(whole, load.chunks)

    def run(timeout_s: float) -> Any:
        sent = group(step.s(load.work, part) for part in parts).apply_async()
        return WORKS[load.work].total(sent.get(timeout_s))

    return run


def as_chord(load: Load, whole: list[Any]) -> Callable[[float], Any]:
    """A chord."""
    parts = cut(whole, load.chunks)
    return lambda timeout_s: chord([step.s(load.work, part) for part in parts])(total.s(load.work)).get(timeout_s)


def as_canvas(load: Load, whole: list[Any]) -> Callable[[float], Any]:
    """A chain of setup, group and join, where each step is given what the one before returned."""
    return lambda timeout_s: (
        chain(
            whole_setup.s(whole, load.chunks),
            group(whole_step.s(load.work, index) for index in range(load.chunks)),
            total.s(load.work),
        )
        .apply_async()
        .get(timeout_s)
    )


def as_chunks(load: Load, whole: list[Any]) -> Callable[[float], Any]:
    """Celery's own `chunks`, for items."""

    def run(timeout_s: float) -> Any:
        sent = digits.chunks([(item,) for item in whole], TINY_ITEMS).apply_async()
        return sum(map(sum, sent.get(timeout_s)))

    return run
