"""Parameters are bound by name to the steps that declare them, and items are checked against process."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from fanout import DeclarationError, InvalidItem
from fanout.declaration.binding import Binding


class Keyed(dict[str, Any]):
    """A dict that shows other keys than it has."""

    def keys(self) -> Any:
        return {"other": 1}.keys()


def bind(
    fields: tuple[str, ...] = ("a", "b"),
    setup: Callable[..., Any] = lambda a: [],
    process: Callable[..., Any] = lambda x: x,
    join: Callable[..., Any] = lambda results: None,
    combine: Callable[..., Any] | None = None,
) -> Binding:
    return Binding.of("Task", fields, setup, process, join, combine)


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
    """Join receives the results as its first argument that is no field, or else as its first argument."""
    assert bind(join=join).results_argument == expected


def test_results_take_precedence_over_a_field_of_the_same_name() -> None:
    """If all arguments of join are fields, the first one is the results and not the parameter."""
    binding = bind(join=lambda a, b: (a, b))
    assert binding.parameters_for(binding.join) == ("b",)
    assert binding.call_join("results", {"b": 2}) == ("results", 2)


def test_a_parameter_reaches_every_step_that_declares_it() -> None:
    """Each step receives the fields that it declares, in the order of the schema."""
    binding = bind(("a", "b", "c"), lambda b, a: [], lambda x, c: None, lambda r, **rest: None)
    assert binding.parameters_for(binding.setup) == ("a", "b")
    assert binding.parameters_for(binding.process) == ("c",)
    assert binding.parameters_for(binding.join) == ("a", "b", "c")


def test_fields_that_setup_and_join_require_are_known() -> None:
    """Setup and join require the fields for which they have no default. Items may supply the fields of process."""
    binding = bind(("a", "b", "c"), lambda a, b=1: [], lambda c: None, lambda r, a, c: None)
    assert binding.required_fields == {"a": ("setup", "join"), "c": ("join",)}


def test_a_key_of_the_item_takes_precedence_over_a_parameter() -> None:
    """Process receives the item's value if a parameter has the same name."""
    assert bind(process=lambda a, b: (a, b)).bind_process({"a": 1, "b": 2})(b=3) == (1, 3)


def test_a_required_argument_of_process_may_come_from_the_item() -> None:
    """A required argument of process is no error at declaration, because an item may supply it."""
    binding = bind(process=lambda x, y: None)
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
    """The error names the item, the key and the arguments of process."""
    with pytest.raises(InvalidItem, match=rf"Task\.setup: {message}"):
        bind(process=lambda x, y=1: None).check_item(7, item, frozenset())


def test_an_item_of_a_process_with_keywords_needs_string_keys() -> None:
    """A process with `**keywords` accepts any string as a key, and no other key."""
    binding = bind(process=lambda **rest: rest)
    binding.check_item(0, {"anything": 1}, frozenset())
    with pytest.raises(InvalidItem, match=r"item 1 has the key 3, which is not a string"):
        binding.check_item(1, {3: 1}, frozenset())
    with pytest.raises(InvalidItem, match=r"as in \{'name': …\}"):
        binding.check_item(2, [], frozenset())


ITEMS: list[Any] = [
    {"x": 1},
    {"x": 1, "y": 2},
    {"y": 1, "x": 2},
    {"y": 1},
    {"x": 1, "z": 2},
    {"x": 1, 3: 2},
    {"x": 1, True: 2},
    {3: 1},
    {},
    OrderedDict(x=1),
    Keyed(x=1),
    3,
    None,
    ["x"],
    "x",
]


def refusal_of(check: Callable[[], None]) -> str | None:
    try:
        check()
    except InvalidItem as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    "process", [lambda x, y=1: None, lambda x, y: None, lambda **rest: None, lambda x, **rest: None]
)
@pytest.mark.parametrize("parameters", [frozenset(), frozenset({"y"}), frozenset({"x", "y"})])
def test_items_are_refused_together_as_one_by_one(process: Callable[..., Any], parameters: frozenset[str]) -> None:
    """The error is that of the first refused item, wherever it is and whatever the others are."""
    binding, draw, refused = bind(process=process), random.Random(1), 0

    def check_each(items: list[Any]) -> None:
        for index, item in enumerate(items, 40):
            binding.check_item(index, item, parameters)

    for _ in range(300):
        items = draw.choices(draw.sample(ITEMS, draw.randrange(1, 4)), k=draw.randrange(6))
        expected = refusal_of(partial(check_each, items))
        assert refusal_of(partial(binding.check_items, 40, items, parameters)) == expected
        refused += expected is not None
    assert 50 < refused < 290


def test_items_with_the_same_keys_are_checked_once() -> None:
    """Of a thousand items with the same keys, in any order, only the key sets are looked at in turn."""
    checked = []

    class Counted(Binding):
        def check_item(self, index: int, item: object, parameters: frozenset[str]) -> None:
            checked.append(item)
            super().check_item(index, item, parameters)

    binding = Counted.of("Task", (), lambda a=1: [], lambda x, y: None, lambda results: None)
    binding.check_items(0, [{"x": number, "y": 1} for number in range(1000)] + [{"y": 1, "x": 2}], frozenset())
    assert len(checked) == 2


