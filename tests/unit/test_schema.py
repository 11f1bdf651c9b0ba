"""Input is validated as Cerberus says, and refused with the path of every field."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cerberus
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import DeclarationError, InvalidInput
from fanout.schema import InputSchema

SCHEMA = {
    "documents": {"type": "list", "required": True, "schema": {"type": "string", "maxlength": 5}},
    "delimiter": {"type": "string", "default": " "},
    "limits": {
        "type": "dict",
        "schema": {"low": {"type": "integer", "min": 0}, "names": {"type": "list", "schema": {"type": "string"}}},
    },
    "size": {"type": "integer", "coerce": int},
}


def refused(values: Any, schema: dict[str, Any] = SCHEMA, **more: Any) -> dict[str, list[str]]:
    with pytest.raises(InvalidInput) as caught:
        InputSchema("Task", schema).validated(values, required=more.pop("required", {}), **more)
    assert caught.value.task == "Task"
    return caught.value.errors


def accepted(values: Any, schema: dict[str, Any] = SCHEMA, **more: Any) -> dict[str, Any]:
    return InputSchema("Task", schema).validated(values, required=more.pop("required", {}), **more)


def test_every_wrong_field_is_listed_with_its_path() -> None:
    """Nested errors have their path in dots and brackets, in the order of the schema, unknown fields last."""
    values = {
        "other": 1,
        "size": 3,
        "limits": {"names": ["a", 2], "low": -1, "x": 0},
        "documents": ["ok", 3, "too long"],
    }
    assert sorted(refused(values).items()) == [
        ("documents[1]", ["must be of string type"]),
        ("documents[2]", ["max length is 5"]),
        ("limits.low", ["min value is 0"]),
        ("limits.names[1]", ["must be of string type"]),
        ("limits.x", ["unknown field"]),
        ("other", ["unknown field"]),
    ]
    assert [path.split(".")[0].split("[")[0] for path in refused(values)] == ["documents"] * 2 + ["limits"] * 3 + [
        "other"
    ]


def test_an_error_reads_as_one_line() -> None:
    """The text of the error names the task, each path and each reason."""
    error = InvalidInput("Task", refused({"documents": [1], "delimiter": 2}))
    assert str(error) == "Task: documents[0]: must be of string type; delimiter: must be of string type"


def test_a_missing_field_is_named() -> None:
    """A required field that is missing is refused by Cerberus, or in the name of the steps that need it."""
    assert refused({}) == {"documents": ["required field"]}
    assert refused({"documents": []}, required={"size": ("setup", "join"), "documents": ("setup",)}) == {
        "size": ["required by setup and join"]
    }


def test_a_default_satisfies_a_step() -> None:
    """A field with a default is never missing."""
    assert accepted({"documents": []}, required={"delimiter": ("setup",)}) == {"documents": [], "delimiter": " "}


def test_values_are_coerced_and_normalised() -> None:
    """Coercion, defaults and nested defaults apply as Cerberus defines them."""
    schema = {
        "tags": {"type": "list", "coerce": lambda text: text.split(",")},
        "place": {"type": "dict", "schema": {"x": {"default": 1}, "y": {"type": "integer", "coerce": int}}},
    }
    assert accepted({"tags": "a,b", "place": {"y": "2"}}, schema) == {"tags": ["a", "b"], "place": {"x": 1, "y": 2}}


def test_a_coercion_that_fails_is_an_error_of_its_field() -> None:
    """A coercer that raises names the field."""
    assert list(refused({"documents": [], "size": "many"})) == ["size"]


def test_input_is_never_changed() -> None:
    """What the caller passes is as it was, however it is normalised."""
    schema = {"a": {"type": "list", "schema": {"type": "dict", "schema": {"x": {"coerce": int}, "y": {"default": 1}}}}}
    values = {"a": [{"x": "1"}]}
    before = copy.deepcopy(values)
    assert accepted(values, schema) == {"a": [{"x": 1, "y": 1}]}
    assert values == before


@pytest.mark.parametrize("values", [None, [], "text", 3, [("documents", [])]])
def test_input_that_is_no_mapping_is_refused(values: Any) -> None:
    """Input comes by name."""
    assert list(refused(values)) == ["input"]


def test_keys_that_are_no_strings_are_refused() -> None:
    """A key that is no name is an unknown field."""
    assert refused({"documents": [], 3: 1}) == {"[3]": ["unknown field"]}


def test_absent_fields_are_neither_required_nor_defaulted() -> None:
    """A field that comes later is not missed and has no value yet."""
    absent = frozenset({"documents", "delimiter"})
    assert accepted({"size": "3"}, absent=absent, required={"documents": ("setup",)}) == {"size": 3}


def test_a_schema_changed_later_changes_nothing() -> None:
    """A field added to the caller's mapping after the declaration is unknown."""
    schema: dict[str, Any] = {"a": {"type": "integer"}}
    checked = InputSchema("Task", schema)
    schema["b"] = {"type": "integer"}
    with pytest.raises(InvalidInput, match="b: unknown field"):
        checked.validated({"b": 1}, required={})


