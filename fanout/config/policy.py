"""How many items of a job may fail before the job does. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor

from ..errors import ConfigError

Share = int | float
"""A number of items if it is an `int`, a fraction of them if it is a `float`: 1 is one item, 1.0 is all of them."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many items may fail. Fail fast, unless one of the two is given.

    Attributes:
        tolerate: Items that may fail, a count or a fraction.
        min_success: Items that must succeed, a count or a fraction.
    """

    tolerate: Share | None = None
    min_success: Share | None = None

    def __post_init__(self) -> None:
        for name in ("tolerate", "min_success"):
            _check(name, getattr(self, name))
        if self.tolerate is not None and self.min_success is not None:
            raise ConfigError("tolerate and min_success both say how many items may fail: give one of them")

    @property
    def tolerant(self) -> bool:
        """Whether a failed item is marked, instead of failing the job by itself."""
        return self.tolerate is not None or self.min_success is not None

    def allowed(self, items: int | None) -> int | None:
        """How many of `items` may fail; below 0 if there are fewer items than must succeed.

        Args:
            items: How many items there are; None while nobody knows.

        Returns:
            The number; None while it can't be known.
        """
        if self.min_success is not None:
            if items is None:
                return None
            return items - (self.min_success if isinstance(self.min_success, int) else _up(self.min_success, items))
        if self.tolerate is None or isinstance(self.tolerate, int):
            return self.tolerate or 0
        return None if items is None else _down(self.tolerate, items)

    def __str__(self) -> str:
        if self.tolerate is not None:
            return f"tolerate={self.tolerate}"
        return f"min_success={self.min_success}" if self.min_success is not None else "fail fast"


def _down(fraction: float, items: int) -> int:
    # As it is written: 0.29 of 100 is 29, though 0.29 * 100 is 28.999….
    return floor(Fraction(repr(fraction)) * items)


def _up(fraction: float, items: int) -> int:
    return ceil(Fraction(repr(fraction)) * items)


def _check(name: str, value: object) -> None:
    if value is None or (type(value) is int and value >= 0) or (type(value) is float and 0 <= value <= 1):
        return
    raise ConfigError(
        f"{name} must be a count of items (a whole number from 0) or a fraction of them (a float from 0.0 to 1.0), "
        f"not {value!r}"
    )
