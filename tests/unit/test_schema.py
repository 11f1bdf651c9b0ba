"""Input is validated with Cerberus, and refused with the path of every wrong field."""

from __future__ import annotations

import copy
import itertools
from array import array
from collections import UserList, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import cerberus
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import DeclarationError, InvalidInput
from fanout.declaration.schema import InputSchema

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
        InputSchema("Task", schema).validate(values, required=more.pop("required", {}), **more)
    assert caught.value.task == "Task"
    return caught.value.errors


def accepted(values: Any, schema: dict[str, Any] = SCHEMA, **more: Any) -> dict[str, Any]:
    return InputSchema("Task", schema).validate(values, required=more.pop("required", {}), **more)


def test_every_wrong_field_is_listed_with_its_path() -> None:
    """Nested errors have their path in dots and brackets, in the order of the schema, with unknown fields last."""
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
    """The text of the error has the task, each path and each reason in one line."""
    error = InvalidInput("Task", refused({"documents": [1], "delimiter": 2}))
    assert str(error) == "Task: documents[0]: must be of string type; delimiter: must be of string type"


def test_a_missing_field_is_named() -> None:
    """A missing required field is refused by Cerberus, or with the names of the steps that take it."""
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
    """A coercer that raises gives an error of its field."""
    assert list(refused({"documents": [], "size": "many"})) == ["size"]


def test_input_is_never_changed() -> None:
    """Normalisation leaves the caller's values unchanged."""
    schema = {"a": {"type": "list", "schema": {"type": "dict", "schema": {"x": {"coerce": int}, "y": {"default": 1}}}}}
    values = {"a": [{"x": "1"}]}
    before = copy.deepcopy(values)
    assert accepted(values, schema) == {"a": [{"x": 1, "y": 1}]}
    assert values == before


@pytest.mark.parametrize("values", [None, [], "text", 3, [("documents", [])]])
def test_input_that_is_no_mapping_is_refused(values: Any) -> None:
    """Input that is no mapping is refused."""
    assert list(refused(values)) == ["input"]


def test_keys_that_are_no_strings_are_refused() -> None:
    """A key that is no string is an unknown field."""
    assert refused({"documents": [], 3: 1}) == {"[3]": ["unknown field"]}


def test_a_schema_changed_later_changes_nothing() -> None:
    """A field that is added to the caller's mapping after the declaration is unknown."""
    schema: dict[str, Any] = {"a": {"type": "integer"}}
    checked = InputSchema("Task", schema)
    schema["b"] = {"type": "integer"}
    with pytest.raises(InvalidInput, match="b: unknown field"):
        checked.validate({"b": 1}, required={})


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
    """Any error of Cerberus about a schema becomes a DeclarationError that names the task."""
    with pytest.raises(DeclarationError, match="Task: Cerberus rejects"):
        InputSchema("Task", schema)


def test_threads_share_a_schema() -> None:
    """Validations at the same time do not see each other's documents."""
    checked = InputSchema("Task", SCHEMA)

    def validate(number: int) -> bool:
        good = checked.validate({"documents": [str(number)], "size": str(number)}, required={})
        try:
            checked.validate({"documents": [number]}, required={})
        except InvalidInput as error:
            return good == {"documents": [str(number)], "size": number, "delimiter": " "} and len(error.errors) == 1
        return False

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(validate, range(400)))


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.one_of(st.integers(), st.text(), st.none())))
def test_an_accepted_input_fits_its_schema(values: dict[str, Any]) -> None:
    """Either every value is of its type and is returned equal, or exactly the wrong fields are named."""
    schema = {"a": {"type": "integer"}, "b": {"type": "string"}}
    wrong = {name for name, value in values.items() if name == "c" or not isinstance(value, {"a": int, "b": str}[name])}
    if wrong:
        assert set(refused(values, schema)) == wrong
    else:
        assert accepted(values, schema) == values


def test_the_callers_dict_keeps_its_keys() -> None:
    """Keys that a schema renames are renamed in a copy, at any depth, although Cerberus renames them in place."""
    schema = {"rows": {"type": "list", "schema": {"type": "dict", "keysrules": {"coerce": int}}}}
    values = {"rows": [{"1": "a"}]}
    assert accepted(values, schema) == {"rows": [{1: "a"}]}
    assert values == {"rows": [{"1": "a"}]}


