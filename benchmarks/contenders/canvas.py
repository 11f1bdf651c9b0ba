"""Celery without fanout."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import chain, chord, group

from ..small_objects import objects_folder
from ..workloads import WORKS, Workload, cut
from . import BATCH_ITEMS, Job, Prepare, app
from .objects import list_inputs, put_object


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Yield one of Celery's ways; a Canvas of setup, group and join if it is none of the others."""
    others = {
        "group": _as_group,
        "chord": _as_chord,
        "presliced": _as_chord,
        "chunks": _as_chunks,
        "canvas-keys": _as_canvas_of_keys,
    }
    if name == "group-of-keys":
        yield _as_group_of_keys
        return
    way = others.get(name, _as_canvas)
    yield lambda workload: way(workload, WORKS[workload.work].whole(workload))


def _as_canvas(workload: Workload, whole: list[Any]) -> Job:
    """Give each step all that the one before returned."""

    def run(timeout_s: float) -> Any:
        process = group(app.canvas_process.s(workload.work, index) for index in range(workload.chunks))
        canvas = chain(app.canvas_setup.s(whole, workload.chunks), process, app.canvas_join.s(workload.work))
        return canvas.apply_async().get(timeout_s)

    return run


def _as_canvas_of_keys(workload: Workload, whole: list[Any]) -> Job:
    """Put the data in the store and give each step keys: the claim check that one writes oneself."""

    def run(timeout_s: float) -> Any:
        key = put_object(uuid.uuid4().hex, whole)
        process = group(app.keys_process.s(workload.work, index) for index in range(workload.chunks))
        canvas = chain(app.keys_setup.s(key, workload.chunks), process, app.keys_join.s(workload.work))
        return canvas.apply_async().get(timeout_s)

    return run


def _as_group(workload: Workload, whole: list[Any]) -> Job:
    """Collect the results of a group in the caller."""
    parts = cut(whole, workload.chunks)

    def run(timeout_s: float) -> Any:
        sent = group(app.process_part.s(workload.work, part) for part in parts).apply_async()
        return WORKS[workload.work].total(sent.get(timeout_s))

    return run


def _as_group_of_keys(workload: Workload) -> Job:
    """Give each object of the input a task, and collect their results in the caller."""

    def run(timeout_s: float) -> Any:
        keys = list_inputs(objects_folder(workload.items))
        return sum(group(app.process_object.s(key) for key in keys).apply_async().get(timeout_s))

    return run


def _as_chord(workload: Workload, whole: list[Any]) -> Job:
    parts = cut(whole, workload.chunks)

    def run(timeout_s: float) -> Any:
        header = [app.process_part.s(workload.work, part) for part in parts]
        return chord(header)(app.canvas_join.s(workload.work)).get(timeout_s)

    return run


def _as_chunks(workload: Workload, whole: list[Any]) -> Job:
    """Use Celery's own `chunks`, for items."""

    def run(timeout_s: float) -> Any:
        sent = app.process_item.chunks([(item,) for item in whole], BATCH_ITEMS).apply_async()
        return sum(map(sum, sent.get(timeout_s)))

    return run
