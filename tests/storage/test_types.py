"""Values of registered classes are restored exactly, by the name of a class that the reader has registered."""

from __future__ import annotations

import enum
import functools
import subprocess
import sys
from array import array
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList
from collections.abc import Callable
from dataclasses import dataclass, field, fields, make_dataclass
from datetime import datetime, time
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar

import attrs
import msgpack
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import ChangedType, SequenceEncoder, Unencodable, UnknownType, Unregistrable, decode, encode, register_type
from storage.codec.registry import TYPES, Adapter

from .test_codec import VALUES, same

law = settings(max_examples=60)
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "r"
    CRIMSON = "r"  # noqa: PIE796 - an alias
    BLUE = object()


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    YES = "yes"


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    one: Any
    two: Any = None


@dataclass
class Point:
    x: Any
    y: Any = 0


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any


@dataclass
class Named(Point):
    made: int = field(init=False, default=7)
    name: str = "n"

    def __post_init__(self) -> None:
        # Must not run twice.
        self.name += "!"

    @functools.cached_property
    def length(self) -> int:
        return len(self.name)


@dataclass
class Box(Generic[T]):
    content: T


@attrs.frozen
class Part:
    _hidden: Any
    size: Any = 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow", arbitrary_types_allowed=True)

    inner: Any
    size: int = pydantic.Field(default=3, alias="Size")
    _secret: Any = pydantic.PrivateAttr(default=None)


class Plain:
    def __init__(self, text: str) -> None:
        self.text = text

    def __eq__(self, other: object) -> bool:
        return type(other) is Plain and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


for cls in (Colour, Level, Word, Right, Pair, Point, Frozen, Named, Box, Part, Model):
    register_type(cls)
register_type(Plain, name="a name", encode=lambda plain: plain.text, decode=Plain)

MEMBERS = st.sampled_from(
    [Colour.RED, Colour.BLUE, Level.LOW, Word.YES, Right(0), Right.READ, Right.READ | Right.WRITE]
)
PATHS = st.sampled_from([Path("/a/b"), Path("c"), PurePosixPath("/\udcff"), PureWindowsPath("c:\\x")])


def holders(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(Point, inner, inner),
        st.builds(Frozen, inner),
        st.builds(Named, inner),
        st.builds(Pair, inner, inner),
        st.builds(Part, inner),
        st.builds(Model, inner=inner, other=inner),
        st.builds(Plain, st.text()),
        st.dictionaries(st.text(), inner, max_size=3).map(UserDict),
        st.dictionaries(st.text(), inner, max_size=3).map(MappingProxyType),
        st.lists(inner, max_size=3).map(UserList),
        st.builds(lambda one, two: ChainMap({"a": one}, {"b": two}), inner, inner),
        st.lists(inner, max_size=3),
        st.dictionaries(MEMBERS, inner, max_size=2),
    )


OBJECTS = st.recursive(st.one_of(VALUES, MEMBERS, PATHS), holders, max_leaves=6)


def state(value: Any) -> Any:
    """Return an object as plain values that show all types and can be compared."""
    if isinstance(value, enum.Enum):
        return ("enum", type(value), str(value), value.value)
    if isinstance(value, pydantic.BaseModel):
        kept = value.__getstate__()
        return (type(value), [state(kept[name]) for name in sorted(kept)])
    if isinstance(value, Point):
        return (type(value), [state(getattr(value, each.name)) for each in fields(value)])
    if isinstance(value, Box):
        return (Box, state(value.content))
    if isinstance(value, Frozen):
        return (Frozen, state(value.a))
    if isinstance(value, Part):
        return (Part, state(value._hidden), state(value.size))
    if isinstance(value, UserDict | UserList):
        return (type(value), state(value.data))
    if isinstance(value, ChainMap):
        return (ChainMap, state(value.maps))
    if isinstance(value, MappingProxyType):
        return (MappingProxyType, state(value.copy()))
    if type(value) is dict:
        return (dict, [(state(key), state(member)) for key, member in value.items()])
    if isinstance(value, Pair) or type(value) in (list, tuple):
        return (type(value), [state(member) for member in value])
    return value