@pytest.mark.parametrize(
    "value", [range(3), array("q", [0, 1, 2]), deque([0, 1, 2]), deque([0, 1, 2], 3), UserList([0, 1, 2])]
)
def test_sequences_of_many_types_are_normalised(value: Any) -> None:
    """A rule for the elements applies to any sequence. A sequence that Cerberus could not rebuild becomes a list."""
    schema = {"a": {"type": "list", "schema": {"type": "integer", "coerce": lambda number: number + 1}}}
    made = accepted({"a": value}, schema)["a"]
    assert list(made) == [1, 2, 3]
    assert type(made) is list or (type(made) is type(value) and getattr(made, "maxlen", None) is None)
    assert accepted({"a": value}, {"a": {}})["a"] is value


def test_an_exception_of_a_rule_is_a_refusal() -> None:
    """A rule that raises refuses the input, with the exception as the reason, described if possible."""

    class UnspeakableError(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    def check(field: str, value: Any, error: Any) -> None:
        raise UnspeakableError if value else KeyError("gone")

    schema = {"a": {"check_with": check}}
    assert refused({"a": 0}, schema) == {"input": ["can't be checked: KeyError: 'gone'"]}
    assert refused({"a": 1}, schema) == {"input": ["can't be checked: UnspeakableError: (it can't be described)"]}
    assert refused({"a": [[]]}, {"a": {"forbidden": [1]}}) == {
        "input": ["can't be checked: TypeError: unhashable type: 'list'"]
    }


class Uncopied:
    """A value that cannot be copied, as a connection, or should not be, as a large value."""

    def __deepcopy__(self, _: object) -> Any:
        raise TypeError("cannot be copied")

    def __str__(self) -> str:
        return "the connection"


def test_a_refused_value_is_not_copied() -> None:
    """The reason is that of the rule, and not that Cerberus could not copy the value. Messages show the value."""
    wrong = Uncopied()
    schema = {"a": {"type": "list", "schema": {"type": "integer"}}, "b": {"type": "string"}, "c": {"allowed": [1]}}
    assert refused({"a": [1, wrong], "b": wrong, "c": wrong}, schema) == {
        "a[1]": ["must be of integer type"],
        "b": ["must be of string type"],
        "c": ["unallowed value the connection"],
    }
    either = {"a": {"anyof": [{"type": "string"}, {"type": "list", "schema": {"type": "integer"}}]}}
    assert "a" in refused({"a": [wrong]}, either)
    with pytest.raises(InvalidInput, match=r"a\[1\]: must be of integer type"):
        list(stream(schema, "a", iter([1, wrong])))


def test_an_error_handler_of_the_user_gets_the_values() -> None:
    """The messages of a validator's own error handler are used, with the values as they are."""

    class CustomMessages(cerberus.errors.BasicErrorHandler):
        messages: ClassVar[dict[int, str]] = {**cerberus.errors.BasicErrorHandler.messages, 0x24: "no: {value!r}"}

    class Own(cerberus.Validator):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{"error_handler": CustomMessages, **kwargs})

    checked = InputSchema("Task", {"a": {"type": "string"}}, validator=Own)
    with pytest.raises(InvalidInput, match="a: no: 3"):
        checked.validate({"a": 3}, required={})


# A validator of the user


class Odd(cerberus.Validator):
    """A validator with its own rule, type, check, coercer and default setter."""

    types_mapping: ClassVar[dict[str, Any]] = {
        **cerberus.Validator.types_mapping,
        "tags": cerberus.TypeDefinition("tags", (list,), ()),
    }

    def _validate_is_odd(self, is_odd: bool, field: str, value: Any) -> None:
        """{'type': 'boolean'}"""
        if is_odd != bool(value % 2):
            self._error(field, "must be odd" if is_odd else "must be even")

    def _check_with_known(self, field: str, value: Any) -> None:
        if value not in self.root_document.get("known", []):
            self._error(field, "is not known")

    def _normalize_coerce_number(self, value: Any) -> int:
        return int(value)

    def _normalize_default_setter_first(self, document: dict[str, Any]) -> Any:
        return document["known"][0]


ODD = {
    "known": {"type": "tags", "schema": {"coerce": "number"}},
    "chosen": {"type": "list", "schema": {"check_with": "known", "coerce": "number"}},
    "count": {"is_odd": True, "default_setter": "first"},
}


def odd(values: dict[str, Any], *, streams: Any = ()) -> dict[str, Any]:
    return InputSchema("Task", ODD, validator=Odd).validate(values, required={}, streams=streams)


