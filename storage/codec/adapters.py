"""Ready-made adapters for the classes that users write: dataclasses, attrs, named tuples, enums, Pydantic models.

A value is restored from its state and not by its constructor, which may convert, check or fetch something a second
time. So the restored value is equal, and none of the class's code runs on bytes.
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
# Attributes that Python itself sets on an instance, and that are no state.
_IGNORED_ATTRIBUTES: Final = frozenset({"__orig_class__"})
# Key of the rest of a model's state, beside its fields; never the name of a field.
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

    Dataclasses, attrs classes, named tuples, enums and Pydantic models need nothing else. Any other class needs
    `encode` and `decode`. The values come back equal and of the same class. Callers and workers must both register the
    class, under the same name: they do if this call is in the module that defines the class. Idempotent. Can be used as
    a decorator.

    Args:
        cls: The class. Its subclasses are other classes.
        name: Name of the class in the bytes. The default is its module and class name.
        encode: Returns something that travels for a value, such as a dict of its attributes.
        decode: Returns the value for what `encode` returned.
        registry: Where to register it.

    Returns:
        The class.

    Raises:
        Unregistrable: `cls` is no class, cannot travel without `encode` and `decode`, travels without being registered,
            or has the name of another class.
    """
    if not isinstance(cls, type):
        raise Unregistrable(f"{cls!r:.80} is no class", remedy="Name the class itself, as in types = (Point,).")
    if (encode is None) != (decode is None):
        raise Unregistrable(
            f"{origin_of(cls)} has only one of encode and decode", remedy="Give both, or neither for a dataclass."
        )
    for what, function in (("encode", encode), ("decode", decode)):
        if function is not None and not callable(function):
            raise Unregistrable(f"{what} of {origin_of(cls)} is {function!r:.80}", remedy="Give a function.")
    registered = registry.of(cls)
    if registered is not None and encode is None and name in (None, registered.name):
        return cls
    if cls.__module__.partition(".")[0] == "msgpack":
        raise Unregistrable(f"{origin_of(cls)} is one of msgpack's own classes")
    if cls in _PLAIN or (registered is None and extension_type_of(cls) is not None):
        raise Unregistrable(f"{origin_of(cls)} travels anyway", remedy="Leave it out.")
    if name is not None and (not isinstance(name, str) or not name):
        raise Unregistrable(f"the name of {origin_of(cls)} must be a string, not {name!r:.80}", remedy="Name it so.")
    if encode is not None and decode is not None:
        functions: tuple[Callable[[Any], Any], Callable[[Any], Any]] | None = (encode, decode)
    else:
        functions = _find_functions(cls)
    if functions is None:
        raise Unregistrable(
            f"{origin_of(cls)} is no dataclass, attrs class, named tuple, enum or Pydantic model, so how its values "
            "travel must be said",
            remedy=f"register_type({cls.__name__}, encode=…, decode=…) says it.",
        )
    registry.add(Adapter(name or (registered.name if registered else origin_of(cls)), cls, *functions))
    return cls


def is_registrable(cls: type[Any]) -> bool:
    """Return whether `register_type` takes the class without `encode` and `decode`."""
    try:
        return cls.__module__.partition(".")[0] != "msgpack" and _find_functions(cls) is not None
    except Unregistrable:
        return False


def travels(cls: type[Any]) -> bool:
    """Return whether values of exactly this class travel, if their contents do."""
    return cls in _PLAIN or extension_type_of(cls) is not None


def _find_functions(cls: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]] | None:
    if issubclass(cls, enum.Enum):
        return _adapt_enum(cls)
    if issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple):
        return _adapt_named_tuple(cls)
    pydantic = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(cls, getattr(pydantic, "BaseModel", ())):
        return _adapt_model(cls, pydantic.BaseModel)
    if dataclasses.is_dataclass(cls):
        return _adapt_attributes(cls, [field.name for field in dataclasses.fields(cls)])
    if "__attrs_attrs__" in cls.__dict__:
        return _adapt_attributes(cls, [attribute.name for attribute in cls.__attrs_attrs__])
    return None


def _adapt_enum(cls: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
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


def _adapt_named_tuple(cls: type[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def encode(value: Any) -> dict[str, Any]:
        _check_extras(getattr(value, "__dict__", {}), cls, ())
        if tuple.__len__(value) != len(cls._fields):
            raise AdapterError(f"it has {tuple.__len__(value)} members for {len(cls._fields)} fields")
        return dict(zip(cls._fields, tuple.__iter__(value), strict=True))

    def decode(plain: Any) -> Any:
        _check_fields(plain, cls._fields)
        return tuple.__new__(cls, [plain[name] for name in cls._fields])

    return encode, decode


def _adapt_attributes(cls: type[Any], names: list[str]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    builtin = next((base for base in _BUILT_IN if issubclass(cls, base)), None)
    if builtin is not None:
        raise Unregistrable(
            f"{origin_of(cls)} is a {builtin.__name__} besides what its fields hold",
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


def _adapt_model(cls: Any, base: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    if not hasattr(cls, "model_fields"):
        raise Unregistrable(
            f"{origin_of(cls)} is a model of Pydantic 1, of which only 2 is supported",
            remedy=f"register_type({cls.__name__}, encode=…, decode=…) says how it travels.",
        )
    names = list(cls.model_fields)

    def encode(model: Any) -> dict[str, Any]:
        state = base.__getstate__(model)
        values = state["__dict__"]
        _check_extras(values, cls, names)
        fields_set = sorted(state["__pydantic_fields_set__"])
        return {
            # A model that was made without validation may lack some fields.
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
    """Refuse a value that holds more than its fields; a cached property is computed again when it is needed."""
    for name in attributes.keys() - set(names) - _IGNORED_ATTRIBUTES:
        if not isinstance(inspect.getattr_static(cls, name, None), functools.cached_property):
            raise AdapterError(f"its attribute {name!r} is no field of its class, and would be lost")


def _check_fields(plain: Any, names: Iterable[str]) -> None:
    if plain.keys() != set(names):
        raise AdapterError(
            f"it was written with the fields {', '.join(plain) or '(none)'}, "
            f"and its class here has {', '.join(names) or '(none)'}"
        )
