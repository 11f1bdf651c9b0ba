"""The work: an input, a step on a part of it, and what the results are joined to."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from .small_objects import make_object, read_number
from .text import count_lines, count_text, text_lines

DOCUMENT_BYTES = 10_000
BLOCKS = 16
"""Documents that differ; a text repeats them."""
SHORTEST_S, LONGEST_S = 0.5, 1.0
"""A step of `wait` takes so long."""
SHORT_S, LONG_S = 0.001, 1.0
"""An item of `tail` takes so long."""
LONG_SHARE = 0.01
"""Share of the items of `tail` that take long."""


@dataclass(frozen=True, slots=True)
class Workload:
    """How much of a work is to be done. A number that the work has no use for is 0.

    Attributes:
        work: Name of the work: one of `WORKS`, or `upload` or `download`.
        chunks: Parts that it is cut into; with 0 the contender decides.
        items: Number of items.
        size_bytes: Size of the input.
        document_bytes: Size of a document of text.
        threads: Worker threads that do it; with 0 each contender has two processes.
    """

    work: str
    chunks: int = 0
    items: int = 0
    size_bytes: int = 0
    document_bytes: int = DOCUMENT_BYTES
    threads: int = 0

    @property
    def size(self) -> int:
        """The number that time may be expected to grow with."""
        return self.size_bytes or self.items or self.chunks

    @property
    def chunk_documents(self) -> int:
        """Documents in a chunk, where each is an item."""
        return max(1, round(self.size_bytes / self.document_bytes / self.chunks))

    @property
    def tiny(self) -> Workload:
        """As much of the same work as wakes up all processes."""
        return WORKS[self.work].tiny if self.work in WORKS else Workload(self.work, size_bytes=20_000_000)

    def accepts(self, answer: Any) -> bool:
        """Whether an answer is the expected one."""
        if self.work in WORKS:
            return bool(answer == WORKS[self.work].expected(self))
        # The encoded bytes are a few more than the text's; the decoded ones are the text.
        return bool(self.size_bytes <= answer < self.size_bytes * 1.01)


@dataclass(frozen=True, slots=True)
class Work:
    """A work that any contender can do.

    Attributes:
        whole: Makes the input as the caller has it: a list.
        step: Done on one part, a list of consecutive items.
        total: Made of the results of all parts, in any order.
        expected: The total, found without doing the work.
        tiny: The smallest workload that reaches every process.
        item: Done on one item, for work that is given item by item; `total` then takes its results.
    """

    whole: Callable[[Workload], list[Any]]
    step: Callable[[Any], Any]
    total: Callable[[Iterable[Any]], Any]
    expected: Callable[[Workload], Any]
    tiny: Workload
    item: Callable[[Any], Any] | None = None


def cut(whole: Sequence[Any], chunks: int) -> list[list[Any]]:
    """Return consecutive items in `chunks` parts that differ in length by at most one."""
    return list(iterate_parts(whole, chunks))


def iterate_parts(whole: Sequence[Any], chunks: int) -> Iterator[list[Any]]:
    """Yield the parts of `cut` one by one."""
    bounds = (len(whole) * index // chunks for index in range(chunks + 1))
    return (list(whole[start:end]) for start, end in pairwise(bounds))


def documents(size_bytes: int, document_bytes: int = DOCUMENT_BYTES) -> Iterator[str]:
    """Make documents of equal size that together have `size_bytes`, in whole documents; at least one.

    They repeat 16 seeded blocks, and each is a string of its own. A character is a byte.
    """
    blocks = _blocks(document_bytes)
    for index in range(max(1, round(size_bytes / document_bytes))):
        block = blocks[index % BLOCKS]
        yield block[:1] + block[1:]


def shuffled_documents(workload: Workload) -> list[str]:
    """Make the documents with the words of each in an order of its own, so that they compress as text does."""
    found = []
    for index, document in enumerate(documents(workload.size_bytes, workload.document_bytes)):
        words = document.split()
        stride = 2 + index // BLOCKS
        reordered = " ".join(word for start in range(stride) for word in words[start::stride])
        found.append(reordered.ljust(workload.document_bytes))
    return found


def serial_count(workload: Workload) -> Counter[str]:
    """Count the words of a workload: each block once, times the number of its documents."""
    number = max(1, round(workload.size_bytes / workload.document_bytes))
    counts: Counter[str] = Counter()
    for index, block in enumerate(_blocks(workload.document_bytes)):
        times = len(range(index, number, BLOCKS))
        counts.update({word: count * times for word, count in Counter(block.split()).items() if times})
    return counts


def fingerprint(counts: Mapping[str, int]) -> str:
    """Return a digest of a word count, the same for equal counts."""
    return hashlib.sha256(json.dumps(sorted(counts.items())).encode()).hexdigest()


def do_nothing(part: list[int]) -> None:
    """Do nothing."""


def count_words(part: Iterable[str]) -> Counter[str]:
    """Count each word."""
    counts: Counter[str] = Counter()
    for document in part:
        counts.update(document.split())
    return counts


def sum_words(counters: Iterable[Any]) -> str:
    """Return a fingerprint of the sum of counters; hold one at a time."""
    counts: Counter[str] = Counter()
    for counter in counters:
        counts.update(counter)
    return fingerprint(counts)


def sum_numbers(part: Iterable[str]) -> int:
    """Sum the numbers of a part."""
    return sum(map(int, part))


def sum_objects(part: Iterable[bytes]) -> int:
    """Sum the numbers that objects hold."""
    return sum(map(read_number, part))


def wait(part: Iterable[float]) -> float:
    """Wait as long as the part says, in seconds."""
    for wait_s in (waits_s := list(part)):
        time.sleep(wait_s)
    return sum(waits_s)


def wait_once(wait_s: float) -> float:
    """Wait so many seconds, and return them."""
    time.sleep(wait_s)
    return wait_s


def waits(workload: Workload) -> list[float]:
    """Return the seconds that each step waits, the same on every machine."""
    chance = random.Random(2017)  # noqa: S311 - not a secret
    return [round(chance.uniform(SHORTEST_S, LONGEST_S), 3) for _ in range(workload.items)]


def tail_waits(workload: Workload) -> list[float]:
    """Return the seconds of each item, the same on every machine: one in a hundred waits 1,000 times as long."""
    chance = random.Random(2026)  # noqa: S311 - not a secret
    long = set(chance.sample(range(workload.items), round(LONG_SHARE * workload.items)))
    return [LONG_S if index in long else SHORT_S for index in range(workload.items)]


def _blocks(document_bytes: int) -> list[str]:
    chance = random.Random(3)  # noqa: S311 - not a secret
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 10))) for _ in range(1000)]
    return [" ".join(chance.choices(words, k=document_bytes // 3))[:document_bytes] for _ in range(BLOCKS)]


def _waiting(whole: Callable[[Workload], list[float]], tiny: Workload) -> Work:
    """Return the work of waiting for the seconds that `whole` makes; its answer is their sum."""
    return Work(
        whole=whole,
        step=wait,
        total=lambda results: round(sum(results), 3),
        expected=lambda workload: round(sum(whole(workload)), 3),
        tiny=tiny,
    )


WORKS = {
    "empty": Work(
        whole=lambda workload: list(range(workload.chunks)),
        step=do_nothing,
        total=lambda results: sum(1 for _ in results),
        expected=lambda workload: workload.chunks,
        tiny=Workload("empty", chunks=16),
    ),
    "words": Work(
        whole=shuffled_documents,
        step=count_words,
        total=sum_words,
        expected=lambda workload: fingerprint(serial_count(workload)),
        tiny=Workload("words", chunks=16, size_bytes=160_000),
    ),
    "text": Work(
        whole=lambda workload: text_lines(workload.size_bytes),
        step=count_lines,
        total=sum_words,
        expected=lambda workload: fingerprint(count_text(workload.size_bytes)),
        tiny=Workload("text", chunks=4, size_bytes=4_000_000),
    ),
    "digits": Work(
        whole=lambda workload: [f"{index:020d}" for index in range(workload.items)],
        step=sum_numbers,
        total=sum,
        expected=lambda workload: workload.items * (workload.items - 1) // 2,
        tiny=Workload("digits", chunks=16, items=1000),
        item=int,
    ),
    "objects": Work(
        whole=lambda workload: [make_object(number) for number in range(workload.items)],
        step=sum_objects,
        total=sum,
        expected=lambda workload: workload.items * (workload.items - 1) // 2,
        tiny=Workload("objects", chunks=4, items=64),
    ),
    # Each of 32 threads is to have its connections.
    "wait": _waiting(waits, Workload("wait", chunks=64, items=64)),
    "tail": replace(_waiting(tail_waits, Workload("tail", chunks=16, items=48)), item=wait_once),
}
"""By name."""