def alike(one: Any, other: Any) -> bool:
    return same(state(one), state(other))


@law
@given(OBJECTS)
def test_every_object_is_restored_exactly(value: Any) -> None:
    """decode(encode(x)) is x in value and class at every depth, and equal values have equal bytes."""
    encoded = encode(value)
    assert alike(decode(encoded), value)
    assert encode(decode(encoded)) == encoded
    encoder = SequenceEncoder()
    encoder.add({"item": value})
    assert alike(decode(encoder.finish()), [{"item": value}])


@pytest.mark.parametrize(
    "value",
    [
        Level.LOW,
        Word.YES,
        Right.READ | Right.WRITE,
        Pair(1, [Pair(2)]),
        {Level.LOW: 1, 1.5: Word.YES, Pair(1, 2): {Frozen((1,))}},
        Point("\ud800", ["\ud801" * 1000]),
        [Point(number, f"{number}" * 50) for number in range(3000)] + [Point("\ud800", 0)],
        UserDict(a="\ud800"),
        UserList([b"x", "\ud800"]),
        MappingProxyType(OrderedDict(b=1, a=Counter("aab"))),
        ChainMap({"a": "\ud800"}, OrderedDict(b=2)),
        Box[int](3),
        array("d", [1.5, -0.0]),
        array("H", [1, 2**16 - 1]),
        Model(inner=Model(inner=1), Size=9, more=(1, {2})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_edge_values_are_restored_exactly(value: Any) -> None:
    """Values that resemble plainer ones keep their class, on the fast path and on the slow one."""
    for wrapped in (value, [value, 1], {"a": (value, "\ud800")}):
        assert alike(decode(encode(wrapped)), wrapped)


def test_a_value_is_restored_by_its_state() -> None:
    """No constructor, no __post_init__ and no validator runs on a decoded object."""
    named = Named(1)
    named.made = 8
    assert named.length == 2
    found = decode(encode(named))
    assert (found, found.name, found.made) == (named, "n!", 8)
    assert vars(found).keys() == {"x", "y", "made", "name"}
    model = Model.model_construct(inner=1, size="no number")
    model._secret = {1, 2}
    found = decode(encode(model))
    assert found.size == "no number"
    assert found._secret == {1, 2}
    assert found.model_fields_set == {"inner", "size"}


@pytest.mark.parametrize(
    "wrap", [Point, Pair, lambda inner: Model.model_construct(inner=inner), lambda x: UserList([x])]
)
def test_the_guaranteed_depth_is_restored(wrap: Callable[[Any], Any]) -> None:
    """98 levels of objects around a lone surrogate are restored exactly. Many more are refused, and so is a cycle."""
    value: Any = "\ud800"
    for _ in range(98):
        value = wrap(value)
    assert encode(decode(encode(value))) == encode(value)
    for _ in range(300):
        value = wrap(value)
    with pytest.raises(Unencodable, match="nested deeper"):
        encode(value)


def test_a_cycle_of_objects_is_refused() -> None:
    """An object that contains itself is refused with the path to it."""
    point = Point(1)
    point.y = [point]
    with pytest.raises(Unencodable, match="contains itself") as caught:
        encode(point)
    assert caught.value.path == "value.y[0]"


class Visit(pydantic.BaseModel):
    at: datetime
    when: time
    page: pydantic.HttpUrl


register_type(Visit)
register_type(pydantic.HttpUrl, encode=str, decode=pydantic.HttpUrl)


@pytest.mark.parametrize("zone", ["Z", "+05:30", "-00:01"])
def test_types_that_pydantic_parses_are_restored(zone: str) -> None:
    """Pydantic's time zones need no registration. A type like HttpUrl needs one."""
    visit = Visit.model_validate(
        {"at": f"2024-01-01T00:00:00{zone}", "when": f"12:00{zone}", "page": "https://example.org/ä"}
    )
    found = decode(encode(visit))
    assert found == visit
    assert (type(found.at.tzinfo), repr(found.at)) == (type(visit.at.tzinfo), repr(visit.at))
    assert repr(found.when) == repr(visit.when)
    assert type(found.page) is pydantic.HttpUrl


class UnregisteredEnum(enum.IntEnum):
    RED = 1


@dataclass
class Unregistered:
    number: int


class UnregisteredPair(NamedTuple):
    one: int


class UnregisteredModel(pydantic.BaseModel):
    number: int


@attrs.define
class UnregisteredPart:
    number: int


@pytest.mark.parametrize(
    "foreign",
    [UnregisteredEnum.RED, Unregistered(1), UnregisteredPair(1), UnregisteredModel(number=1), UnregisteredPart(1)],
    ids=lambda value: type(value).__name__,
)
def test_an_unregistered_class_is_refused_with_the_remedy(foreign: object) -> None:
    """If only the registration is missing, the error names the class and how to register it."""
    name = type(foreign).__name__
    with pytest.raises(Unencodable, match=rf"types = \({name},\) on the task, or fanout.register_type\({name}\)") as no:
        encode({"a": [Point(foreign)]}, path="items[3]")
    assert no.value.path == "items[3].a[0].x"


class Sub(Point):
    pass


class SubDict(dict[str, int]):
    pass


@pytest.mark.parametrize("foreign", [Sub(1), SubDict(a=1), UserDict, type("U", (UserDict,), {})(), Plain])
def test_a_subclass_is_another_class(foreign: object) -> None:
    """A value of a subclass is never written as its base."""
    with pytest.raises(Unencodable):
        encode([foreign])


def test_state_that_would_be_lost_is_refused() -> None:
    """Attributes beyond the fields, a field without a value, and an unnamed member are refused."""
    marked = Point(1)
    marked.note = "lost"  # type: ignore[attr-defined]
    with pytest.raises(Unencodable, match="its attribute 'note' is no field"):
        encode(marked)
    empty = object.__new__(Point)
    with pytest.raises(Unencodable, match="a field of it has no value"):
        encode(empty)
    wrapped = UserDict()
    wrapped.data = OrderedDict()
    with pytest.raises(Unencodable, match="would come back around a dict"):
        encode(wrapped)
    forged = object.__new__(Colour)
    forged._name_, forged._value_ = "FORGED", "r"
    with pytest.raises(Unencodable, match="is no member"):
        encode([forged])


def bytes_of(name: str, contents: Any) -> bytes:
    """Return the bytes of a value that another process wrote as a class called `name`."""
    from storage.codec.envelope import new_stream, seal_stream

    stream = new_stream()
    stream.write(msgpack.packb(msgpack.ExtType(28, msgpack.packb([contents, name]))))
    return seal_stream(stream)


def test_an_unknown_class_is_named_and_not_imported() -> None:
    """Bytes with the name of an unregistered class are refused with key, name and remedy, and no module is imported."""
    unlikely = "wsgiref"
    sys.modules.pop("wsgiref.util", None)
    with pytest.raises(UnknownType, match=r"is not registered here.*`types` of the task") as caught:
        decode(bytes_of(f"{unlikely}.util.FileWrapper", {}), key="in/0007")
    assert (caught.value.key, caught.value.type_name) == ("in/0007", "wsgiref.util.FileWrapper")
    assert "wsgiref.util" not in sys.modules
    with pytest.raises(UnknownType, match="move it to a module that both sides import"):
        decode(bytes_of("__main__.Point", {}))


@pytest.mark.parametrize(
    ("name", "contents", "reason"),
    [
        (f"{__name__}.Point", {"x": 1}, "written with the fields x, and its class here has x, y"),
        (f"{__name__}.Pair", {"one": 1, "three": 3}, "written with the fields one, three"),
        (f"{__name__}.Model", {"inner": 1, "+": [[], None, None]}, "has inner, size"),
        (f"{__name__}.Colour", ["GREEN"], "no member 'GREEN' here; it has RED, CRIMSON, BLUE"),
        (f"{__name__}.Point", 3, "its decode raised"),
        ("a name", [1], None),
    ],
)
def test_a_changed_class_raises_changed_type(name: str, contents: Any, reason: str | None) -> None:
    """Contents for which a class no longer has fields raise ChangedType, not CorruptObject."""
    if reason is None:
        assert decode(bytes_of(name, contents)) == Plain([1])  # type: ignore[arg-type]
        return
    with pytest.raises(ChangedType, match=reason) as caught:
        decode(bytes_of(name, contents), key="k")
    assert caught.value.type_name == name
    assert "same code" in str(caught.value)


def test_only_the_same_class_may_be_registered_again() -> None:
    """The same class, or the same one after a reload, may be registered again. Another class of that name may not."""
    assert register_type(Point) is Point
    again = make_dataclass("Point", ["x", "y"])
    again.__module__, again.__qualname__ = Point.__module__, Point.__qualname__
    before = TYPES.named(f"{__name__}.Point")
    assert before is not None
    try:
        register_type(again)
        assert type(decode(encode(Point(1)))) is again
        assert type(decode(encode(again(1, 2)))) is again
    finally:
        TYPES.add(before)
    with pytest.raises(Unregistrable, match="two classes would travel as 'a name'"):
        register_type(Unregistered, name="a name")
    with pytest.raises(Unregistrable, match=r"travels as .*Point' already"):
        register_type(Point, name="other")


@pytest.mark.parametrize(
    ("cls", "more", "reason"),
    [
        (Point(1), {}, "is no class"),
        (Thing := type("Thing", (), {}), {}, "no dataclass, attrs class"),
        (Thing, {"encode": vars}, "only one of encode and decode"),
        (dict, {}, "travels anyway"),
        (Path().__class__, {}, "travels anyway"),
        (Unregistered, {"name": ""}, "must be a string"),
        (dataclass(type("Odd", (dict,), {})), {}, "is a dict besides"),
    ],
)
def test_a_class_that_cannot_be_registered_is_refused(cls: Any, more: dict[str, Any], reason: str) -> None:
    """Registering raises, and the error names the flaw of the class."""
    with pytest.raises(Unregistrable, match=reason):
        register_type(cls, **more)


def test_an_adapter_that_raises_names_the_path() -> None:
    """A value whose encode fails is refused, with the path and the reason. The error of a failing decode names it."""

    class Moody:
        pass

    def fail(_: object) -> Any:
        raise AttributeError("not today")

    register_type(Moody, name="moody", encode=fail, decode=fail)
    with pytest.raises(Unencodable, match="encode raised AttributeError: not today") as caught:
        encode([1, {"a": Moody()}])
    assert caught.value.path == "value[1].a"
    with pytest.raises(ChangedType, match="decode raised AttributeError: not today"):
        decode(bytes_of("moody", None))


def test_arrays_inside_objects_are_not_copied() -> None:
    """An array in a dataclass is an out-of-band buffer, like any other array."""
    numpy = pytest.importorskip("numpy")
    data = encode(Point(numpy.arange(1000)))
    found = decode(data)
    assert found.x.base is not None
    assert (found.x == numpy.arange(1000)).all()


def test_a_reader_without_the_class_raises_a_typed_error(tmp_path: Path) -> None:
    """A process that has not registered the class raises the typed error. One that has reads the value."""
    (tmp_path / "value").write_bytes(encode(Pair(1, Level.LOW)))
    program = (
        "import sys; from pathlib import Path; import storage\n"
        f"if len(sys.argv) > 2: import {__name__}\n"
        "try: print(storage.decode(Path(sys.argv[1]).read_bytes()))\n"
        "except storage.UnknownType as error: print(error.type_name)\n"
    )

    def run(*more: str) -> str:
        arguments = [sys.executable, "-c", program, str(tmp_path / "value"), *more]
        return subprocess.run(
            arguments, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
        ).stdout.strip()

    assert run() in {f"{__name__}.Pair", f"{__name__}.Level"}
    assert run("known") == "Pair(one=1, two=<Level.LOW: 1>)"


def test_adapters_compare_by_identity() -> None:
    """Two adapters with equal fields are not equal."""
    one, two = (Adapter("n", Point, str, str) for _ in range(2))
    assert one != two
