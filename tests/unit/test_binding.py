"""A parameter is bound by name to whichever steps declare it; an item must fit process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fanout import DeclarationError, InvalidItem
from fanout.binding import Binding


def bound(
    fields: tuple[str, ...] = ("a", "b"),
    setup: Callable[..., Any] = lambda a: [],
    process: Callable[..., Any] = lambda x: x,
    join: Callable[..., Any] = lambda results: None,
) -> Binding:
    return Binding.of("Task", fields, setup, process, join)


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        (lambda results: None, "results"),
        (lambda a, results: None, "results"),
        (lambda results, a: None, "results"),
        (lambda a, b: None, "a"),
        (lambda a: None, "a"),
        (lambda a, results, other=1: None, "results"),
        (lambda *, b, results: None, "results"),
    ],
)
def test_results_are_the_first_argument_that_is_no_field(join: Callable[..., Any], expected: str) -> None:
    """Join is given the results as its first argument that is no field, else as its first."""
    assert bound(join=join).results_argument == expected


def test_the_results_win_over_a_field_of_the_same_name() -> None:
    """Where all arguments of join are fields, the first is the results and not the parameter."""
    binding = bound(join=lambda a, b: (a, b))
    assert binding.parameters_for(binding.join) == ("b",)
    assert binding.call_join("results", {"b": 2}) == ("results", 2)


def test_a_parameter_reaches_every_step_that_declares_it() -> None:
    """Each step is given the fields that it declares, in the order of the schema."""
    binding = bound(("a", "b", "c"), lambda b, a: [], lambda x, c: None, lambda r, **rest: None)
    assert binding.parameters_for(binding.setup) == ("a", "b")
    assert binding.parameters_for(binding.process) == ("c",)
    assert binding.parameters_for(binding.join) == ("a", "b", "c")


def test_fields_that_setup_and_join_require_are_known() -> None:
    """A field is required by setup and join where they have no default; items may supply those of process."""
    binding = bound(("a", "b", "c"), lambda a, b=1: [], lambda c: None, lambda r, a, c: None)
    assert binding.required_fields == {"a": ("setup", "join"), "c": ("join",)}


def test_a_key_of_the_item_wins_over_a_parameter() -> None:
    """Process sees the item's value where both have the name."""
    assert bound(process=lambda a, b: (a, b)).call_process({"a": 1, "b": 2}, {"b": 3}) == (1, 3)


def test_a_required_argument_of_process_may_come_from_the_item() -> None:
    """What process needs is not known to be missing when the task is declared."""
    binding = bound(process=lambda x, y: None)
    binding.check_item(0, {"x": 1, "y": 2}, frozenset())
    binding.check_item(0, {"x": 1}, frozenset({"y"}))


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, r"item 7 is int, not a dict of arguments for process, as in \{'x': …\}"),
        (("x", 1), "item 7 is tuple"),
        (None, "item 7 is NoneType"),
        ({"x": 1, "z": 2}, "item 7 has the key 'z', which process does not take; it takes x, y"),
        ({"x": 1, 3: 2}, "item 7 has the key 3"),
        ({}, "item 7 lacks 'x', which process needs; it has no keys"),
        ({"y": 1}, "item 7 lacks 'x', which process needs; it has 'y'"),
    ],
)
def test_an_item_that_process_cannot_take_is_refused(item: object, message: str) -> None:
    """The error names the item, the key and what process takes."""
    with pytest.raises(InvalidItem, match=rf"Task\.setup: {message}"):
        bound(process=lambda x, y=1: None).check_item(7, item, frozenset())


def test_an_item_of_a_process_with_keywords_needs_string_keys() -> None:
    """'**keywords' takes any name, but only names."""
    binding = bound(process=lambda **rest: rest)
    binding.check_item(0, {"anything": 1}, frozenset())
    with pytest.raises(InvalidItem, match=r"item 1 has the key 3, which is not a string"):
        binding.check_item(1, {3: 1}, frozenset())
    with pytest.raises(InvalidItem, match=r"as in \{'name': …\}"):
        binding.check_item(2, [], frozenset())


def test_a_schema_without_fields_is_named_as_such() -> None:
    """An argument that nobody supplies says what the schema has."""
    with pytest.raises(DeclarationError, match=r"which has no fields"):
        bound((), setup=lambda a: [])


def test_keyword_only_arguments_are_arguments() -> None:
    """Arguments behind a '*' are bound like any other."""
    binding = bound(setup=lambda *, a, b=2: (a, b))
    assert binding.call_setup({"a": 1}) == (1, 2)
