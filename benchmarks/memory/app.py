"""The Celery app of the benchmark: the same word count three ways. The only module here that imports Celery."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from celery import Celery, chain, chord, group

import fanout

from ..text import count_words, documents
from .cases import BARE, Case, Variant

VARIANT = "FANOUT_BENCH_VARIANT"
"""Environment variable that names the variant, for the settings that differ."""

app = Celery("fanout-bench")
app.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    # One message at a time in all variants: else one worker may hold what the other could do.
    worker_prefetch_multiplier=1,
    # A queue a step, so that the memory of the process that runs a step can be told from the others'.
    task_routes={f"bench.*.{step}": {"queue": step} for step in ("setup", "process", "join")},
)
if os.environ.get(VARIANT) not in BARE:
    # Bare Canvas runs without publisher confirms, which is Celery's default and faster.
    app.conf.update(fanout.RECOMMENDED)
fanout.connect(app)


@app.task(name="bench.canvas.setup")
def canvas_setup(texts: list[str], chunks: int) -> list[list[str]]:
    """The whole input, in slices."""
    return sliced(texts, chunks)


@app.task(name="bench.canvas.process")
def canvas_process(slices: list[list[str]], index: int) -> Counter[str]:
    """Is given everything, and takes its own slice."""
    return total(map(count_words, slices[index]))


@app.task(name="bench.canvas.join")
def canvas_join(counters: list[dict[str, int]]) -> Counter[str]:
    """The sum."""
    return total(counters)


@app.task(name="bench.presliced.process")
def presliced_process(texts: list[str]) -> Counter[str]:
    """Is given its slice."""
    return total(map(count_words, texts))


@app.task(name="bench.presliced.join")
def presliced_join(counters: list[dict[str, int]]) -> Counter[str]:
    """The sum."""
    return total(counters)


class WordCount(fanout.ForkJoinTask):
    """The same, slice for slice: an item is a slice, so that there are as many counters as with bare Canvas."""

    name = "bench.fanout"
    input_schema = {"texts": {"type": "list", "required": True}, "chunks": {"type": "integer", "required": True}}

    @staticmethod
    def setup(texts: list[str], chunks: int) -> list[dict[str, Any]]:
        return [{"part": part} for part in sliced(texts, chunks)]

    @staticmethod
    def process(part: list[str]) -> Counter[str]:
        return total(map(count_words, part))

    @staticmethod
    def join(counters: Iterable[Counter[str]]) -> Counter[str]:
        return total(counters)


class StreamedWordCount(fanout.ForkJoinTask):
    """The same, of slices that the caller streams: setup runs there, and each slice is on its way at once."""

    name = "bench.streamed"
    input_schema = {"parts": {"type": "list", "required": True}}

    @staticmethod
    def setup(parts: Iterable[list[str]]) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in parts)

    @staticmethod
    def process(part: list[str]) -> Counter[str]:
        return total(map(count_words, part))

    @staticmethod
    def join(counters: Iterable[Counter[str]]) -> Counter[str]:
        return total(counters)


class GeneratedWordCount(fanout.ForkJoinTask):
    """The word count over text that setup makes: nowhere is there all of it."""

    name = "bench.generated"
    input_schema = {
        "size_bytes": {"type": "integer", "required": True},
        "document_bytes": {"type": "integer", "required": True},
    }

    @staticmethod
    def setup(size_bytes: int, document_bytes: int) -> Iterator[dict[str, Any]]:
        return ({"part": [text]} for text in documents(size_bytes, document_bytes=document_bytes))

    @staticmethod
    def process(part: list[str]) -> Counter[str]:
        return total(map(count_words, part))

    @staticmethod
    def join(counters: Iterable[Counter[str]]) -> Counter[str]:
        return total(counters)


def sliced(texts: Sequence[str], chunks: int) -> list[list[str]]:
    """Consecutive texts in `chunks` slices that differ in length by at most one."""
    bounds = [len(texts) * index // chunks for index in range(chunks + 1)]
    return [list(texts[start:end]) for start, end in pairwise(bounds)]


def total(counters: Iterable[Any]) -> Counter[str]:
    """The sum of counters, holding one at a time."""
    counts: Counter[str] = Counter()
    for counter in counters:
        counts.update(counter)
    return counts


def prepared(case: Case) -> Callable[[float], dict[str, int]]:
    """Make what the caller has before the clock starts; return what to call, with a timeout in seconds, for the answer.

    A caller that streams has nothing: its documents are made while they are read.
    """
    sizes = {"size_bytes": case.size_bytes, "document_bytes": case.document_bytes}
    if case.variant is Variant.STREAM_CALLER:
        made = ([text] for text in documents(**sizes))
        return lambda timeout_s: StreamedWordCount.submit({"parts": made}, chunk_items=case.chunk_items).get(timeout_s)
    if case.variant is Variant.STREAM_WORKER:
        return lambda timeout_s: GeneratedWordCount.submit(sizes, chunk_items=case.chunk_items).get(timeout_s)
    texts = list(documents(**sizes))
    if case.variant is Variant.FANOUT:
        values = {"texts": texts, "chunks": case.chunks}
        return lambda timeout_s: WordCount.signature(values, chunk_items=1)().get(timeout_s)
    if case.variant is Variant.STREAMED:
        parts = iter(sliced(texts, case.chunks))
        return lambda timeout_s: StreamedWordCount.submit({"parts": parts}, chunk_items=1).get(timeout_s)
    if case.variant is Variant.HERE:
        values = {"texts": texts, "chunks": case.chunks}
        return lambda timeout_s: WordCount.submit(values, setup_in_caller=True, chunk_items=1).get(timeout_s)
    if case.variant is Variant.PRESLICED:
        return lambda timeout_s: chord([presliced_process.s(part) for part in sliced(texts, case.chunks)])(
            presliced_join.s()
        ).get(timeout_s)
    return lambda timeout_s: (
        chain(
            canvas_setup.s(texts, case.chunks),
            group(canvas_process.s(index) for index in range(case.chunks)),
            canvas_join.s(),
        )
        .apply_async()
        .get(timeout_s)
    )
