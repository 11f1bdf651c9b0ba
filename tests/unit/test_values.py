"""Values that a user may pass: containers are values, iterators stream, and named classes are encoded."""

from __future__ import annotations

import array
import enum
import gzip
import io
import os
import tempfile
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import cerberus
import numpy as np
import pydantic
import pytest

import fanout
from fanout import DeclarationError, ForkJoinTask, InvalidInput, JobFailed, fork_join
from fanout.engines.submission import Submission
from storage import MemoryStore, Unencodable
from storage.codec.registry import TYPES


class Echo(ForkJoinTask):
    """Returns its input after all steps, and a stream as a list."""

    input_schema = {"given": {}}

    def setup(given):
        streamed = isinstance(given, Iterator)
        return [{"item": (streamed, list(given) if streamed else given)}]

    def process(item):
        return item

    def join(results):
        return results[0]


SETTINGS = {"a": 1}


@pytest.mark.parametrize(
    "value",
    [
        UserDict(a=1),
        MappingProxyType({"a": 1}),
        ChainMap({"a": 1}, {"b": 2}),
        UserList([1, 2]),
        range(5),
        array.array("d", [1.5]),
        deque([1], 3),
        OrderedDict(a=1),
        Counter("aab"),
        np.arange(3),
        Path("/a/b"),
        {1, 2},
        "text",
        b"bytes",
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_container_is_a_value(value: Any) -> None:
    """An iterable that is no iterator arrives in setup with its values and its type."""
    streamed, given = Echo.run({"given": value})
    assert not streamed
    assert type(given) is type(value)
    assert list(given) == list(value) if not isinstance(value, Path) else given == value


@pytest.mark.parametrize(
    ("view", "value"),
    [
        (SETTINGS.keys(), ["a"]),
        (SETTINGS.values(), [1]),
        (SETTINGS.items(), [("a", 1)]),
        (UserDict(a=1).items(), [("a", 1)]),
        (memoryview(b"abc"), b"abc"),
        (bytearray(b"abc"), b"abc"),
        (memoryview(array.array("B", [1, 2, 3]))[::2], b"\x01\x03"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_view_arrives_as_a_list_or_bytes(view: Any, value: Any) -> None:
    """A view arrives in setup as a list of its elements, or as bytes."""
    assert Echo.run({"given": view}) == (False, value)


def text_file(*, suffix: str = "") -> Any:
    file = tempfile.NamedTemporaryFile("w+", suffix=suffix)  # noqa: SIM115 - closed by the test
    file.write("a\nb\n")
    file.seek(0)
    return file


def gzip_file() -> Any:
    return gzip.open(io.BytesIO(gzip.compress(b"a\nb\n")))


@pytest.mark.parametrize(
    ("make", "elements"),
    [
        (lambda: iter([1, 2]), [1, 2]),
        (lambda: (number for number in (1, 2)), [1, 2]),
        (lambda: map(str, [1, 2]), ["1", "2"]),
        (lambda: reversed([1, 2]), [2, 1]),
        (lambda: iter(range(2)), [0, 1]),
        (lambda: iter({"a": 1}.items()), [("a", 1)]),
        (lambda: io.StringIO("a\nb\n"), ["a\n", "b\n"]),
        (lambda: io.BytesIO(b"a\nb\n"), [b"a\n", b"b\n"]),
        (text_file, ["a\n", "b\n"]),
        (gzip_file, [b"a\n", b"b\n"]),
    ],
)
def test_an_iterator_or_an_open_file_streams(make: Any, elements: list[Any]) -> None:
    """Setup reads iterators, generators and open files of any kind, once."""
    source = make()
    assert Echo.run({"given": source}) == (True, elements)
    if hasattr(source, "close"):
        source.close()


class Dataset:
    """A lazy sequence, as data loaders have them: with a length, and without `__iter__`."""

    def __getitem__(self, index: int) -> int:
        if index > 2:
            raise IndexError
        return index

    def __len__(self) -> int:
        return 3


class Query:
    """A lazy collection that can be iterated over several times."""

    def __iter__(self) -> Iterator[int]:
        return iter([0, 1, 2])


class Pair(NamedTuple):
    one: Any
    two: Any


class Model(pydantic.BaseModel):
    size: int


class Other(NamedTuple):
    one: Any


class OtherModel(pydantic.BaseModel):
    size: int


class SubDict(dict[str, int]):
    pass


@pytest.mark.parametrize(
    ("value", "remedy"),
    [
        (Dataset(), r"Pass list\(x\), or iter\(x\) to stream its elements"),
        (Query(), r"Pass list\(x\), or iter\(x\) to stream its elements"),
        (SubDict(a=1), r"Pass dict\(x\)"),
        (type("Text", (str,), {})("x"), r"Pass str\(x\)"),
        (type("Raw", (bytes,), {})(b"x"), r"Pass bytes\(x\)"),
        (UserString("x"), r"Pass str\(x\)"),
        (os.environ, r"Pass dict\(x\)"),
        (Other(1), r"Pass tuple\(x\), .*register its class: types = \(Other,\) on the task"),
        (OtherModel(size=1), r"register its class: types = \(OtherModel,\) on the task"),
        (np.ma.array([1], mask=[0]), r"Pass list\(x\), or iter\(x\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_container_that_cannot_be_encoded_is_refused(value: Any, remedy: str) -> None:
    """The error names the field, the type and the value to pass instead."""
    with pytest.raises(Unencodable, match=rf"^given is a .*{type(value).__name__}, which cannot be stored.*{remedy}"):
        Echo.run({"given": value})


@pytest.mark.parametrize("value", [Dataset(), Query()])
def test_the_remedy_of_the_error_works(value: Any) -> None:
    """`iter(x)` streams the container, and `list(x)` is a value."""
    assert Echo.run({"given": iter(value)}) == (True, [0, 1, 2])
    assert Echo.run({"given": list(value)}) == (False, [0, 1, 2])


def test_a_value_that_stays_in_the_caller_is_not_encoded() -> None:
    """A value that only a setup in this process takes is passed unchanged, or as `coerce` changes it."""
    dataset = Dataset()
    submission = Submission.of(
        Echo.declaration, {"given": dataset}, store=MemoryStore(), inline_bytes=10, options={}, setup_in_caller=True
    )
    assert submission.caller_parameters == {"given": dataset}

    class Coercing(Echo):
        input_schema = {"given": {"coerce": list}}

    assert Coercing.run({"given": dataset}) == (False, [0, 1, 2])


def test_a_received_container_is_a_value() -> None:
    """A view or container that a chain passes arrives as one that a caller passes."""
    store = MemoryStore()
    submission = Submission.of(Echo.declaration, {}, store=store, inline_bytes=10, options={}, receives="given")
    done = submission.complete(SETTINGS.items(), store=store, inline_bytes=10)
    assert done.parameters.load(["given"], store) == {"given": [("a", 1)]}


@pytest.mark.parametrize("make", [lambda: range(3), lambda: array.array("q", [0, 1, 2]), lambda: iter([0, 1, 2])])
def test_the_elements_of_any_sequence_are_checked(make: Any) -> None:
    """The rules for a list's elements apply to a range, an array and an iterator alike."""

    class Doubled(Echo):
        input_schema = {"given": {"type": "list", "schema": {"type": "integer", "coerce": lambda n: n * 2}}}

    assert list(Doubled.run({"given": make()})[1]) == [0, 2, 4]


# Classes


@dataclass
class Point:
    x: Any
    y: Any = 0


class Colour(enum.StrEnum):
    RED = "red"


class Registered:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Registered) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


fanout.register_type(Registered, encode=vars, decode=lambda state: Registered(**state))


class Shop(ForkJoinTask):
    """Names its classes. Process and join return values of these classes."""

    types = (Point, Colour, Pair, Model)
    input_schema = {"points": {"type": "list"}, "kept": {}, "colour": {"type": "string"}}
    chunk_items = 1

    def setup(points, colour):
        return [{"point": point, "seen": colour} for point in points]

    def process(point, seen, kept):
        return Pair(Point(point.x * 2, seen), kept)

    def join(results):
        return Point(list(results), Model(size=len(results)))


@pytest.mark.parametrize("executor", ["inline", "threads", "processes"])
def test_values_of_named_classes_are_restored(executor: Any) -> None:
    """Values of named classes are restored in parameters, items, results and the value, also in other processes."""
    given = {"points": [Point(1), Point(2)], "kept": Registered("k"), "colour": Colour.RED}
    value = Shop.run(given, executor=executor, workers=1)
    pairs = [Pair(Point(2, Colour.RED), Registered("k")), Pair(Point(4, Colour.RED), Registered("k"))]
    assert value == Point(pairs, Model(size=2))
    assert {type(each) for each in value.x} == {Pair}
    assert type(value.x[0].one.y) is Colour


def test_a_result_of_an_unregistered_class_fails_its_chunk() -> None:
    """The job's error names the class and the way to register it."""

    @dataclass
    class Unknown:
        number: int

    task = fork_join(
        "values.unknown",
        setup=lambda: [{"item": 1}],
        process=lambda item: [Unknown(item)],
        join=lambda results: None,
        input_schema={},
    )
    with pytest.raises(JobFailed, match=r"Unencodable.*types = \(Unknown,\) on the task"):
        task.run({})


def test_fork_join_takes_types_and_a_validator() -> None:
    """`fork_join` takes `types` and `validator`, as a class does."""

    @dataclass
    class Local:
        number: int

    class Even(cerberus.Validator):
        types_mapping: ClassVar[dict[str, Any]] = {
            **cerberus.Validator.types_mapping,
            "local": cerberus.TypeDefinition("local", (Local,), ()),
        }

        def _check_with_even(self, field: str, value: Local) -> None:
            if value.number % 2:
                self._error(field, "must be even")

    task = fork_join(
        "values.loose",
        setup=lambda local: [{"item": local}],
        process=lambda item: item,
        join=lambda results: results[0],
        input_schema={"local": {"type": "local", "check_with": "even"}},
        types=(Local,),
        validator=Even,
    )
    assert task.run({"local": Local(2)}) == Local(2)
    with pytest.raises(InvalidInput, match="local: must be even"):
        task.run({"local": Local(1)})


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"types": Point}, "types must name classes"),
        ({"types": "Point"}, "types: 'P' is no class"),
        ({"types": (Query,)}, "types: .*Query is no dataclass"),
        ({"types": 3}, "types must name classes"),
        ({"validator": dict}, "validator must be a subclass of cerberus.Validator"),
    ],
)
def test_a_wrong_class_is_reported_where_the_task_is_declared(attributes: dict[str, Any], reason: str) -> None:
    """A class that can't be registered, or is no validator, is a DeclarationError that names the task."""
    with pytest.raises(DeclarationError, match=f"Wrong: {reason}"):
        type("Wrong", (Echo,), {"__module__": __name__, **attributes})


def test_a_wrong_registration_is_a_declaration_error() -> None:
    """`fanout.register_type` raises a DeclarationError, and returns the class."""
    with pytest.raises(DeclarationError, match="encode=…, decode=…"):
        fanout.register_type(Query)
    assert fanout.register_type(Point) is Point


@pytest.mark.parametrize("step", ["setup", "process", "join"])
def test_a_worker_that_lacks_a_class_fails_the_job(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step that reads the value fails the job with the missing class and the remedy, without endless attempts."""

    @dataclass
    class Lost:
        number: int

    name = f"{__name__}.{Lost.__qualname__}"

    def forget() -> None:
        monkeypatch.delitem(TYPES._by_name, name)

    def setup(lost: Any) -> Any:
        if step == "process":
            forget()
        return [{"item": lost}]

    def process(item: Any) -> Any:
        if step == "join":
            forget()
        return item

    task = fork_join(
        f"values.lost.{step}",
        setup=setup,
        process=process,
        join=lambda results: list(results),
        input_schema={"lost": {}},
        types=(Lost,),
    )
    if step == "setup":
        named = TYPES.named
        monkeypatch.setattr(TYPES, "named", lambda requested: None if requested == name else named(requested))
    with pytest.raises(JobFailed, match=r"UnknownType: .*test_values.*Lost.*Name the class in `types`") as caught:
        task.run({"lost": Lost(1)})
    assert caught.value.step == step
