"""The number of items that may fail before a job fails. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from ..errors import ConfigError

Share = int | float
"""A number of items as an `int`, or a fraction of them as a `float`: 1 is one item, 1.0 is all of them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The number of items that may fail. Without either attribute, the first failure fails the job.

    Attributes:
        tolerate: Items that may fail, as a count or a fraction.
        min_success: Items that must succeed, as a count or a fraction.
    """

    tolerate: Share | None = None
    min_success: Share | None = None

    def __post_init__(self) -> None:
        for name in ("tolerate", "min_success"):
            _check_share(name, getattr(self, name))
        if self.tolerate is not None and self.min_success is not None:
            raise ConfigError("tolerate and min_success both say how many items may fail: give one of them")

    @property
    def tolerant(self) -> bool:
        """Whether the job tolerates failed items."""
        return self.tolerate is not None or self.min_success is not None

    def max_failed(self, items: int | None) -> int | None:
        """Return how many items may fail.

        Args:
            items: The number of items; None before setup has ended.

        Returns:
            The number. It is below 0 if there are fewer items than must succeed, and None if it depends on `items`
            and that is None.
        """
        if self.min_success is not None:
            if items is None:
                return None
            return items - (
                self.min_success if isinstance(self.min_success, int) else _round_up(self.min_success, items)
            )
        if self.tolerate is None or isinstance(self.tolerate, int):
            return self.tolerate or 0
        return None if items is None else _round_down(self.tolerate, items)

    def __str__(self) -> str:
        if self.tolerate is not None:
            return f"tolerate={self.tolerate}"
        return f"min_success={self.min_success}" if self.min_success is not None else "fail fast"


def _round_down(fraction: float, items: int) -> int:
    # Exact in the decimal form: 0.29 of 100 is 29, though 0.29 * 100 is 28.999….
    return floor(Fraction(repr(fraction)) * items)


def _round_up(fraction: float, items: int) -> int:
    return ceil(Fraction(repr(fraction)) * items)


def _check_share(name: str, value: object) -> None:
    if value is None or (type(value) is int and value >= 0) or (type(value) is float and 0 <= value <= 1):
        return
    raise ConfigError(
        f"{name} must be a count of items (a whole number from 0) or a fraction of them (a float from 0.0 to 1.0), "
        f"not {value!r}"
    )
