"""A user's module that type checkers accept; never run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, assert_type

from celery import Celery

import fanout
from fanout import ForkJoinTask, Job, Results, fork_join


class WordCount(ForkJoinTask[Counter[str]]):
    """A task that names the type of its value."""

    input_schema = {"documents": {"type": "list", "required": True}}
    chunk_items = 10

    @staticmethod
    def setup(documents: Iterable[str]) -> Iterator[dict[str, Any]]:
        for document in documents:
            yield {"document": document}

    @staticmethod
    def process(document: str) -> Counter[str]:
        return Counter(document.split())

    @staticmethod
    def combine(one: Counter[str], other: Counter[str]) -> Counter[str]:
        return one + other

    @staticmethod
    def join(counters: Results) -> Counter[str]:
        total: Counter[str] = Counter()
        for counter in counters:
            total += counter
        return total


class Untyped(ForkJoinTask):
    """A task that does not; its value may be anything."""

    input_schema = {"numbers": {"type": "list"}}

    @staticmethod
    def setup(numbers):
        return [{"number": number} for number in numbers]

    @staticmethod
    def process(number):
        return number

    @staticmethod
    def join(results):
        return list(results)


def each(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"number": number} for number in numbers]


def square(number: int) -> int:
    return number * number


def total(squares: Iterable[int]) -> int:
    return sum(squares)


Squares = fork_join("squares", setup=each, process=square, join=total, input_schema={"numbers": {"type": "list"}})

app = fanout.connect(Celery("typed"), store="memory://typed")

assert_type(app, Celery)
assert_type(WordCount.run({"documents": ["a b"]}, executor="threads"), Counter[str])
assert_type(WordCount.submit({"documents": ["a b"]}), Job[Counter[str]])
assert_type(WordCount.submit({"documents": []}, chunk_items=2), Job[Counter[str]])
assert_type(WordCount.submit({"documents": ["a b"]}).get(timeout=1.5), Counter[str])
assert_type(WordCount.signature({"documents": ["a b"]})().get(), Counter[str])
assert_type(Untyped.run({"numbers": [1]}), Any)
assert_type(Squares, type[ForkJoinTask[int]])
assert_type(Squares.run({"numbers": [1]}), int)
assert_type(fanout.attach("id"), Job[Any])


async def wait_for_words() -> None:
    job = await WordCount.submit_async({"documents": ["a b"]})
    assert_type(job, Job[Counter[str]])
    assert_type(await job, Counter[str])
    async for index, _ in job.as_completed(timeout=1.5):
        assert_type(index, int)


for index, _ in WordCount.submit({"documents": ["a b"]}).as_completed():
    assert_type(index, int)
