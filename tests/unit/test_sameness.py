"""The same input gives the same document or the same refusal as a list, in a chain and as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fanout import DeclarationError, InvalidInput
from fanout.declaration.definition import Declaration
from fanout.engines.submission import Submission
from storage import MemoryStore, Unencodable

many_examples = settings(max_examples=300)


def triple(value: Any) -> Any:
    """Triple a number: a coercer whose second application would show."""
    return int(value) * 3


def reject_pairs_and_fives(field: str, value: Any, error: Any) -> None:
    if isinstance(value, list) and len(value) == 2:
        error(field, "must not be two")
    if value == 5:
        error(field, "must not be 5")


def count_elements(document: Any) -> int:
    return len(document["a"])


def rules(**possible: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy of mappings with some of these rules."""
    return st.sets(st.sampled_from(sorted(possible)), max_size=4).flatmap(
        lambda chosen: st.fixed_dictionaries({name: possible[name] for name in sorted(chosen)})
    )


NUMBERS = st.integers(0, 6)
FEW = st.lists(NUMBERS, max_size=5)
SCALAR = {
    "type": st.sampled_from(["integer", "string", ["integer", "string"]]),
    "coerce": st.sampled_from([triple, str, [int, triple]]),
    "nullable": st.booleans(),
    "allowed": FEW,
    "forbidden": FEW,
    "min": NUMBERS,
    "max": NUMBERS,
    "check_with": st.just(reject_pairs_and_fives),
    "anyof": st.just([{"type": "integer", "min": 2}, {"type": "string"}]),
}
NESTED = st.fixed_dictionaries(
    {
        "type": st.just("dict"),
        "schema": st.fixed_dictionaries(
            {"x": rules(**SCALAR), "y": rules(default=NUMBERS, required=st.booleans(), rename=st.just("z"), **SCALAR)}
        ),
    },
    optional={
        "allow_unknown": st.booleans(),
        "purge_unknown": st.booleans(),
        "require_all": st.booleans(),
        "keysrules": st.just({"type": "string", "maxlength": 1}),
    },
)
LIST = rules(
    type=st.sampled_from(["list", ["list", "string"], "string"]),
    schema=st.one_of(rules(**SCALAR), NESTED, rules(dependencies=st.sampled_from(["^b", "^a", "^nothing"]))),
    allowed=FEW,
    forbidden=FEW,
    contains=st.one_of(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=2)),
    minlength=NUMBERS,
    maxlength=NUMBERS,
    empty=st.booleans(),
    nullable=st.booleans(),
    required=st.booleans(),
    readonly=st.booleans(),
    excludes=st.just("b"),
    dependencies=st.sampled_from(["b", ["b", "c"], {"b": [1, 2]}]),
    coerce=st.sampled_from([list, lambda values: values[:1]]),
    check_with=st.just(reject_pairs_and_fives),
    items=st.just([{"type": "integer"}, {"type": "integer", "coerce": int}]),
    anyof_type=st.just(["list", "string"]),
    oneof_schema=st.just([{"type": "integer"}, {"type": "string"}]),
    keysrules=st.just({"type": "string"}),
    valuesrules=st.just({"coerce": triple}),
    regex=st.just("a"),
    min=NUMBERS,
    default=st.just([1]),
    rename=st.just("c"),
    meta=st.just("note"),
)
OTHER = st.one_of(
    rules(
        default=NUMBERS,
        default_setter=st.sampled_from([count_elements, lambda document: document["c"], lambda _: 1]),
        required=st.booleans(),
        readonly=st.booleans(),
        dependencies=st.sampled_from(["a", ["a"], {"a": [[1], [2, 2]]}, "c"]),
        excludes=st.sampled_from(["a", ["a", "c"]]),
        rename=st.sampled_from(["a", "c"]),
        **SCALAR,
    ),
    st.just({"type": "dict", "keysrules": {"coerce": str}, "valuesrules": {"coerce": triple}}),
)
VALUES = st.one_of(NUMBERS, NUMBERS.map(str), st.none(), st.just("many"))
ELEMENTS = st.lists(
    st.one_of(VALUES, st.dictionaries(st.sampled_from(["x", "y", "w"]), VALUES, max_size=3)), max_size=6
) | st.lists(NUMBERS, max_size=6)
DOCUMENTS = st.fixed_dictionaries(
    {"a": ELEMENTS},
    optional={"b": VALUES | st.dictionaries(NUMBERS, VALUES, max_size=2), "c": VALUES, "unknown": st.just(1)},
)
SCHEMAS = st.fixed_dictionaries({"a": LIST}, optional={"b": OTHER, "c": OTHER})


def task_of(schema: Mapping[str, Any], **more: Any) -> Declaration:
    steps = {
        "setup": lambda a=None, b=None, c=None: [],
        "process": lambda item: item,
        "join": lambda results: None,
        "combine": None,
    }
    return Declaration.of(
        "sameness", module=__name__, schema=schema, steps={k: v for k, v in steps.items() if v}, options={}, **more
    )


def submission(task: Declaration, values: Mapping[str, Any], store: MemoryStore, **more: Any) -> Submission:
    return Submission.of(task, values, store=store, inline_bytes=100, options={}, **more)


