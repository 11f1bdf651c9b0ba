"""The kinds of values that travel beyond msgpack's own, and how each is taken apart and put together."""

from __future__ import annotations

import array
import importlib
import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from ..errors import ChangedType, MissingPackage, UnknownType
from .references import ReferencedValues
from .registry import TYPES, Adapter, AdapterError

_FACTORIES: Final[dict[str, Any]] = {
    "none": None,
    "list": list,
    "dict": dict,
    "set": set,
    "int": int,
    "float": float,
    "str": str,
}


_REGISTERED: Final = 28


class ExtensionTypeError(Exception):
    """A value is of a kind that travels, yet this one cannot; the text says why."""


@dataclass(frozen=True, slots=True)
class ExtensionType:
    """One type of value.

    Attributes:
        code: msgpack's extension code. Part of the wire format: never reuse or renumber one.
        type: The exact type; subclasses are other types.
        take_apart: Value to a plainer one: what msgpack packs itself, or another kind.
        put_together: The reverse.
        is_unordered: The plainer value is a list whose order means nothing.
        is_framed: The plainer value is a pair: the contents, and a plain scalar about them.
        is_buffered: The plainer value is a list of plain values and, last, an `buffers.Buffer`, in whose place
            `put_together` is given a memoryview: where the bytes were fetched to, not a copy.
    """

    code: int
    type: type[Any]
    take_apart: Callable[[Any], Any]
    put_together: Callable[[Any], Any]
    is_unordered: bool = False
    is_framed: bool = False
    is_buffered: bool = False


