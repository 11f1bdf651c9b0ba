"""fanout: a list as one parameter, a stream, or text that is made while it is read."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from fanout import sources
from fanout.records.keys import launch_of
from fanout.sources.cutting import MAX_OBJECTS
from storage import open_store

from ..small_objects import OBJECT_BYTES, objects_folder
from ..text import part_bytes, text_folder
from ..workloads import WORKS, Workload, cut, documents
from . import CONTENDERS, Job, Measured, Prepare
from .app import CountInPlace, Generated, Items, Parts, SumObjects, Waits, Whole

_ITEM_TASKS = {"digits": Items, "tail": Waits}


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Yield one of fanout's ways; one list as the input if it is none of the others."""
    others: dict[str, Prepare] = {
        "streamed": _streamed,
        "streamed-file": _streamed,
        "here": _cut_by_the_caller,
        "stream-caller": _generated_by_the_caller,
        "stream-worker": _generated_by_a_worker,
        "lines": _in_place,
        "objects": partial(_objects, 1),
        "objects-gathered": partial(_objects, MAX_OBJECTS),
    }
    yield others.get(name, partial(_listed, CONTENDERS[name].chunk_items))


def _listed(chunk_items: int | None, workload: Workload) -> Job:
    whole = WORKS[workload.work].whole(workload)
    if WORKS[workload.work].item is not None:
        task = _ITEM_TASKS[workload.work]
        options: dict[str, Any] = {} if chunk_items is None else {"chunk_items": chunk_items}
        return lambda timeout_s: task.signature({"items": whole}, **options)().get(timeout_s)
    values = {"work": workload.work, "whole": whole, "chunks": workload.chunks}
    return lambda timeout_s: Whole.signature(values, chunk_items=1)().get(timeout_s)


def _streamed(workload: Workload) -> Job:
    whole = WORKS[workload.work].whole(workload)
    if WORKS[workload.work].item is not None:
        return lambda timeout_s: Items.submit({"items": iter(whole)}).get(timeout_s)
    parts = cut(whole, workload.chunks)
    return lambda timeout_s: Parts.submit({"work": workload.work, "parts": iter(parts)}, chunk_items=1).get(timeout_s)


def _cut_by_the_caller(workload: Workload) -> Job:
    whole = WORKS[workload.work].whole(workload)
    values = {"work": workload.work, "whole": whole, "chunks": workload.chunks}
    return lambda timeout_s: Whole.submit(values, setup_in_caller=True, chunk_items=1).get(timeout_s)


def _generated_by_the_caller(workload: Workload) -> Job:
    def run(timeout_s: float) -> object:
        parts = ([text] for text in documents(workload.size_bytes, workload.document_bytes))
        values = {"work": workload.work, "parts": parts}
        return Parts.submit(values, chunk_items=workload.chunk_documents).get(timeout_s)

    return run


def _generated_by_a_worker(workload: Workload) -> Job:
    sizes = {"size_bytes": workload.size_bytes, "document_bytes": workload.document_bytes}
    values = {"work": workload.work, **sizes}
    return lambda timeout_s: Generated.submit(values, chunk_items=workload.chunk_documents).get(timeout_s)


def _in_place(workload: Workload) -> Job:
    text = sources.lines(text_folder(workload.size_bytes))

    def run(timeout_s: float) -> Measured:
        submitted_at = time.time()
        job = CountInPlace.submit({"text": text, "part_bytes": part_bytes(workload.size_bytes)})
        answer, began_at = job.get(timeout_s)

        def find() -> dict[str, float]:
            return {"first_chunk_s": began_at - submitted_at, "setup_bytes": _setup_bytes(job.id)}

        return Measured(answer, find)

    return run


def _objects(part_objects: int, workload: Workload) -> Job:
    values = {"objects": sources.objects(objects_folder(workload.items)), "part_bytes": part_objects * OBJECT_BYTES}
    return lambda timeout_s: SumObjects.submit(values).get(timeout_s)


def _setup_bytes(job_id: str) -> int:
    """Return the size of what setup has written of a job: its packs, their index and the manifest."""
    listed = open_store(os.environ["FANOUT_STORE"]).list(f"_jobs/{job_id}/")
    return sum(info.size for info in listed if launch_of(info.key)[1].startswith(("input/", "manifest")))
