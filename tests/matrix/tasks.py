"""Tasks that the workers of each engine import."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fanout import ForkJoinTask


class MatrixConcatenate(ForkJoinTask):
    """A concatenation of numbers, which shows the order in which `combine` sees them."""

    input_schema = {"numbers": {"type": "list"}}
    chunk_items = 1

    def setup(numbers):
        return ({"number": number} for number in numbers)

    def process(number):
        return str(number)

    def combine(strings):
        return "+".join(strings)

    def join(strings):
        return "+".join(strings)


class MatrixProduct(ForkJoinTask):
    """The product of a matrix and a vector, row by row."""

    input_schema = {"matrix": {"required": True}, "vector": {"required": True}}
    chunk_items = 2

    def setup(matrix):
        return [{"row": row} for row in matrix]

    def process(row, vector):
        return row @ vector

    def join(products):
        return np.array(list(products))


class MatrixFailing(ForkJoinTask):
    """A task that fails for each number while the directory `failing` has a file of that name."""

    input_schema = {"numbers": {"type": "list"}, "failing": {"type": "string"}}
    chunk_items = 2
    max_attempts = 2

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, failing):
        if Path(failing, str(number)).exists():
            raise ValueError(f"{number} was told to fail")
        return number

    def join(results):
        return {"sum": sum(results.good()), "failed": [failed.item for failed in results.failures()]}
