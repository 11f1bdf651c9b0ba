"""Text of lines that lies in the bucket before a run: seeded, made while it is uploaded, and never there as a whole."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import chain, pairwise

from storage import open_store

INPUTS = "FANOUT_BENCH_INPUTS"
"""Environment variable with the URL of the folder that holds the inputs that lie in the bucket."""
PART_BYTES = 16 * 2**20
"""Size of a part of a large text, for every contender that takes one; fanout's default."""
PARTS = 8
"""Parts of a smaller text, at least, as long as a part has `BLOCK_BYTES`."""
BLOCK_BYTES = 1_000_000
"""Size of a block of whole lines. A text repeats the blocks, so its words are known without counting."""
BLOCKS = 16
OBJECTS = 8
"""Objects of a text, or more if they would be larger than `OBJECT_BLOCKS`."""
OBJECT_BLOCKS = 100
LONGEST_LINE_BYTES = 256
"""Bytes in which every line ends."""


@dataclass(frozen=True, slots=True)
class PartCount:
    """The words of one part.

    Attributes:
        began_at: When a worker began with it, in seconds since the epoch.
        counts: Word -> number.
    """

    began_at: float
    counts: Counter[str]

    @classmethod
    def of(cls, lines: Iterable[str], began_at: float | None = None) -> PartCount:
        """Count the words of lines. All contenders count like this, and none has a faster loop."""
        began_at = began_at or time.time()
        return cls(began_at, count_lines(lines))


def count_lines(lines: Iterable[str]) -> Counter[str]:
    """Count each word."""
    return Counter(chain.from_iterable(map(str.split, lines)))


def text_folder(size_bytes: int) -> str:
    """Return the URL of the folder of a text, with "/" at its end."""
    return f"{os.environ[INPUTS]}/text/{size_bytes}/"


def part_bytes(size_bytes: int) -> int:
    """Return the size of a part of a text."""
    return min(PART_BYTES, max(BLOCK_BYTES, size_bytes // PARTS))


def upload_text(url: str, size_bytes: int) -> None:
    """Upload a text in whole blocks. Holds one object, of at most 100 MB.

    Args:
        url: The folder.
        size_bytes: Size of the text, to which its blocks are rounded.
    """
    store, blocks = open_store(url), text_blocks()
    for index, (start, end) in enumerate(_cut(size_bytes)):
        store.put(f"{index:05d}.txt", b"".join(blocks[block % BLOCKS] for block in range(start, end)))


def count_text(size_bytes: int) -> Counter[str]:
    """Count the words of a text: each block once, times the number of its repetitions."""
    number = max(1, round(size_bytes / BLOCK_BYTES))
    counts: Counter[str] = Counter()
    for index in range(min(number, BLOCKS)):
        times = len(range(index, number, BLOCKS))
        counts.update({word: count * times for word, count in _count_block(index).items()})
    return counts


def text_lines(size_bytes: int) -> list[str]:
    """Return the lines of a text."""
    blocks = text_blocks()
    spans = chain.from_iterable(range(start, end) for start, end in _cut(size_bytes))
    return b"".join(blocks[block % BLOCKS] for block in spans).decode().splitlines()


@cache
def text_blocks() -> list[bytes]:
    """Return the blocks, the same on every machine."""
    chance = random.Random(17)  # noqa: S311 - not a secret
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 10))) for _ in range(1000)]
    return [_block(chance, words) for _ in range(BLOCKS)]


def _block(chance: random.Random, words: list[str]) -> bytes:
    lines, size_bytes = [], 0
    while size_bytes < BLOCK_BYTES:
        lines.append(" ".join(chance.choices(words, k=chance.randint(5, 20))))
        size_bytes += len(lines[-1]) + 1
    return "\n".join(lines)[: BLOCK_BYTES - 1].encode() + b"\n"


@cache
def _count_block(index: int) -> Counter[str]:
    return count_lines(text_blocks()[index].decode().splitlines())


def _cut(size_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield the first block of each object, and the one after its last."""
    number = max(1, round(size_bytes / BLOCK_BYTES))
    objects = min(number, max(OBJECTS, -(-number // OBJECT_BLOCKS)))
    bounds = [number * index // objects for index in range(objects + 1)]
    return pairwise(bounds)
