"""Sum: the smallest task, and the division of items into chunks.

    setup    yields one dict per number
    process  returns the number
    join     adds the results

A task yields items, and a worker receives a chunk of items with one message. fanout chooses the number of items per
chunk unless the class or the call sets it. So a million numbers need not be a million messages.

Run it without a server:

    python -m examples.sum_numbers

Run it over Celery, with a worker of `examples.celery_app`:

    from examples.celery_app import app
    from examples.sum_numbers import SumNumbers
    SumNumbers.submit({"numbers": list(range(10))}, app=app).get()
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from fanout import ForkJoinTask, InvalidInput


class SumNumbers(ForkJoinTask):
    """The sum of a list of numbers."""

    input_schema: ClassVar[dict[str, Any]] = {
        "numbers": {"type": "list", "required": True, "schema": {"type": "integer"}}
    }

    @staticmethod
    def setup(numbers: Iterable[int]) -> Iterator[dict[str, int]]:
        return ({"number": number} for number in numbers)

    @staticmethod
    def process(number: int) -> int:
        return number

    @staticmethod
    def join(parts: Iterable[int]) -> int:
        return sum(parts)


def main() -> None:
    """Sum a list, the list in other chunks, a stream that is never in memory as a whole, and an invalid list."""
    numbers = list(range(1, 101))
    print("the numbers from 1 to 100:          ", SumNumbers.run({"numbers": numbers}))
    print("the same, one number a chunk:       ", SumNumbers.run({"numbers": numbers}, chunk_items=1))
    print("the same, in 7 threads:             ", SumNumbers.run({"numbers": numbers}, executor="threads", workers=7))
    print("10,000 numbers from a generator:    ", SumNumbers.run({"numbers": (number for number in range(10_000))}))
    try:
        SumNumbers.run({"numbers": [1, 2, "three"]})
    except InvalidInput as error:
        print("a list that does not fit the schema:", error)


if __name__ == "__main__":
    main()
