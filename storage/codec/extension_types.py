"""Types of values that travel as msgpack extensions, and how each is taken apart and put together."""

from __future__ import annotations

import array
import importlib
import sys
from collections import ChainMap, Counter, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable
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
from .extension import ExtensionType, ExtensionTypeError
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


def _bytes_of_int(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 8) // 8, "big", signed=True)


def _int_of_bytes(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def take_apart_zone(zone: tzinfo | None) -> Any:
    """Return a time zone as plain values.

    Raises:
        ExtensionTypeError: It belongs to a package of its own.
    """
    if zone is None:
        return None
    if type(zone) is ZoneInfo and zone.key is not None:
        return zone.key
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]
        return [_take_apart_timedelta(offset), *name]
    if type(zone).__name__ == "TzInfo" and type(zone).__module__.partition(".")[0] == "pydantic_core":
        # Pydantic models parse a text into these.
        return {"pydantic": _take_apart_timedelta(zone.utcoffset(None) or timedelta(0))}
    raise ExtensionTypeError(
        f"its time zone is a {type(zone).__qualname__}: only timezone and a ZoneInfo with a key travel"
    )


def put_together_zone(plain: Any) -> tzinfo | None:
    """Return the time zone that `take_apart_zone` took apart."""
    if plain is None:
        return None
    if isinstance(plain, str):
        return ZoneInfo(plain)
    if isinstance(plain, dict):
        return _pydantic_zone(_put_together_timedelta(plain["pydantic"]))
    if type(plain) is not list:
        raise ValueError("a time zone has another form")
    offset, *name = plain
    return timezone(_put_together_timedelta(offset), *name)


def _pydantic_zone(offset: timedelta) -> tzinfo:
    try:
        core = importlib.import_module("pydantic_core")
    except ImportError as error:
        raise MissingPackage(
            "it holds a time zone of Pydantic, and Pydantic is not installed here", extra="pydantic"
        ) from error
    zone: tzinfo = core.TzInfo(int(offset.total_seconds()))
    return zone


def _take_apart_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _put_together_timedelta(plain: list[int]) -> timedelta:
    days, seconds, microseconds = plain
    return timedelta(days, seconds, microseconds)


def _take_apart_date(value: date) -> list[int]:
    return [value.year, value.month, value.day]


def _take_apart_clock(value: datetime | time) -> list[Any]:
    return [value.hour, value.minute, value.second, value.microsecond, value.fold, take_apart_zone(value.tzinfo)]


def _put_together_time(plain: list[Any]) -> time:
    hour, minute, second, microsecond, fold, zone = plain
    return time(hour, minute, second, microsecond, put_together_zone(zone), fold=fold)


def _take_apart_datetime(value: datetime) -> list[Any]:
    return [*_take_apart_date(value), *_take_apart_clock(value)]


def _put_together_datetime(plain: list[Any]) -> datetime:
    year, month, day, *clock = plain
    return datetime.combine(date(year, month, day), _put_together_time(clock))


def _take_apart_dict(value: dict[Any, Any]) -> dict[Any, Any]:
    # Counter and OrderedDict accept attributes like any object, and these would be lost.
    if vars(value):
        raise ExtensionTypeError("it carries attributes of its own, which would be lost")
    return dict(value)


def _take_apart_defaultdict(value: defaultdict[Any, Any]) -> list[Any]:
    for name, factory in _FACTORIES.items():
        if value.default_factory is factory:
            return [dict(value), name]
    raise ExtensionTypeError(f"its factory is not one of {', '.join(_FACTORIES)}")


def _put_together_defaultdict(plain: list[Any]) -> defaultdict[Any, Any]:
    contents, name = plain
    return defaultdict(_FACTORIES[name], contents)


def _put_together_range(plain: list[int]) -> range:
    start, stop, step = plain
    return range(start, stop, step)


def _take_apart_wrapper(attribute: str, of: type[Any]) -> Callable[[Any], Any]:
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


def _take_apart_proxy(value: MappingProxyType[Any, Any]) -> list[Any]:
    try:
        # A copy of the mapping behind it: the proxy does not tell its type otherwise.
        return [value.copy()]
    except AttributeError as error:
        raise ExtensionTypeError("the mapping behind it can't be copied") from error


def _take_apart_machine_array(value: array.array[Any]) -> list[Any]:
    return [value.typecode, value.itemsize, sys.byteorder, value.tobytes()]


def _put_together_machine_array(plain: list[Any]) -> array.array[Any]:
    code, itemsize, byteorder, content = plain
    made: array.array[Any] = array.array(code)
    if made.itemsize != itemsize:
        raise ValueError(f"an array.array of {code!r} has elements of another size here")
    made.frombytes(content)
    if byteorder != sys.byteorder:
        made.byteswap()
    return made


def _put_together_registered(plain: list[Any]) -> Any:
    contents, name = plain
    adapter = TYPES.named(name)
    if adapter is None:
        remedy = None
        if str(name).startswith("__main__."):
            remedy = "The class is defined in the script that was run: move it to a module that both sides import."
        raise UnknownType(f"it holds a value of {name!r}, which is not registered here", type_name=name, remedy=remedy)
    try:
        return adapter.decode(contents)
    except AdapterError as error:
        raise ChangedType(f"it holds a value of {name!r}: {error}", type_name=name) from error
    except Exception as error:
        reason = f"its decode raised {type(error).__name__}: {error}"
        raise ChangedType(f"it holds a value of {name!r}, and {reason}", type_name=name) from error