def test_a_validator_of_the_user_is_used() -> None:
    """The rules, types and normalisation of a user's validator are used for documents and for elements of streams."""
    assert odd({"known": [1, 3], "chosen": [3]}) == {"known": [1, 3], "chosen": [3], "count": 1}
    assert odd({"known": [1, 3], "chosen": ["3"], "count": 5}) == {"known": [1, 3], "chosen": [3], "count": 5}
    with pytest.raises(InvalidInput) as caught:
        odd({"known": [1], "chosen": [2], "count": 2})
    assert caught.value.errors == {"chosen[0]": ["is not known"], "count": ["must be odd"]}
    streamed = odd({"known": ["1", 3], "chosen": iter(["3", 1, 2]), "count": 1}, streams=["chosen"])["chosen"]
    with pytest.raises(InvalidInput) as caught:
        list(streamed)
    assert caught.value.errors == {"chosen[2]": ["is not known"]}


def test_a_rule_of_the_user_is_refused_on_a_stream() -> None:
    """On a stream, a rule that only the user's validator knows, or that it overrides, is refused by name."""

    class Own(cerberus.Validator):
        def _validate_maxlength(self, most: int, field: str, value: Any) -> None:
            """{'type': 'integer'}"""

        def _validate_sorted(self, wanted: bool, field: str, value: Any) -> None:
            """{'type': 'boolean'}"""

    for rule in ({"maxlength": 3}, {"sorted": True}):
        checked = InputSchema("Task", {"a": rule}, validator=Own)
        with pytest.raises(InvalidInput, match=f"its rule '{next(iter(rule))}' needs the whole list"):
            checked.validate({"a": iter([])}, required={}, streams=["a"])


@pytest.mark.parametrize("validator", [Odd(), dict, "Odd", type("Lost", (), {})])
def test_a_wrong_validator_is_a_declaration_error(validator: Any) -> None:
    """A validator that is no subclass of Cerberus' Validator is refused, also an instance."""
    with pytest.raises(DeclarationError, match=r"Task: validator must be a subclass of cerberus\.Validator"):
        InputSchema("Task", {}, validator=validator)


def test_a_validator_that_cannot_be_made_is_a_declaration_error() -> None:
    """A validator that raises in its constructor, or loses its schema, is reported when the task is declared."""

    class Needy(cerberus.Validator):
        def __init__(self, needed: int) -> None:
            raise AssertionError

    class Lossy(cerberus.Validator):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__()

    for validator in (Needy, Lossy):
        with pytest.raises(DeclarationError, match="Task: "):
            InputSchema("Task", {"a": {}}, validator=validator)


def test_a_validator_may_drop_unknown_fields() -> None:
    """Settings that a validator's constructor makes are not overruled."""

    class Purging(cerberus.Validator):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "purge_unknown": True})

    assert InputSchema("Task", {"a": {}}, validator=Purging).validate({"a": 1, "b": 2}, required={}) == {"a": 1}


# Streams


def stream(schema: dict[str, Any], name: str, elements: Any, **others: Any) -> Iterator[Any]:
    document = InputSchema("Task", schema).validate({name: elements, **others}, required={}, streams=[name])
    return document[name]  # type: ignore[no-any-return]


ROWS = {"rows": {"type": "list", "schema": {"type": "string"}}}


@pytest.mark.parametrize("wrong", [0, 1, 63, 64, 65, 200])
def test_elements_of_a_stream_are_checked_as_they_pass(wrong: int) -> None:
    """All elements before the first wrong one are given. The wrong one is named, and few elements after it are read."""
    read_indices: list[int] = []

    def elements() -> Iterator[object]:
        for index in itertools.count():
            read_indices.append(index)
            yield index if index == wrong else "ok"

    rows = stream(SCHEMA, "documents", elements())
    assert read_indices == []
    assert [next(rows) for _ in range(wrong)] == ["ok"] * wrong
    with pytest.raises(InvalidInput) as caught:
        next(rows)
    assert caught.value.errors == {f"documents[{wrong}]": ["must be of string type"]}
    assert len(read_indices) <= wrong + 64


