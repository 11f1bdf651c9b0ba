"""How many items may fail: counts, fractions, and what nobody knows yet."""

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
def test_how_many_may_fail(policy: Policy, items: int | None, allowed: int | None) -> None:
    """A count is taken at its word, a fraction is of the items as it is written, and of no more than that."""
    assert policy.max_failed(items) == allowed


@given(FRACTIONS, ITEMS)
def test_a_fraction_is_never_exceeded(fraction: float, items: int) -> None:
    """What is allowed is the largest whole number within the fraction."""
    allowed = Policy(tolerate=fraction).max_failed(items)
    assert allowed is not None
    assert allowed <= Fraction(repr(fraction)) * items < allowed + 1


@given(FRACTIONS, ITEMS)
def test_what_must_succeed_does(fraction: float, items: int) -> None:
    """If as many fail as may, at least the fraction succeeds; with one more it does not."""
    allowed = Policy(min_success=fraction).max_failed(items)
    assert allowed is not None
    needed = Fraction(repr(fraction)) * items
    assert items - allowed >= needed > items - allowed - 1


@pytest.mark.parametrize("wrong", [-1, 1.5, -0.1, True, "5", float("nan"), float("inf"), [1]])
@pytest.mark.parametrize("name", ["tolerate", "min_success"])
def test_a_wrong_share_is_named(name: str, wrong: Any) -> None:
    """Neither a count nor a fraction: the error names the option and says what it may be."""
    with pytest.raises(ConfigError, match=rf"{name} must be a count of items .* or a fraction"):
        Options(**{name: wrong})


def test_one_of_the_two_is_given() -> None:
    """Both at once are refused, wherever they come from."""
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


def test_a_policy_says_itself() -> None:
    """For errors: the option as it was given."""
    assert [str(Policy()), str(Policy(tolerate=0.5)), str(Policy(min_success=3))] == [
        "fail fast",
        "tolerate=0.5",
        "min_success=3",
    ]
