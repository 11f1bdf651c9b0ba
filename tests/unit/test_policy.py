"""How many items may fail: as a count, or as a fraction of a number of items that may not be known yet."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from fanout import ConfigError, DeclarationError, ForkJoinTask, Options
from fanout.config.policy import Policy

FRACTIONS = some.floats(min_value=0, max_value=1, allow_nan=False)
ITEMS = some.integers(min_value=0, max_value=10**7)


@pytest.mark.parametrize(
    ("policy", "items", "allowed"),
    [
        (Policy(), None, 0),
        (Policy(), 10, 0),
        (Policy(tolerate=0), 10, 0),
        (Policy(tolerate=3), None, 3),
        (Policy(tolerate=3), 2, 3),
        (Policy(tolerate=0.25), None, None),
        (Policy(tolerate=0.25), 10, 2),
        (Policy(tolerate=0.29), 100, 29),
        (Policy(tolerate=1), 100, 1),
        (Policy(tolerate=1.0), 100, 100),
        (Policy(min_success=7), None, None),
        (Policy(min_success=7), 10, 3),
        (Policy(min_success=7), 5, -2),
        (Policy(min_success=0.75), 10, 2),
        (Policy(min_success=0.07), 100, 93),
        (Policy(min_success=1.0), 100, 0),
        (Policy(min_success=0.0), 100, 100),
    ],
)
def test_the_number_of_items_that_may_fail(policy: Policy, items: int | None, allowed: int | None) -> None:
    """A count is exact. A fraction is taken of the items, with the decimal value that was written, rounded down."""
    assert policy.max_failed(items) == allowed


@given(FRACTIONS, ITEMS)
def test_a_fraction_is_never_exceeded(fraction: float, items: int) -> None:
    """The allowed number is the largest whole number within the fraction."""
    allowed = Policy(tolerate=fraction).max_failed(items)
    assert allowed is not None
    assert allowed <= Fraction(repr(fraction)) * items < allowed + 1


@given(FRACTIONS, ITEMS)
def test_min_success_is_reached_exactly(fraction: float, items: int) -> None:
    """If the allowed number of items fails, at least the fraction succeeds. With one more failure, less succeeds."""
    allowed = Policy(min_success=fraction).max_failed(items)
    assert allowed is not None
    needed = Fraction(repr(fraction)) * items
    assert items - allowed >= needed > items - allowed - 1


@pytest.mark.parametrize("wrong", [-1, 1.5, -0.1, True, "5", float("nan"), float("inf"), [1]])
@pytest.mark.parametrize("name", ["tolerate", "min_success"])
def test_a_wrong_share_is_named(name: str, wrong: Any) -> None:
    """The error of a value that is neither a count nor a fraction has the option's name and the allowed values."""
    with pytest.raises(ConfigError, match=rf"{name} must be a count of items .* or a fraction"):
        Options(**{name: wrong})


def test_both_options_together_are_refused() -> None:
    """`tolerate` and `min_success` together are refused in options, in a replacement and in a declaration."""
    with pytest.raises(ConfigError, match="give one of them"):
        Options(tolerate=1, min_success=2)
    with pytest.raises(ConfigError, match="give one of them"):
        Options(tolerate=1).replace({"min_success": 2})
    with pytest.raises(DeclarationError, match="give one of them"):

        class Undecided(ForkJoinTask):
            input_schema: Any = {}
            tolerate = 1
            min_success = 0.5

            def setup():
                return []

            def process(number):
                return number

            def join(results):
                return results


def test_the_text_of_a_policy() -> None:
    """The text of a policy is the option as it was given, for errors."""
    assert [str(Policy()), str(Policy(tolerate=0.5)), str(Policy(min_success=3))] == [
        "fail fast",
        "tolerate=0.5",
        "min_success=3",
    ]