def test_elements_of_a_stream_are_normalised() -> None:
    """An element is coerced. Nested errors have their path and the same text as those of a list."""
    schema = {"rows": {"type": "list", "schema": {"type": "dict", "schema": {"x": {"type": "integer", "coerce": int}}}}}
    rows: list[Any] = [{"x": "1"}, {"x": "b"}, {}]
    passed = stream(schema, "rows", iter(rows))
    assert next(passed) == {"x": 1}
    with pytest.raises(InvalidInput) as caught:
        next(passed)
    assert caught.value.errors == refused({"rows": rows}, schema)


def test_an_error_of_an_element_has_its_index_in_the_stream() -> None:
    """Cerberus' message has the index of an element that can't be coerced, counted from the stream's beginning."""
    schema = {"rows": {"type": "list", "schema": {"coerce": int}}}
    rows = [*map(str, range(100)), "many"]
    with pytest.raises(InvalidInput) as caught:
        list(stream(schema, "rows", iter(rows)))
    assert caught.value.errors == refused({"rows": rows}, schema)
    assert list(caught.value.errors) == ["rows[100]"]


def test_a_stream_without_a_rule_passes_anything() -> None:
    """A field without a rule for its elements accepts all of them."""
    assert list(stream({"rows": {}}, "rows", iter([1, "a", None]))) == [1, "a", None]


@pytest.mark.parametrize(
    ("rules", "elements", "passed", "reason"),
    [
        ({"allowed": [1, 2]}, [1, 2, 3, 4], [1, 2], "unallowed values (3,)"),
        ({"forbidden": [3]}, [1, 3], [1], "unallowed values [3]"),
        ({"maxlength": 2}, [1, 2, 3], [1, 2], "max length is 2"),
        ({"maxlength": 0}, [1], [], "max length is 0"),
        ({"maxlength": 99}, [0] * 200, [0] * 99, "max length is 99"),
        ({"minlength": 3}, [1, 2], [1, 2], "min length is 3"),
        ({"empty": False}, [], [], "empty values not allowed"),
        ({"contains": [1, 5]}, [1, 2], [1, 2], "missing members {5}"),
    ],
)
def test_rules_about_the_list_hold_for_a_stream(rules: Any, elements: Any, passed: Any, reason: str) -> None:
    """Rules that can be checked while elements pass, or at the end, refuse the stream by the field's name."""
    rows = stream({"rows": {"type": "list", **rules}}, "rows", iter(elements))
    assert list(itertools.islice(rows, len(passed))) == passed
    with pytest.raises(InvalidInput) as caught:
        next(rows)
    assert caught.value.errors == {"rows": [reason]}