def _take_apart_registered(adapter: Adapter) -> Callable[[Any], list[Any]]:
    def take_apart(value: Any) -> list[Any]:
        try:
            return [adapter.encode(value), adapter.name]
        except AdapterError as error:
            raise ExtensionTypeError(str(error)) from error
        except Exception as error:
            raise ExtensionTypeError(f"its encode raised {type(error).__name__}: {error}") from error

    return take_apart


EXTENSION_TYPES: Final = (
    ExtensionType(1, int, _bytes_of_int, _int_of_bytes, form=bytes),
    ExtensionType(2, tuple, list, tuple),
    ExtensionType(3, set, list, set, is_unordered=True),
    ExtensionType(4, frozenset, list, frozenset, is_unordered=True),
    # 5 was a bytearray, which arrives as bytes.
    ExtensionType(
        6, complex, lambda value: [value.real, value.imag], lambda plain: complex(*plain), form=(float, float)
    ),
    ExtensionType(7, Counter, _take_apart_dict, Counter, form=dict),
    ExtensionType(8, OrderedDict, _take_apart_dict, OrderedDict, form=dict),
    ExtensionType(9, defaultdict, _take_apart_defaultdict, _put_together_defaultdict, is_framed=True, form=(dict, str)),
    ExtensionType(
        10,
        deque,
        lambda value: [[*value], value.maxlen],
        lambda plain: deque(*plain),
        is_framed=True,
        form=(list, object),
    ),
    ExtensionType(11, datetime, _take_apart_datetime, _put_together_datetime),
    ExtensionType(12, date, _take_apart_date, lambda plain: date(*plain)),
    ExtensionType(13, time, _take_apart_clock, _put_together_time),
    ExtensionType(14, timedelta, _take_apart_timedelta, _put_together_timedelta, form=(int, int, int)),
    ExtensionType(15, Decimal, str, Decimal, form=str),
    ExtensionType(
        16,
        Fraction,
        lambda value: [value.numerator, value.denominator],
        lambda plain: Fraction(*plain),
        form=(int, int),
    ),
    ExtensionType(17, UUID, lambda value: value.bytes, lambda plain: UUID(bytes=plain), form=bytes),
    ExtensionType(
        18,
        range,
        lambda value: [int(value.start), int(value.stop), int(value.step)],
        _put_together_range,
        form=(int, int, int),
    ),
    ExtensionType(
        19,
        ReferencedValues,
        lambda place: [place.offset, place.length, place.count],
        lambda plain: ReferencedValues(*plain),
        form=(int, int, object),
    ),
    ExtensionType(20, PurePosixPath, str, PurePosixPath, form=str),
    ExtensionType(21, PureWindowsPath, str, PureWindowsPath, form=str),
    # A path of the reader's system: no other path could be opened there.
    ExtensionType(22, type(Path()), str, Path, form=str),
    ExtensionType(23, UserDict, _take_apart_wrapper("data", dict), UserDict, form=dict),
    ExtensionType(24, UserList, _take_apart_wrapper("data", list), UserList),
    ExtensionType(25, ChainMap, _take_apart_wrapper("maps", list), lambda plain: ChainMap(*plain)),
    ExtensionType(26, MappingProxyType, _take_apart_proxy, lambda plain: MappingProxyType(*plain)),
    ExtensionType(27, array.array, _take_apart_machine_array, _put_together_machine_array, form=(str, int, str, bytes)),
)
EXTENSION_BY_TYPE: Final[dict[type[Any], ExtensionType]] = {extension.type: extension for extension in EXTENSION_TYPES}
EXTENSION_BY_CODE: Final[dict[int, ExtensionType]] = {
    **{extension.code: extension for extension in EXTENSION_TYPES},
    _REGISTERED: ExtensionType(_REGISTERED, Adapter, list, _put_together_registered, form=(object, str)),
}

# Extension types of optional packages: package -> extra, module with its types, and their codes.
_OPTIONAL: Final = {
    "numpy": ("numpy", "numpy_types", range(32, 40)),
    "pyarrow": ("arrow", "arrow_types", range(40, 48)),
    "pandas": ("pandas", "pandas_types", range(48, 64)),
}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the extension type for values of exactly this type, or None.

    Does not import a package that the program has not imported itself.
    """
    return EXTENSION_BY_TYPE.get(of) or _registered_extension_type(of) or _optional_extension_type(of)


def extension_type_of_code(code: int) -> ExtensionType:
    """Return the extension type with this code, importing the package that it belongs to.

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
                    f"it holds a value of {package}, and {package} is not installed here", extra=extra
                ) from error
            known: dict[int, ExtensionType] = _extension_module(module).EXTENSION_BY_CODE
            return known[code]
    return EXTENSION_BY_CODE[code]


def _registered_extension_type(of: type[Any]) -> ExtensionType | None:
    adapter = TYPES.of(of)
    return _extension_type_of_adapter(adapter) if adapter is not None else None


@cache
def _extension_type_of_adapter(adapter: Adapter) -> ExtensionType:
    take_apart = _take_apart_registered(adapter)
    return ExtensionType(_REGISTERED, adapter.type, take_apart, _put_together_registered, is_framed=True)


@cache
def _extension_module(module: str) -> Any:
    return importlib.import_module(f".{module}", __package__)


def _optional_extension_type(of: type[Any]) -> ExtensionType | None:
    home = of.__module__
    package = home.partition(".")[0] if isinstance(home, str) else ""
    if package not in _OPTIONAL or package not in sys.modules:
        return None
    extension: ExtensionType | None = _extension_module(_OPTIONAL[package][1]).extension_type_of(of)
    return extension
