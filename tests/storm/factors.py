"""Tasks whose values show the launch to which each part belongs."""

from __future__ import annotations

from fanout import ForkJoinTask

POISON = -1
"""A number for which each task fails."""

_SCHEMA = {"numbers": {}, "factor": {"type": "integer"}}


def multiply(number: int, factor: int) -> int:
    """Return the number times the launch's factor."""
    if number == POISON:
        raise ValueError("was told to fail")
    return number * factor


class FactorTask(ForkJoinTask):
    """Each number times a factor. Setup, process and join each return the factor that they received."""

    input_schema = _SCHEMA
    chunk_items = 1
    max_attempts = 1

    def setup(numbers, factor):
        return ({"number": number, "given": factor} for number in numbers)

    def process(number, given, factor):
        return [given, multiply(number, factor)]

    def join(results, factor):
        return [factor, *results]


class TolerantTask(ForkJoinTask):
    """Products like `FactorTask`'s, with a tolerance for failed numbers."""

    input_schema = _SCHEMA
    chunk_items = 1
    max_attempts = 1
    tolerate = 0.9

    def setup(numbers, factor):
        return ({"number": number} for number in numbers)

    def process(number, factor):
        return multiply(number, factor)

    def join(results, factor):
        return [factor, list(results.good()), results.failed]


class CombinedTask(ForkJoinTask):
    """The sum of the products, combined in a tree. Combine receives the factor, too."""

    input_schema = _SCHEMA
    chunk_items = 1

    def setup(numbers, factor):
        return ({"number": number} for number in numbers)

    def process(number, factor):
        return [factor, multiply(number, factor)]

    def combine(pairs, factor):
        assert {pair[0] for pair in pairs} == {factor}, (pairs, factor)
        return [factor, sum(pair[1] for pair in pairs)]

    def join(pairs, factor):
        return [factor, sum(pair[1] for pair in pairs)]