@pytest.mark.parametrize(
    "rules",
    [
        {"allowed": [1, 2], "minlength": 2, "maxlength": 3, "empty": False, "contains": 1, "forbidden": [9]},
        {"empty": True, "minlength": 5},
        {"keysrules": {"type": "string"}, "regex": "a", "min": 3, "anyof_type": ["list", "string"], "nullable": True},
        {"required": True, "dependencies": "other", "default": [1], "meta": "x"},
    ],
)
def test_a_stream_that_fits_passes(rules: Any) -> None:
    """A stream that fits all rules passes whole, if a list of the same elements does."""
    elements = [] if rules.get("minlength") == 5 else [1, 2]
    schema = {"rows": {"type": "list", **rules}, "other": {}}
    assert accepted({"rows": elements, "other": 0}, schema)["rows"] == elements
    assert list(stream(schema, "rows", iter(elements), other=0)) == elements


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        ({"coerce": list}, "'coerce'"),
        ({"items": [{"type": "integer"}]}, "'items'"),
        ({"check_with": lambda field, value, error: None}, "'check_with'"),
        ({"anyof": [{"minlength": 1}, {"maxlength": 3}]}, "'anyof'"),
        ({"oneof_schema": [{"type": "integer"}, {"type": "string"}]}, "'oneof'"),
        ({"rename": "other"}, "'rename'"),
        ({"rename_handler": str.upper}, "'rename_handler'"),
        ({"max": [5]}, "'max'"),
        ({"schema": {"rename": "x"}}, "'rename' in its `schema`"),
    ],
)
def test_a_rule_that_needs_the_whole_list_is_refused_by_name(rules: Any, named: str) -> None:
    """A rule that a stream cannot keep is refused by name, with the remedy, before the stream is read."""
    with pytest.raises(InvalidInput) as caught:
        stream({"rows": {"type": "list", **rules}, "other": {}}, "rows", (1 // 0 for _ in [1]))
    (reason,) = caught.value.errors["rows"]
    assert named in reason
    assert "pass a list" in reason


@pytest.mark.parametrize(
    "setter",
    [
        lambda document: len(document["rows"]),
        lambda document: [*document["rows"]],
        lambda document: sum(document["rows"], start=0),
        lambda document: document["rows"] == [],
        lambda document: 1 if document["rows"] else 0,
        lambda document: document["rows"],
    ],
)
def test_a_rule_of_another_field_cannot_read_a_stream(setter: Any) -> None:
    """A default setter that reads the stream is refused."""
    schema = {"rows": {"type": "list"}, "count": {"default_setter": setter}}
    with pytest.raises(InvalidInput) as caught:
        stream(schema, "rows", iter([1]))
    assert "is a stream" in caught.value.errors["rows"][0]


def test_a_rule_that_hides_its_read_of_a_stream_is_refused() -> None:
    """A rule that catches the error of reading a stream is refused all the same."""

    def setter(document: Any) -> int:
        try:
            return len(document["rows"])
        except Exception:
            return 0

    with pytest.raises(InvalidInput, match="a rule of another field reads it"):
        stream({"rows": {}, "count": {"default_setter": setter}}, "rows", iter([1]))


def test_other_fields_see_that_a_stream_is_there() -> None:
    """Dependencies and exclusions hold for a stream as for a list, and an element's rules see the other fields."""
    schema = {
        "rows": {"type": "list", "schema": {"dependencies": "^limit", "type": "integer"}},
        "limit": {"dependencies": "rows"},
        "none": {"excludes": "rows"},
    }
    assert list(stream(schema, "rows", iter([1, 2]), limit=1)) == [1, 2]
    with pytest.raises(InvalidInput) as caught:
        stream(schema, "rows", iter([1]), none=1)
    assert caught.value.errors == {"none": ["'rows' must not be present with 'none'"]}
    with pytest.raises(InvalidInput) as caught:
        list(stream(schema, "rows", iter([1])))
    assert caught.value.errors == refused({"rows": [1]}, schema)


def test_a_stream_of_an_unknown_or_other_field_is_refused_at_once() -> None:
    """Only a field that may be a list can be streamed."""
    with pytest.raises(InvalidInput, match="other: unknown field"):
        stream(SCHEMA, "other", iter([]), documents=[])
    with pytest.raises(InvalidInput, match="delimiter: must be of string type"):
        stream(SCHEMA, "delimiter", iter([]), documents=[])


def test_a_field_of_several_types_may_be_streamed() -> None:
    """A field that may be a list or another type accepts a stream."""
    assert list(stream({"rows": {"type": ["list", "string"]}}, "rows", iter([1]))) == [1]


def test_a_field_whose_rules_are_registered_may_be_streamed() -> None:
    """A field, and its elements, may name a rules set of Cerberus' registry."""
    cerberus.rules_set_registry.add("unit element", {"type": "integer"})
    cerberus.rules_set_registry.add("unit rows", {"type": "list", "schema": "unit element", "maxlength": 1})
    try:
        rows = stream({"rows": "unit rows"}, "rows", iter([1, "a"]))
        assert next(rows) == 1
        with pytest.raises(InvalidInput, match="must be of integer type"):
            next(stream({"rows": "unit rows"}, "rows", iter(["a"])))
        with pytest.raises(InvalidInput, match="max length is 1"):
            list(stream({"rows": "unit rows"}, "rows", iter([1, 2])))
    finally:
        cerberus.rules_set_registry.remove("unit rows", "unit element")


def test_an_exception_of_a_streams_iterator_is_raised_unchanged() -> None:
    """An exception of the iterator is no refusal of the input."""
    rows = stream(ROWS, "rows", (str(1 // 0) for _ in [1]))
    with pytest.raises(ZeroDivisionError):
        next(rows)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({f"p{index}": 1 for index in range(100_000)}, "has 100000 parameters, and a job has at most 1000"),
        ({"n" * 100_000: 1}, "has a name of 100000 characters"),
    ],
    ids=["many", "long"],
)
def test_a_refusal_of_too_many_or_too_long_names_is_short(values: dict[str, Any], reason: str) -> None:
    """Cerberus, whose time grows with the square of their number, does not see them."""
    with pytest.raises(InvalidInput, match=reason) as caught:
        InputSchema("task", {"a": {}}).validate(values, required={})
    assert len(str(caught.value)) < 200
