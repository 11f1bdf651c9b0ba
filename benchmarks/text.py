"""The input: text that is cheap to make, the same on every machine, and its serial count."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Iterator, Mapping

DOCUMENT_BYTES = 10_000
"""Size of a document of `python -m benchmarks memory`."""

BLOCKS = 16
WORDS = 1_000
SEED = 3


def documents(size_bytes: int, *, document_bytes: int = DOCUMENT_BYTES) -> Iterator[str]:
    """Documents of equal size that together have `size_bytes`, rounded to whole documents; at least one.

    They repeat 16 seeded blocks, but each is a string of its own: a list of them takes `size_bytes` of memory.
    ASCII, so that a character is a byte.
    """
    blocks = _blocks(document_bytes)
    for index in range(_number(size_bytes, document_bytes)):
        block = blocks[index % BLOCKS]
        yield block[:1] + block[1:]


def count_words(document: str) -> Counter[str]:
    """How often each word occurs."""
    return Counter(document.split())


def serial_count(size_bytes: int, *, document_bytes: int = DOCUMENT_BYTES) -> Counter[str]:
    """The word count of `documents`, made here: each block counted once, times how often it occurs."""
    number = _number(size_bytes, document_bytes)
    total: Counter[str] = Counter()
    for index, block in enumerate(_blocks(document_bytes)):
        times = len(range(index, number, BLOCKS))
        if times:
            total.update({word: count * times for word, count in count_words(block).items()})
    return total


def fingerprint(counts: Mapping[str, int]) -> str:
    """A digest of a word count, the same for equal counts whatever carried them."""
    return hashlib.sha256(json.dumps(sorted(counts.items())).encode()).hexdigest()


def _number(size_bytes: int, document_bytes: int) -> int:
    return max(1, round(size_bytes / document_bytes))


def _blocks(document_bytes: int) -> list[str]:
    chance = random.Random(SEED)  # noqa: S311 - not a secret
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 10))) for _ in range(WORDS)]
    return [" ".join(chance.choices(words, k=document_bytes // 3))[:document_bytes] for _ in range(BLOCKS)]