@pytest.mark.parametrize("parameters", [{}, {"a": 1}, {"a": 1, "b": 2}])
@pytest.mark.parametrize("item", [{}, {"a": 3}, {"b": 4}, {"b": 4, "a": 3}, {"c": 5, "a": 6}, {3: 1}])
@pytest.mark.parametrize("process", [lambda a, b=0: (a, b), lambda **all: [*all.items()], partial(dict, a=7)])
def test_a_bound_process_is_called_as_any(
    process: Callable[..., Any], parameters: dict[str, Any], item: dict[Any, Any]
) -> None:
    """Values, their order and errors are those of a plain call with both, at every call."""
    binding = bind(process=process) if not isinstance(process, partial) else bind()
    binding = replace(binding, process=replace(binding.process, function=process))
    given = dict(item)
    called = binding.bind_process(parameters)

    def outcome(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except TypeError as error:
            return str(error)

    for _ in range(2):
        assert outcome(lambda: called(**item)) == outcome(lambda: process(**{**parameters, **item}))
    assert item == given


def test_a_process_without_parameters_is_bound_to_nothing() -> None:
    """Only a parameter puts a function of the library between caller and process."""
    process = lambda x: x  # noqa: E731
    assert bind(process=process).bind_process({}) is process


def test_the_error_says_that_a_schema_has_no_fields() -> None:
    """The error for an argument without a source says that the schema has no fields."""
    with pytest.raises(DeclarationError, match=r"which has no fields"):
        bind((), setup=lambda a: [])


def test_keyword_only_arguments_are_bound() -> None:
    """Arguments behind a '*' are bound like any other."""
    binding = bind(setup=lambda *, a, b=2: (a, b))
    assert binding.call_setup({"a": 1}) == (1, 2)


@pytest.mark.parametrize(
    ("combine", "expected"),
    [
        (lambda parts: None, ("parts",)),
        (lambda a, parts, b=1: None, ("parts",)),
        (lambda parts, other=1: None, ("parts",)),
        (lambda x, y: None, ("x", "y")),
        (lambda x, b, y: None, ("x", "y")),
        (lambda x, y, other=1: None, ("x", "y")),
        (lambda *, x, y, **rest: None, ("x", "y")),
    ],
)
def test_the_form_of_combine_follows_from_its_arguments(combine: Callable[..., Any], expected: tuple[str, ...]) -> None:
    """With one required argument that is no field, combine takes a list; with two, a value and the next one."""
    assert bind(combine=combine).combined_arguments == expected


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        (
            lambda x, y, z: None,
            r"nothing supplies its argument 'z'.*add the others to the input_schema \(which has a, b\)",
        ),
        (
            lambda a: None,
            r"combine\(results\) or combine\(a, b\).*its argument 'a' is a field of the input_schema: rename",
        ),
        (lambda a, b: None, "its argument 'a' is a field"),
        (lambda parts=(): None, "it has no such argument: add one, without a default"),
        (lambda **rest: None, "it has no such argument"),
        (lambda: None, "it has no such argument"),
        (lambda *parts: None, "takes any number of positional arguments"),
        (lambda x, y, /: None, "is positional-only"),
        ("text", "must be a function, not str"),
    ],
)
def test_a_combine_without_arguments_for_values_is_refused(combine: Any, message: str) -> None:
    """The error names the class, the step, the argument and the remedy."""
    with pytest.raises(DeclarationError, match=rf"Task\.combine: .*{message}"):
        bind(combine=combine)


def test_parameters_reach_combine() -> None:
    """Combine receives the fields that it declares and can make them required.

    A parameter of combine is not setup's alone.
    """
    binding = bind(("a", "b", "c"), combine=lambda x, y, a, b=1: None)
    assert binding.combine_parameters == ("a", "b")
    assert binding.required_fields == {"a": ("setup", "combine")}
    assert binding.setup_only(["a", "b", "c"]) == ["c"]
    assert bind().combine_parameters == ()


@pytest.mark.parametrize("combine", [lambda parts, b: b.join(parts), lambda x, y, b: f"{x}{b}{y}"])
@pytest.mark.parametrize(("values", "expected"), [([], []), (["p"], ["p"]), (["p", "q", "r"], ["p-q-r"])])
def test_values_are_combined_in_order(combine: Callable[..., Any], values: list[str], expected: list[str]) -> None:
    """Several values are combined into one. One value is returned as it is, and no value gives none."""
    assert bind(combine=combine).call_combine(iter(values), {"b": "-"}) == expected


def test_pairs_are_combined_as_values_arrive() -> None:
    """`combine(a, b)` needs no more than two values at a time."""
    arrived: list[int] = []
    arrived_before_call: list[tuple[int, ...]] = []

    def combine(x: int, y: int) -> int:
        arrived_before_call.append(tuple(arrived))
        return x + y

    def values() -> Iterator[int]:
        for value in range(4):
            arrived.append(value)
            yield value

    assert bind(combine=combine).call_combine(values(), {}) == [6]
    assert arrived_before_call == [(0, 1), (0, 1, 2), (0, 1, 2, 3)]