def _bytes_of_int(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


def _int_of_bytes(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def zone_apart(zone: tzinfo | None) -> Any:
    """Return a time zone as plain values.

    Raises:
        ExtensionTypeError: It is of a package of its own.
    """
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [_timedelta_apart(offset), *name]
    if type(zone).__name__ == "TzInfo" and type(zone).__module__.partition(".")[0] == "pydantic_core":
        # What a model of Pydantic makes of a text.
        return {"pydantic": _timedelta_apart(zone.utcoffset(None) or timedelta(0))}
    raise ExtensionTypeError(
        f"its time zone is a {type(zone).__qualname__}: only timezone and a ZoneInfo with a key travel"
    )


def zone_together(plain: Any) -> tzinfo | None:
    """Return the time zone that `zone_apart` took apart."""
    if plain is None:
        return None
    if isinstance(plain, str):
        return ZoneInfo(plain)
    if isinstance(plain, dict):
        return _pydantic_zone(_timedelta_together(plain["pydantic"]))
    offset, *name = plain
    return timezone(_timedelta_together(offset), *name)


def _pydantic_zone(offset: timedelta) -> tzinfo:
    try:
        core = importlib.import_module("pydantic_core")
    except ImportError as error:
        raise MissingPackage("a time of Pydantic came, and it is not installed here", extra="pydantic") from error
    zone: tzinfo = core.TzInfo(int(offset.total_seconds()))
    return zone


def _timedelta_apart(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _timedelta_together(plain: list[int]) -> timedelta:
    days, seconds, microseconds = plain
    return timedelta(days, seconds, microseconds)


def _date_apart(value: date) -> list[int]:
    return [value.year, value.month, value.day]


def _clock_apart(value: datetime | time) -> list[Any]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold, zone_apart(value.tzinfo)]


def _time_together(plain: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = plain
    return time(hour, minute, second, microsecond, zone_together(zone), fold=fold)


def _datetime_apart(value: datetime) -> list[Any]:
    return [*_date_apart(value), *_clock_apart(value)]


def _datetime_together(plain: list[Any]) -> datetime:
    year, month, day, *clock = plain
    return datetime.combine(date(year, month, day), _time_together(clock))


def _dict_apart(value: dict[Any, Any]) -> dict[Any, Any]:
    # Counter and OrderedDict take attributes like any object; they would be lost.
    if vars(value):
        raise ExtensionTypeError("it carries attributes of its own, which would be lost")
    return dict(value)


def _defaultdict_apart(value: defaultdict[Any, Any]) -> list[Any]:
    for name, factory in _FACTORIES.items():
        if value.default_factory is factory:
            return [dict(value), name]
    raise ExtensionTypeError(f"its factory is not one of {', '.join(_FACTORIES)}")


def _defaultdict_together(plain: list[Any]) -> defaultdict[Any, Any]:
    contents, name = plain
    return defaultdict(_FACTORIES[name], contents)


def _range_together(plain: list[int]) -> range:
    start, stop, step = plain
    return range(start, stop, step)


def _wrapper_apart(attribute: str, of: type[Any]) -> Callable[[Any], Any]:
    def take_apart(value: Any) -> Any:
        if vars(value).keys() != {attribute}:
            raise ExtensionTypeError("it carries attributes of its own, which would be lost")
        wrapped = getattr(value, attribute)
        if type(wrapped) is not of:
            raise ExtensionTypeError(
                f"it wraps a {type(wrapped).__qualname__}, and would come back around a {of.__name__}"
            )
        return wrapped

    return take_apart


def _proxy_apart(value: MappingProxyType[Any, Any]) -> list[Any]:
    try:
        # A copy of the mapping behind it, whose type the proxy does not tell otherwise.
        return [value.copy()]
    except AttributeError as error:
        raise ExtensionTypeError("the mapping behind it can't be copied") from error


def _machine_array_apart(value: array.array[Any]) -> list[Any]:
    return [value.typecode, value.itemsize, sys.byteorder, value.tobytes()]


def _machine_array_together(plain: list[Any]) -> array.array[Any]:
    code, itemsize, byteorder, content = plain
    made: array.array[Any] = array.array(code)
    if made.itemsize != itemsize:
        raise ValueError(f"an array.array of {code!r} has elements of another size here")
    made.frombytes(content)
    if byteorder != sys.byteorder:
        made.byteswap()
    return made


def _registered_together(plain: list[Any]) -> Any:
    contents, name = plain
    adapter = TYPES.named(name)
    if adapter is None:
        remedy = None
        if str(name).startswith("__main__."):
            remedy = "The class is defined in the script that was run: move it to a module that both sides import."
        raise UnknownType(f"a value of {name!r} came, which is not registered here", type_name=name, remedy=remedy)
    try:
        return adapter.decode(contents)
    except AdapterError as error:
        raise ChangedType(f"a value of {name!r} came: {error}", type_name=name) from error
    except Exception as error:
        reason = f"its decode raised {type(error).__name__}: {error}"
        raise ChangedType(f"a value of {name!r} came, and {reason}", type_name=name) from error


def _registered_apart(adapter: Adapter) -> Callable[[Any], list[Any]]:
    def take_apart(value: Any) -> list[Any]:
        try:
            return [adapter.encode(value), adapter.name]
        except AdapterError as error:
            raise ExtensionTypeError(str(error)) from error
        except Exception as error:
            raise ExtensionTypeError(f"its encode raised {type(error).__name__}: {error}") from error

    return take_apart


EXTENSION_TYPES: Final = (
    ExtensionType(1, int, _bytes_of_int, _int_of_bytes),
    ExtensionType(2, tuple, list, tuple),
    ExtensionType(3, set, list, set, is_unordered=True),
    ExtensionType(4, frozenset, list, frozenset, is_unordered=True),
    # 5 was a bytearray, which arrives as bytes.
    ExtensionType(6, complex, lambda value: [value.real, value.imag], lambda plain: complex(*plain)),
    ExtensionType(7, Counter, _dict_apart, Counter),
    ExtensionType(8, OrderedDict, _dict_apart, OrderedDict),
    ExtensionType(9, defaultdict, _defaultdict_apart, _defaultdict_together, is_framed=True),
    ExtensionType(10, deque, lambda value: [[*value], value.maxlen], lambda plain: deque(*plain), is_framed=True),
    ExtensionType(11, datetime, _datetime_apart, _datetime_together),
    ExtensionType(12, date, _date_apart, lambda plain: date(*plain)),
    ExtensionType(13, time, _clock_apart, _time_together),
    ExtensionType(14, timedelta, _timedelta_apart, _timedelta_together),
    ExtensionType(15, Decimal, str, Decimal),
    ExtensionType(16, Fraction, lambda value: [value.numerator, value.denominator], lambda plain: Fraction(*plain)),
    ExtensionType(17, UUID, lambda value: value.bytes, lambda plain: UUID(bytes=plain)),
    ExtensionType(18, range, lambda value: [value.start, value.stop, value.step], _range_together),
    ExtensionType(
        19,
        ReferencedValues,
        lambda place: [place.offset, place.length, place.count],
        lambda plain: ReferencedValues(*plain),
    ),
    ExtensionType(20, PurePosixPath, str, PurePosixPath),
    ExtensionType(21, PureWindowsPath, str, PureWindowsPath),
    # Of the system that it comes to: there is no other that could be opened there.
    ExtensionType(22, type(Path()), str, Path),
    ExtensionType(23, UserDict, _wrapper_apart("data", dict), UserDict),
    ExtensionType(24, UserList, _wrapper_apart("data", list), UserList),
    ExtensionType(25, ChainMap, _wrapper_apart("maps", list), lambda plain: ChainMap(*plain)),
    ExtensionType(26, MappingProxyType, _proxy_apart, lambda plain: MappingProxyType(*plain)),
    ExtensionType(27, array.array, _machine_array_apart, _machine_array_together),
)
EXTENSION_BY_TYPE: Final[dict[type[Any], ExtensionType]] = {kind.type: kind for kind in EXTENSION_TYPES}
EXTENSION_BY_CODE: Final[dict[int, ExtensionType]] = {
    **{kind.code: kind for kind in EXTENSION_TYPES},
    _REGISTERED: ExtensionType(_REGISTERED, Adapter, list, _registered_together),
}

# Kinds of packages that need not be there: package -> extra, module that knows its kinds, and their codes.
_OPTIONAL: Final = {
    "numpy": ("numpy", "numpy_types", range(32, 40)),
    "pyarrow": ("arrow", "arrow_types", range(40, 48)),
    "pandas": ("pandas", "pandas_types", range(48, 64)),
}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the kind of values of exactly this type, or None.

    A package that the program has not imported itself is not imported for it.
    """
    return EXTENSION_BY_TYPE.get(of) or _registered_extension_type(of) or _optional_extension_type(of)


def extension_type_of_code(code: int) -> ExtensionType:
    """Return the kind with this code, importing the package it belongs to.

    Raises:
        KeyError: There is none.
        MissingPackage: The package is not installed.
    """
    for package, (extra, module, codes) in _OPTIONAL.items():
        if code in codes:
            try:
                importlib.import_module(package)
            except ImportError as error:
                raise MissingPackage(
                    f"a value of {package} came, and {package} is not installed here", extra=extra
                ) from error
            known: dict[int, ExtensionType] = _extension_module(module).EXTENSION_BY_CODE
            return known[code]
    return EXTENSION_BY_CODE[code]


def _registered_extension_type(of: type[Any]) -> ExtensionType | None:
    adapter = TYPES.of(of)
    return _extension_type_of_adapter(adapter) if adapter is not None else None


@cache
def _extension_type_of_adapter(adapter: Adapter) -> ExtensionType:
    take_apart = _registered_apart(adapter)
    return ExtensionType(_REGISTERED, adapter.type, take_apart, _registered_together, is_framed=True)


@cache
def _extension_module(module: str) -> Any:
    return importlib.import_module(f".{module}", __package__)


def _optional_extension_type(of: type[Any]) -> ExtensionType | None:
    home = of.__module__
    package = home.partition(".")[0] if isinstance(home, str) else ""
    if package not in _OPTIONAL or package not in sys.modules:
        return None
    kind: ExtensionType | None = _extension_module(_OPTIONAL[package][1]).extension_type_of(of)
    return kind
