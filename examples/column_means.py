"""Column means of a matrix: arrays as parameters, items and results.

    setup    cuts the matrix into blocks of rows; a block is a view, and nothing is copied until it is encoded
    process  the sums and the number of rows of its block, which it reads where it was fetched to
    join     adds the sums up and divides once

Arrays travel as what they are, not pickled and not as lists. What a step is given is read-only: `block.copy()` to
write. Needs NumPy: `pip install 'fanout[numpy]'`.

Run it here, no server needed:

    python -m examples.column_means
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fanout import ForkJoinTask

Matrix = NDArray[np.float64]


class ColumnMeans(ForkJoinTask):
    """The mean of each column of a matrix."""

    input_schema: ClassVar[dict[str, Any]] = {
        "matrix": {"required": True},
        "block_rows": {"type": "integer", "min": 1, "default": 1000},
    }

    @staticmethod
    def setup(matrix: Matrix, block_rows: int) -> Iterator[dict[str, Matrix]]:
        return ({"block": matrix[first : first + block_rows]} for first in range(0, len(matrix), block_rows))

    @staticmethod
    def process(block: Matrix) -> tuple[Matrix, int]:
        return block.sum(axis=0), len(block)

    @staticmethod
    def join(parts: Iterable[tuple[Matrix, int]]) -> Matrix:
        sums, rows = zip(*parts, strict=True)
        means: Matrix = np.sum(sums, axis=0) / sum(rows)
        return means


def means_serially(matrix: Matrix) -> Matrix:
    """Return the means without fanout."""
    means: Matrix = matrix.mean(axis=0)
    return means


def main() -> None:
    """Print the means of a random matrix, computed in blocks and at once."""
    matrix = np.random.default_rng(1).normal(loc=[1, 2, 3, 4], size=(20_000, 4))
    print("in blocks of 1,000 rows:", ColumnMeans.run({"matrix": matrix}).round(6))
    print("in one:                 ", means_serially(matrix).round(6))


if __name__ == "__main__":
    main()