@pytest.mark.parametrize(
    "schema",
    [
        {"a": 5},
        {"a": None},
        {"a": []},
        {"a": "no such rules"},
        {"a": {"type": 5}},
        {"a": {"typ": "list"}},
        {"a": {"schema": 3}},
    ],
)
def test_a_broken_schema_is_a_declaration_error(schema: dict[str, Any]) -> None:
    """Whatever Cerberus raises about a schema becomes one kind of error that names the task."""
    with pytest.raises(DeclarationError, match="Task: Cerberus rejects"):
        InputSchema("Task", schema)


def test_threads_share_a_schema() -> None:
    """Validations at the same time do not see each other's documents."""
    checked = InputSchema("Task", SCHEMA)

    def validate(number: int) -> bool:
        good = checked.validated({"documents": [str(number)], "size": str(number)}, required={})
        try:
            checked.validated({"documents": [number]}, required={})
        except InvalidInput as error:
            return good == {"documents": [str(number)], "size": number, "delimiter": " "} and len(error.errors) == 1
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(validate, range(400)))


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.one_of(st.integers(), st.text(), st.none())))
def test_what_is_accepted_fits(values: dict[str, Any]) -> None:
    """Either every value is of its type and comes back equal, or exactly the wrong fields are named."""
    schema = {"a": {"type": "integer"}, "b": {"type": "string"}}
    wrong = {name for name, value in values.items() if name == "c" or not isinstance(value, {"a": int, "b": str}[name])}
    if wrong:
        assert set(refused(values, schema)) == wrong
    else:
        assert accepted(values, schema) == values


# Streams


@pytest.mark.parametrize("wrong", [0, 1, 63, 64, 65, 200])
def test_elements_of_a_stream_are_checked_as_they_pass(wrong: int) -> None:
    """All elements before the first that does not fit are given; it is named, and little behind it is read."""
    taken: list[int] = []

    def elements() -> Iterator[object]:
        for index in itertools.count():
            taken.append(index)
            yield index if index == wrong else "ok"

    stream = InputSchema("Task", SCHEMA).stream("documents", elements())
    assert [next(stream) for _ in range(wrong)] == ["ok"] * wrong
    with pytest.raises(InvalidInput) as caught:
        next(stream)
    assert caught.value.errors == {f"documents[{wrong}]": ["must be of string type"]}
    assert len(taken) <= wrong + 64


def test_elements_of_a_stream_are_normalised() -> None:
    """An element is coerced, and nested errors have their path."""
    schema = {"rows": {"type": "list", "schema": {"type": "dict", "schema": {"x": {"type": "integer", "coerce": int}}}}}
    stream = InputSchema("Task", schema).stream("rows", iter([{"x": "1"}, {"x": "b"}, {}]))
    assert next(stream) == {"x": 1}
    with pytest.raises(InvalidInput) as caught:
        next(stream)
    assert "rows[1].x" in caught.value.errors


def test_a_stream_without_a_rule_passes_anything() -> None:
    """A field that says nothing of its elements takes all of them."""
    assert list(InputSchema("Task", {"rows": {}}).stream("rows", iter([1, "a", None]))) == [1, "a", None]


def test_a_stream_of_an_unknown_or_other_field_is_refused_at_once() -> None:
    """Only a field that may be a list can be streamed."""
    checked = InputSchema("Task", SCHEMA)
    with pytest.raises(InvalidInput, match="other: unknown field"):
        checked.stream("other", iter([]))
    with pytest.raises(InvalidInput, match="delimiter: is a stream, but must be of string type"):
        checked.stream("delimiter", iter([]))


def test_a_field_of_several_types_may_be_streamed() -> None:
    """A field that may be a list among others takes a stream."""
    checked = InputSchema("Task", {"rows": {"type": ["list", "string"]}})
    assert list(checked.stream("rows", iter([1]))) == [1]


def test_a_field_whose_rules_are_registered_may_be_streamed() -> None:
    """A field may name a rules set of Cerberus' registry."""
    cerberus.rules_set_registry.add("unit rows", {"type": "list", "schema": {"type": "integer"}})
    try:
        stream = InputSchema("Task", {"rows": "unit rows"}).stream("rows", iter([1, "a"]))
        assert next(stream) == 1
        with pytest.raises(InvalidInput):
            next(stream)
    finally:
        cerberus.rules_set_registry.remove("unit rows")
