"""Functions of which a task in another module is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def each(numbers: list[int]) -> Iterator[dict[str, int]]:
    return ({"number": number} for number in numbers)


def squared(number: int) -> int:
    return number * number


def total(squares: Sequence[int]) -> int:
    return sum(squares)