def validate_list(task: Declaration, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the document and the errors of an input whose list is given with the rest."""
    store = MemoryStore()
    try:
        parameters = submission(task, values, store).parameters
        return parameters.load(parameters.names(), store), {}
    except InvalidInput as refused:
        return {}, refused.errors


def validate_in_chain(
    task: Declaration, values: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, list[str]], bool]:
    """Return the document, the errors, and whether the errors were known without the list."""
    store = MemoryStore()
    early = True
    try:
        made = submission(task, {k: v for k, v in values.items() if k != "a"}, store, receives="a")
        early = False
        complete = made.complete(values["a"], store=store, inline_bytes=100)
        assert complete.receives is None
        return complete.parameters.load(complete.parameters.names(), store), {}, False
    except InvalidInput as refused:
        return {}, refused.errors, early


def validate_stream(task: Declaration, values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Return the document with the elements that passed, and the errors."""
    store = MemoryStore()
    try:
        made = submission(task, {**values, "a": iter(values["a"])}, store)
        document = made.parameters.load(made.parameters.names(), store)
        return document | {name: list(stream) for name, stream in made.caller_parameters.items()}, {}
    except InvalidInput as refused:
        return {}, refused.errors


@many_examples
@given(SCHEMAS, DOCUMENTS)
def test_list_chain_and_stream_agree(schema: dict[str, Any], values: dict[str, Any]) -> None:
    """A chain gives exactly the document and errors of a list. A stream does, or names the rule that it can't check."""
    try:
        task = task_of(schema)
    except DeclarationError:
        assume(False)
    try:
        document, errors = validate_list(task, values)
    except Unencodable:
        assume(False)
    # A rule that raised has stopped Cerberus before it found all errors.
    raised = "input" in errors
    in_chain, chain_errors, early = validate_in_chain(task, values)
    assert in_chain == document
    if early:
        assert errors
        assert raised or all(errors.get(path) == reasons for path, reasons in chain_errors.items()), (
            "refused early, but not with the whole input"
        )
    else:
        assert chain_errors == errors
    in_stream, stream_errors = validate_stream(task, values)
    if not stream_errors:
        assert not errors
        assert in_stream == document
    elif not any("is a stream" in reason for reasons in stream_errors.values() for reason in reasons):
        for path, reasons in stream_errors.items():
            # Of the elements that are not allowed a stream names the first.
            assert raised or all(
                reason in errors[path] or reason.startswith("unallowed values") for reason in reasons
            ), path


@pytest.mark.parametrize(
    ("schema", "values", "early"),
    [
        ({"a": {}, "b": {"type": "integer"}}, {"a": [], "b": "x"}, ["b"]),
        ({"a": {}, "b": {"required": True}}, {"a": []}, ["b"]),
        ({"a": {}}, {"a": [], "unknown": 1}, ["unknown"]),
        ({"a": {}, "b": {"default_setter": count_elements, "min": 5}}, {"a": []}, []),
        ({"a": {}, "b": {"default_setter": count_elements, "min": 5}}, {"a": [], "b": 1}, []),
        ({"a": {}, "b": {"coerce": triple, "max": 5}}, {"a": [], "b": "4"}, ["b"]),
        ({"a": {"excludes": "b", "required": True}, "b": {"required": True}}, {"a": []}, []),
        ({"a": {}, "b": {"rename": "c"}, "c": {"required": True, "type": "string"}}, {"a": [], "b": 1}, []),
    ],
)
def test_a_chain_refuses_certain_errors_early(schema: dict[str, Any], values: dict[str, Any], early: list[str]) -> None:
    """A chain's signature refuses exactly the errors that no value of the step before could remove."""
    _, errors, was_early = validate_in_chain(task_of(schema), values)
    assert was_early is bool(early)
    if early:
        assert list(errors) == early


def test_a_chain_is_normalised_once() -> None:
    """A chain's signature holds the values as they were given, so that a coercer is applied once."""
    schema = {"a": {"type": "list"}, "b": {"coerce": triple}, "n": {"default_setter": count_elements}}
    document, errors, _ = validate_in_chain(task_of(schema), {"a": [1, 2], "b": "2"})
    assert (document, errors) == ({"a": [1, 2], "b": 6, "n": 2}, {})


def test_a_value_that_only_coercion_makes_encodable_is_refused_in_a_chain() -> None:
    """A value that only `coerce` makes encodable is refused in a chain's signature. The error has the remedy."""
    task = task_of({"a": {}, "b": {"coerce": repr}})
    assert validate_list(task, {"a": 1, "b": [len]})[0]["b"] == "[<built-in function len>]"
    with pytest.raises(Unencodable, match="pass what `coerce` makes of it") as caught:
        submission(task, {"b": [len]}, MemoryStore(), receives="a")
    assert caught.value.path == "b[0]"


def test_nothing_is_stored_if_anything_is_refused() -> None:
    """A refusal at the launch leaves the store empty, also in a chain."""
    store = MemoryStore()
    task = task_of({"a": {}, "b": {"type": "string"}, "c": {"type": "integer"}})
    for values in ({"a": [], "b": "x" * 1000, "c": "x"}, {"b": "x" * 1000, "c": "x"}):
        with pytest.raises(InvalidInput):
            submission(task, values, store, receives=None if "a" in values else "a")
    assert list(store.list("")) == []


def test_a_stream_has_the_elements_in_order_across_batches() -> None:
    """Thousands of elements pass in order, and each is normalised once."""

    def elements() -> Iterator[str]:
        yield from map(str, range(3000))

    task = task_of({"a": {"type": "list", "schema": {"coerce": triple}}})
    made = submission(task, {"a": elements()}, MemoryStore())
    assert list(made.caller_parameters["a"]) == [number * 3 for number in range(3000)]
