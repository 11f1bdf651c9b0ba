"""The work of the races: an input, a step on a part of it, and what becomes of the results."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from ..text import documents, fingerprint, serial_count

SHAPE_SEED = 2017
SHORTEST_S, LONGEST_S = 0.5, 1.0
"""A step of `wait` takes so long, as the alignments of one edit may."""


@dataclass(frozen=True, slots=True)
class Load:
    """How much of a work is to be done. What a work does not know is 0.

    Attributes:
        work: Name of the work.
        chunks: Parts that it is cut into; 0 leaves it to whoever runs it.
        items: Number of items.
        size_bytes: Size of the input.
    """

    work: str
    chunks: int = 0
    items: int = 0
    size_bytes: int = 0

    @property
    def size(self) -> int:
        """What time may be expected to grow with."""
        return self.size_bytes or self.items or self.chunks

    def to_row(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Work:
    """What is done with an input, whatever runs it.

    Attributes:
        whole: Makes the input as its owner has it: a list.
        step: Done on one part, which is a list of consecutive items.
        total: Of the results of all parts, in any order.
        expected: The total, found without doing the work.
        tiny: As much as wakes up everything that takes part.
        item: Done on one item, for work that is given item by item; its result is what `total` takes then.
    """

    whole: Callable[[Load], list[Any]]
    step: Callable[[Any], Any]
    total: Callable[[Iterable[Any]], Any]
    expected: Callable[[Load], Any]
    tiny: Load
    item: Callable[[Any], Any] | None = None


def cut(whole: Sequence[Any], chunks: int) -> list[list[Any]]:
    """Consecutive items in `chunks` parts that differ in length by at most one."""
    bounds = [len(whole) * index // chunks for index in range(chunks + 1)]
    return [list(whole[start:end]) for start, end in pairwise(bounds)]


def nothing(part: list[int]) -> None:
    """Does nothing."""


def number_of(results: Iterable[Any]) -> int:
    """How many results there are."""
    return sum(1 for _ in results)


def count_words(part: Iterable[str]) -> Counter[str]:
    """How often each word occurs."""
    counts: Counter[str] = Counter()
    for document in part:
        counts.update(document.split())
    return counts


def summed_words(counters: Iterable[Any]) -> str:
    """A fingerprint of the sum of counters, holding one at a time."""
    counts: Counter[str] = Counter()
    for counter in counters:
        counts.update(counter)
    return fingerprint(counts)


def number(item: str) -> int:
    """The number that an item of 20 digits is."""
    return int(item)


def numbers(part: Iterable[str]) -> int:
    """The sum of a part."""
    return sum(map(number, part))


def wait(part: Iterable[float]) -> float:
    """Wait as long as the part says, in seconds."""
    waited_s = 0.0
    for wait_s in part:
        time.sleep(wait_s)
        waited_s += wait_s
    return waited_s


def waits(load: Load) -> list[float]:
    """How long each step waits: the same on every machine, in milliseconds, given in seconds."""
    chance = random.Random(SHAPE_SEED)  # noqa: S311 - not a secret
    return [round(chance.uniform(SHORTEST_S, LONGEST_S), 3) for _ in range(load.items)]


def summed_waits(results: Iterable[float]) -> float:
    """All that was waited, to the millisecond."""
    return round(sum(results), 3)


def _digits(load: Load) -> list[str]:
    return [f"{index:020d}" for index in range(load.items)]


def _words(load: Load) -> Iterator[str]:
    return documents(load.size_bytes)


WORKS = {
    "empty": Work(
        whole=lambda load: list(range(load.chunks)),
        step=nothing,
        total=number_of,
        expected=lambda load: load.chunks,
        tiny=Load("empty", chunks=16),
    ),
    "words": Work(
        whole=lambda load: list(_words(load)),
        step=count_words,
        total=summed_words,
        expected=lambda load: fingerprint(serial_count(load.size_bytes)),
        tiny=Load("words", chunks=16, size_bytes=160_000),
    ),
    "digits": Work(
        whole=_digits,
        step=numbers,
        total=sum,
        expected=lambda load: load.items * (load.items - 1) // 2,
        tiny=Load("digits", chunks=16, items=1_000),
        item=number,
    ),
    "wait": Work(
        whole=waits,
        step=wait,
        total=summed_waits,
        expected=lambda load: summed_waits(waits(load)),
        # Each of many threads is to have its connections.
        tiny=Load("wait", chunks=64, items=64),
    ),
}
"""By name. The store's uploads and downloads are works too, which `engines.raw` and `engines.packs` know."""
