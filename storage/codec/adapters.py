"""Ready-made adapters for the classes that users write: dataclasses, attrs, named tuples, enums, Pydantic models.

A value is restored by its state and not by its constructor: that may convert, check or fetch something, which has
been done once. So what comes back is equal, and none of the class's code runs on bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from ..errors import Unregistrable
from .extension_types import extension_type_of
from .registry import TYPES, Adapter, AdapterError, TypeRegistry, origin_of

T = TypeVar("T", bound=type[Any])

_PLAIN: Final = frozenset({type(None), bool, int, float, str, bytes, bytearray, memoryview, list, dict})
# Classes whose values hold more than their attributes.
_BUILT_IN: Final = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset, BaseException, type)
# Python's own marks on an instance, which are no state.
_MARKS: Final = frozenset({"__orig_class__"})
# What a model holds besides its fields; never the name of one.
_REST: Final = "+"


def register_type(
    cls: T,
    *,
    name: str | None = None,
    encode: Callable[[Any], Any] | None = None,
    decode: Callable[[Any], Any] | None = None,
    registry: TypeRegistry = TYPES,
) -> T:
    """Let values of a class travel, in parameters, items, results and values, at any depth.

    Dataclasses, attrs classes, named tuples, enums and Pydantic models need nothing else; a class of another kind
    needs `encode` and `decode`. The values come back equal and of the same class. Both sides must register the class,
    under the same name: callers and workers do if this stands where the class is defined. To register a class twice
    in the same way is harmless. Can be used as a decorator.

    Args:
        cls: The class. Subclasses of it are other classes.
        name: What the bytes call it; module and class name if not given.
        encode: Makes something that travels of a value, such as a dict of its attributes.
        decode: Makes the value of what `encode` returned.
        registry: Where to register it.

    Returns:
        The class.

    Raises:
        Unregistrable: It is no class, it is of no kind that travels without `encode` and `decode`, it travels
            anyway, or another class has the name.
    """
    if not isinstance(cls, type):
        raise Unregistrable(f"{cls!r:.80} is no class", remedy="Name the class itself, as in types = (Point,).")
    if (encode is None) != (decode is None):
        raise Unregistrable(
            f"{origin_of(cls)} has only one of encode and decode", remedy="Give both, or neither for a dataclass."
        )
    known = registry.of(cls)
    if known is not None and encode is None and name in (None, known.name):
        return cls
    if cls.__module__.partition(".")[0] == "msgpack":
        raise Unregistrable(f"{origin_of(cls)} is taken for something else by the packer, which asks nobody")
    if cls in _PLAIN or (known is None and extension_type_of(cls) is not None):
        raise Unregistrable(f"{origin_of(cls)} travels anyway", remedy="Leave it out.")
    if name is not None and (not isinstance(name, str) or not name):
        raise Unregistrable(f"the name of {origin_of(cls)} must be a string, not {name!r:.80}", remedy="Name it so.")
    if encode is not None and decode is not None:
        found: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = (encode, decode)
    else:
        found = _ready_made(cls)
    if found is None:
        raise Unregistrable(
            f"{origin_of(cls)} is no dataclass, attrs class, named tuple, enum or Pydantic model, so how its values "
            "travel must be said",
            remedy=f"register_type({cls.__name__}, encode=…, decode=…) says it.",
        )
    registry.add(Adapter(name or (known.name if known else origin_of(cls)), cls, *found))
    return cls


def is_registrable(cls: type[Any]) -> bool:
    """Return whether `register_type` takes the class without `encode` and `decode`."""
    try:
        return cls.__module__.partition(".")[0] != "msgpack" and _ready_made(cls) is not None
    except Unregistrable:
        return False


def travels(cls: type[Any]) -> bool:
    """Return whether values of exactly this class travel, if what they hold does."""
    return cls in _PLAIN or extension_type_of(cls) is not None


def _ready_made(cls: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    if issubclass(cls, enum.Enum):
        return _enum(cls)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return _named_tuple(cls)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, getattr(pydantic, "BaseModel", ())):
        return _model(cls, pydantic.BaseModel)
    if dataclasses.is_dataclass(cls):
        return _by_attributes(cls, [field.name for field in dataclasses.fields(cls)])
    if "__attrs_attrs__" in cls.__dict__:
        return _by_attributes(cls, [attribute.name for attribute in cls.__attrs_attrs__])
    return None


def _enum(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if issubclass(cls, enum.Flag):
        # A combination of flags has no name of its own.
        return lambda flag: [flag.value], lambda plain: cls(plain[0])

    def encode(member: Any) -> list[str]:
        if cls.__members__.get(member.name) is not member:
            raise AdapterError(f"{member!r:.80} is no member of its class")
        return [member.name]

    def decode(plain: Any) -> Any:
        (name,) = plain
        member = cls.__members__.get(name)
        if member is None:
            raise AdapterError(f"the class has no member {name!r:.80} here; it has {', '.join(cls.__members__)}")
        return member

    return encode, decode


def _named_tuple(cls: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode(value: Any) -> dict[str, Any]:
        _check_extras(getattr(value, "__dict__", {}), cls, ())
        if tuple.__len__(value) != len(cls._fields):
            raise AdapterError(f"it has {tuple.__len__(value)} members for {len(cls._fields)} fields")
        return dict(zip(cls._fields, tuple.__iter__(value), strict=True))

    def decode(plain: Any) -> Any:
        _check_fields(plain, cls._fields)
        return tuple.__new__(cls, [plain[name] for name in cls._fields])

    return encode, decode


def _by_attributes(cls: type[Any], names: list[str]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    foreign = next((base for base in _BUILT_IN if issubclass(cls, base)), None)
    if foreign is not None:
        raise Unregistrable(
            f"{origin_of(cls)} is a {foreign.__name__} besides what its fields hold",
            remedy=f"register_type({cls.__name__}, encode=…, decode=…) says how all of it travels.",
        )

    def encode(value: Any) -> dict[str, Any]:
        _check_extras(getattr(value, "__dict__", {}), cls, names)
        try:
            return {name: getattr(value, name) for name in names}
        except AttributeError as error:
            raise AdapterError(f"a field of it has no value: {error}") from error

    def decode(plain: Any) -> Any:
        _check_fields(plain, names)
        value = object.__new__(cls)
        for name in names:
            object.__setattr__(value, name, plain[name])
        return value

    return encode, decode


def _model(cls: Any, base: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if not hasattr(cls, "model_fields"):
        raise Unregistrable(
            f"{origin_of(cls)} is a model of Pydantic 1, of which only 2 is known here",
            remedy=f"register_type({cls.__name__}, encode=…, decode=…) says how it travels.",
        )
    names = list(cls.model_fields)

    def encode(model: Any) -> dict[str, Any]:
        state = base.__getstate__(model)
        values = state["__dict__"]
        _check_extras(values, cls, names)
        fields_set = sorted(state["__pydantic_fields_set__"])
        return {
            # One that was made without validation may lack some.
            **{name: values[name] for name in names if name in values},
            _REST: [fields_set, state["__pydantic_extra__"], state["__pydantic_private__"]],
        }

    def decode(plain: Any) -> Any:
        fields_set, extra, private = plain.pop(_REST)
        _check_fields(plain, names)
        model = cls.__new__(cls)
        base.__setstate__(
            model,
            {
                "__dict__": plain,
                "__pydantic_extra__": extra,
                "__pydantic_fields_set__": set(fields_set),
                "__pydantic_private__": private,
            },
        )
        return model

    return encode, decode


def _check_extras(attributes: Mapping[str, Any], cls: type[Any], names: Iterable[str]) -> None:
    """Refuse a value that holds more than its fields; what a property caches is made again when it is wanted."""
    for name in attributes.keys() - set(names) - _MARKS:
        if not isinstance(inspect.getattr_static(cls, name, None), functools.cached_property):
            raise AdapterError(f"its attribute {name!r} is no field of its class, and would be lost")


def _check_fields(plain: Any, names: Iterable[str]) -> None:
    if plain.keys() != set(names):
        raise AdapterError(
            f"it was written with the fields {', '.join(plain) or '(none)'}, "
            f"and its class here has {', '.join(names) or '(none)'}"
        )
