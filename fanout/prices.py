"""Prices of an object store and of workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from .config.checks import check_kind
from .errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of an object store and of its workers, in dollars.

    The defaults are those of AWS S3 Standard in us-east-1, where traffic between S3 and workers of the same region is
    free. Amazon prices a LIST like a PUT, a HEAD like a GET, and takes nothing for a DELETE.

    Attributes:
        per_put: One PUT or LIST.
        per_get: One GET or HEAD.
        per_gb_month: Storing 10⁹ bytes for 30 days.
        per_gb_up: 10⁹ bytes from workers to the store.
        per_gb_down: 10⁹ bytes from the store to workers.
        per_worker_hour: An hour of one worker process, from its first run to its last; 0 leaves workers out.
        source: Where the prices come from, for readers of a report.
    """

    per_put: float = 0.005 / 1000
    per_get: float = 0.0004 / 1000
    per_gb_month: float = 0.023
    per_gb_up: float = 0.0
    per_gb_down: float = 0.0
    per_worker_hour: float = 0.0
    source: str = "AWS S3 Standard, us-east-1, aws.amazon.com/s3/pricing of 2026"

    def __post_init__(self) -> None:
        for entry in fields(self):
            price = getattr(self, entry.name)
            if entry.name != "source" and (
                isinstance(price, bool) or not isinstance(price, int | float) or not price >= 0
            ):
                raise ConfigError(f"prices: {entry.name} must be a number of dollars from 0, not {price!r:.80}")

    @classmethod
    def of(cls, given: Prices | Mapping[str, Any] | None) -> Prices:
        """Return the prices that a caller gives: a table, some of its fields by name, or None for the defaults.

        Raises:
            ConfigError: There is no such price, or it is no number from 0.
        """
        if given is None or isinstance(given, Prices):
            return given or cls()
        check_kind("prices", given, Mapping, expected="Prices, or a mapping of some of its fields")
        unknown = sorted(given.keys() - {entry.name for entry in fields(cls)})
        if unknown:
            known = ", ".join(entry.name for entry in fields(cls))
            raise ConfigError(f"prices: there is no {', '.join(unknown)}; known: {known}")
        return cls(**{"source": "prices of the reader", **given})
