"""Tasks whose answer shows which launch each part of it belongs to."""

from __future__ import annotations

from fanout import ForkJoinTask

POISON = -1
"""A number that no task can work on."""

_SCHEMA = {"numbers": {}, "factor": {"type": "integer"}}


def multiply(number: int, factor: int) -> int:
    """One number times the launch's factor."""
    if number == POISON:
        raise ValueError("was told to fail")
    return number * factor


class FactorTask(ForkJoinTask):
    """Each number times a factor; the factor reaches setup, process and join apart from each other."""

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
    """The same, for numbers of which some fail."""

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
    """Their sum, made in a tree; the factor reaches combine as well."""

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
