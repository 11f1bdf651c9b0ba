"""The Celery app of the caller and the workers, with the works as Celery tasks and as tasks of fanout."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from celery import Celery

import fanout
from fanout import sources

from .. import stages
from ..small_objects import read_number
from ..text import PartCount
from ..workloads import WORKS, cut, documents, iterate_parts, sum_objects, sum_words, wait_once
from . import CONTENDER, CONTENDERS, QUEUES
from .objects import get_input, get_object, put_object

app = Celery("fanout-bench")
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    # With more, one worker may hold what another could do.
    worker_prefetch_multiplier=1,
)
_contender = CONTENDERS[os.environ.get(CONTENDER, "fanout")]
if _contender.module == "with_fanout":
    # Bare Canvas keeps Celery's defaults: it publishes without confirms and acknowledges early, which is faster.
    app.conf.update(fanout.RECOMMENDED)
app.conf.update(_contender.settings)
if QUEUES in os.environ:
    app.conf.task_routes = {f"bench.*.{step}": {"queue": step} for step in ("setup", "process", "join")}
fanout.connect(app)


@app.task(name="bench.canvas.setup")
def canvas_setup(whole: list[Any], chunks: int) -> list[list[Any]]:
    """Cut the whole input into parts."""
    return cut(whole, chunks)


@app.task(name="bench.canvas.process")
def canvas_process(parts: list[list[Any]], work: str, index: int) -> Any:
    """Take one part of all that setup returned, and do the step."""
    return WORKS[work].step(parts[index])


@app.task(name="bench.canvas.join")
def canvas_join(results: list[Any], work: str) -> Any:
    """Join the results."""
    return WORKS[work].total(results)


@app.task(name="bench.part.process")
def process_part(work: str, part: list[Any]) -> Any:
    """Do the step on the part that the message holds."""
    return WORKS[work].step(part)


@app.task(name="bench.item.process")
def process_item(item: str) -> int:
    """Do the step on one item."""
    return int(item)


@app.task(name="bench.keys.setup")
def keys_setup(key: str, chunks: int) -> list[str]:
    """Get the whole input, and put each part under a key."""
    return [put_object(f"{key}/parts/{index}", part) for index, part in enumerate(cut(get_object(key), chunks))]


@app.task(name="bench.keys.process")
def keys_process(keys: list[str], work: str, index: int) -> str:
    """Get one part, do the step, and put the result."""
    return put_object(f"{keys[index]}/result", WORKS[work].step(get_object(keys[index])))


@app.task(name="bench.keys.join")
def keys_join(keys: list[str], work: str) -> Any:
    """Get the results one by one, and join them."""
    return WORKS[work].total(map(get_object, keys))


@app.task(name="bench.object.process")
def process_object(key: str) -> int:
    """Get one object of the input with boto3, and return its number."""
    return read_number(get_input(key))


def _require(**types: str) -> dict[str, dict[str, Any]]:
    """Return a schema of required fields."""
    return {field: {"type": kind, "required": True} for field, kind in types.items()}


class Steps(fanout.ForkJoinTask, abstract=True):
    """Process and join of any work."""

    @staticmethod
    def process(part: list[Any], work: str) -> Any:
        return WORKS[work].step(part)

    @staticmethod
    def join(results: Iterable[Any], work: str) -> Any:
        return WORKS[work].total(results)


class Whole(Steps):
    """A work on one list, which setup cuts into parts."""

    name = "bench.whole"
    input_schema = _require(work="string", whole="list", chunks="integer")

    @staticmethod
    def setup(whole: list[Any], chunks: int) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in iterate_parts(whole, chunks))


class Parts(Steps):
    """A work on parts that the caller streams."""

    name = "bench.parts"
    input_schema = _require(work="string", parts="list")

    @staticmethod
    def setup(parts: Iterable[list[Any]]) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in parts)


class Generated(Steps):
    """A work on text that setup makes while it is read."""

    name = "bench.generated"
    input_schema = _require(work="string", size_bytes="integer", document_bytes="integer")

    @staticmethod
    def setup(size_bytes: int, document_bytes: int) -> Iterator[dict[str, Any]]:
        return ({"part": [text]} for text in documents(size_bytes, document_bytes))


class CountInPlace(fanout.ForkJoinTask):
    """Counts the words of a text where it lies; the answer says when the first part was begun."""

    name = "bench.text"
    input_schema = _require(text="source", part_bytes="integer")

    @staticmethod
    def setup(text: sources.Source, part_bytes: int) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in text.parts(part_bytes))

    @staticmethod
    def process(part: sources.Part) -> tuple[float, Counter[str]]:
        count = PartCount.of(part)
        return count.began_at, count.counts

    @staticmethod
    def join(results: Iterable[tuple[float, Counter[str]]]) -> tuple[str, float]:
        begun_at: list[float] = []

        def counters() -> Iterator[Counter[str]]:
            for began_at, counts in results:
                begun_at.append(began_at)
                yield counts

        return sum_words(counters()), min(begun_at)


class SumObjects(fanout.ForkJoinTask):
    """Sums the numbers of small objects where they lie."""

    name = "bench.objects"
    input_schema = _require(objects="source", part_bytes="integer")

    @staticmethod
    def setup(objects: sources.Source, part_bytes: int) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in objects.parts(part_bytes))

    @staticmethod
    def process(part: sources.Part) -> int:
        return sum_objects(one.data for one in part)

    @staticmethod
    def join(results: Iterable[int]) -> int:
        return sum(results)


class Items(fanout.ForkJoinTask):
    """A work item by item, cut as fanout chooses."""

    name = "bench.items"
    input_schema = _require(items="list")

    @staticmethod
    def setup(items: Iterable[str]) -> Iterator[dict[str, Any]]:
        return ({"item": item} for item in items)

    @staticmethod
    def process(item: str) -> int:
        return int(item)

    @staticmethod
    def join(results: Iterable[int]) -> int:
        return sum(results)


class Waits(fanout.ForkJoinTask):
    """Waits item by item, on a list whose length setup knows."""

    name = "bench.waits"
    input_schema = _require(items="list")

    @staticmethod
    def setup(items: list[float]) -> list[dict[str, Any]]:
        return [{"item": item} for item in items]

    @staticmethod
    def process(item: float) -> float:
        return wait_once(item)

    @staticmethod
    def join(results: Iterable[float]) -> Any:
        return WORKS["tail"].total(results)


if stages.DIRECTORY in os.environ:
    from .. import recorder

    recorder.install(Path(os.environ[stages.DIRECTORY]), app)
