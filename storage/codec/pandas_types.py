"""Extension types for pandas: frames, series, indexes, and the scalars of its columns. Its only importer.

A column travels as its contents: an array of NumPy or Arrow, or the list of its objects. So each dtype and each
object's type comes back as it was. Where Arrow would merge two values (an int in a column of objects, None and NaN),
nothing is changed. A column without such a form is refused. Part of the wire format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from ..errors import MissingPackage
from .extension import ExtensionType, ExtensionTypeError
from .extension_types import put_together_zone, take_apart_zone

_ARRAYS: Final = pd.arrays
_MASKED: Final = {cls.__name__: cls for cls in (_ARRAYS.IntegerArray, _ARRAYS.FloatingArray, _ARRAYS.BooleanArray)}
_PLAIN_INDEXES: Final = (pd.Index, pd.CategoricalIndex, pd.IntervalIndex, pd.PeriodIndex)
_MOST_CATEGORIES: Final = 2**20
_TIMED_INDEXES: Final = (pd.DatetimeIndex, pd.TimedeltaIndex)


def _take_apart_values(values: Any) -> list[Any]:
    """Return a column's array as the name of its form, and its contents."""
    of = type(values)
    if of is _ARRAYS.NumpyExtensionArray:
        content = values.to_numpy()
        return ["object", content.tolist()] if content.dtype == object else ["numpy", np.asarray(content)]
    if of in (_ARRAYS.DatetimeArray, _ARRAYS.TimedeltaArray):
        zone = getattr(values, "tz", None)
        return [
            "time",
            values.to_numpy(values.dtype.base if zone is None else f"M8[{values.unit}]"),
            take_apart_zone(zone),
        ]
    if of is _ARRAYS.StringArray or of.__name__ == "ArrowStringArray" or isinstance(values.dtype, pd.StringDtype):
        missing = getattr(values.dtype, "na_value", pd.NA)
        content = [None if absent else text for text, absent in zip(values, pd.isna(values), strict=True)]
        return ["string", values.dtype.storage, missing is pd.NA, content]
    if of is pd.Categorical:
        return ["categorical", np.asarray(values.codes), values.categories, values.ordered]
    if of.__name__ in _MASKED:
        mask = np.asarray(values.isna())
        # The values under the mask would differ between equal columns.
        return ["masked", of.__name__, values.fillna(values.dtype.type(0)).to_numpy(values.dtype.numpy_dtype), mask]
    if of is _ARRAYS.IntervalArray:
        return ["interval", values.left, values.right, values.closed]
    if of is _ARRAYS.PeriodArray:
        return ["period", np.asarray(values.asi8), values.freqstr]
    if isinstance(values.dtype, getattr(pd, "ArrowDtype", ())):
        return ["arrow", values.__arrow_array__()]
    raise ExtensionTypeError(f"a column of its dtype {values.dtype} has no form that travels: use astype()")


def _put_together_values(plain: Any) -> Any:
    # As each of them would be made to fit any index, a forged one could fill the memory.
    if type(plain) is not list or not plain:
        raise ValueError("a column is no list")
    form, *content = plain
    make, types = _FORMS[form]
    if len(types) != len(content) or not all(map(isinstance, content, types)):
        raise ValueError(f"a column has not the form {form!r}")
    kinds = _KINDS.get(form)
    for array in content:
        if type(array) is not np.ndarray:
            continue
        if array.ndim != 1 or not array.itemsize:
            raise ValueError("a column has other than one dimension of elements")
        # pandas would make numbers of others, some of them with a loss.
        if kinds is not None and array.dtype.kind not in kinds:
            raise ValueError(f"a column of the form {form!r} has elements of {array.dtype}")
    return make(*content)


def _make_strings(storage: str, is_na: bool, content: list[Any]) -> Any:
    try:
        dtype = pd.StringDtype(storage) if is_na else pd.StringDtype(storage, na_value=np.nan)
    except ImportError as error:
        raise MissingPackage("it holds a column of Arrow, and pyarrow is not installed here", extra="arrow") from error
    return pd.array(content, dtype=dtype)


def _make_times(content: Any, zone: Any) -> Any:
    values = pd.array(content, dtype=content.dtype)
    return values if zone is None else values.tz_localize("UTC").tz_convert(put_together_zone(zone))


def _make_objects(content: list[Any]) -> Any:
    # So that NumPy does not make a second dimension of lists among them.
    return np.fromiter(content, dtype=object, count=len(content))


def _make_categorical(codes: Any, categories: Any, ordered: bool) -> Any:
    _check_range(categories, _MOST_CATEGORIES)
    return pd.Categorical.from_codes(codes, categories=categories, ordered=ordered)


def _check_range(index: Any, length: int) -> None:
    """Refuse a range of more numbers than this: it takes no bytes, and pandas makes an array of it.

    Raises:
        ValueError: It is one.
    """
    if type(index) is pd.RangeIndex and len(index) > length:
        raise ValueError(f"a range of {len(index)} numbers is no index of {length} values")


_FORMS: Final[dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]] = {
    "numpy": (lambda content: content, (np.ndarray,)),
    "object": (_make_objects, (list,)),
    "time": (_make_times, (np.ndarray, object)),
    "string": (_make_strings, (str, bool, list)),
    "categorical": (_make_categorical, (np.ndarray, pd.Index, bool)),
    "masked": (lambda name, values, mask: _MASKED[name](values.copy(), mask.copy()), (str, np.ndarray, np.ndarray)),
    "interval": (
        lambda left, right, closed: _ARRAYS.IntervalArray.from_arrays(left, right, closed=closed),
        (pd.Index, pd.Index, str),
    ),
    "period": (
        lambda ordinals, freq: _ARRAYS.PeriodArray(ordinals.copy(), dtype=pd.PeriodDtype(freq)),
        (np.ndarray, str),
    ),
    "arrow": (lambda content: _ARRAYS.ArrowExtensionArray(content), (object,)),
}
"""Name of each form of a column -> the function that makes it, and the types of its contents."""

_KINDS: Final = {"time": "mM", "categorical": "i", "period": "i", "masked": "biuf"}
"""Forms whose arrays of NumPy have some kinds of dtype alone -> these kinds."""


def _take_apart_index(index: Any) -> list[Any]:
    of = type(index)
    if of is pd.RangeIndex:
        return ["range", index.start, index.stop, index.step, index.name]
    if of is pd.MultiIndex:
        return ["multi", [*index.levels], [np.asarray(codes) for codes in index.codes], [*index.names]]
    freq = getattr(index, "freq", None) if of in _TIMED_INDEXES else None
    if freq is not None and pd.tseries.frequencies.to_offset(freq.freqstr) != freq:
        raise ExtensionTypeError(f"its frequency {freq} has no name that leads back to it")
    return ["values", _take_apart_values(index.array), index.name, freq.freqstr if freq is not None else None]


def _put_together_index(plain: list[Any]) -> Any:
    form, *content = plain
    if form == "range":
        start, stop, step, name = content
        return pd.RangeIndex(start, stop, step, name=name)
    if form == "multi":
        levels, codes, names = content
        for level in levels:
            _check_range(level, _MOST_CATEGORIES)
        return pd.MultiIndex(levels=levels, codes=codes, names=names)
    values, name, freq = content
    array = _put_together_values(values)
    if freq is not None:
        return (pd.TimedeltaIndex if array.dtype.kind == "m" else pd.DatetimeIndex)(array, name=name, freq=freq)
    return pd.Index(array, dtype=array.dtype, name=name, copy=False)


def _read_about(value: Any) -> list[Any]:
    """Return the attributes and flags of a frame or a series."""
    return [dict(value.attrs), value.flags.allows_duplicate_labels]


def _restore_about(value: Any, about: list[Any]) -> Any:
    value.attrs.update(about[0])
    if not about[1]:
        value.flags.allows_duplicate_labels = False
    return value


def _take_apart_series(series: Any) -> list[Any]:
    return [_take_apart_values(series.array), series.index, series.name, _read_about(series)]


def _put_together_series(plain: list[Any]) -> Any:
    values, index, name, about = plain
    return _restore_about(_make_column(values, index, name), about)


def _make_column(values: list[Any], index: Any, name: Any = None) -> Any:
    array = _put_together_values(values)
    _check_range(index, len(array))
    return pd.Series(array, index=index, name=name, dtype=array.dtype, copy=False)


def _take_apart_frame(frame: Any) -> list[Any]:
    columns = [_take_apart_values(frame.iloc[:, place].array) for place in range(frame.shape[1])]
    return [columns, frame.index, frame.columns, _read_about(frame)]


def _put_together_frame(plain: list[Any]) -> Any:
    columns, index, names, about = plain
    frame = pd.DataFrame(
        {place: _make_column(values, index) for place, values in enumerate(columns)}, index=index, copy=False
    )
    frame.columns = names
    return _restore_about(frame, about)


def _take_apart_timestamp(moment: Any) -> list[Any]:
    return [moment.asm8, take_apart_zone(moment.tz)]


def _put_together_timestamp(plain: list[Any]) -> Any:
    moment, zone = plain
    if type(moment) is not np.datetime64:
        raise ValueError("a timestamp is no moment of NumPy's")
    made = pd.Timestamp(moment)
    return made if zone is None else made.tz_localize("UTC").tz_convert(put_together_zone(zone))


def _put_together_timedelta(plain: list[Any]) -> Any:
    (span,) = plain
    if type(span) is not np.timedelta64:
        raise ValueError("a timedelta is no span of NumPy's")
    return pd.Timedelta(span)


_FRAME: Final = ExtensionType(48, pd.DataFrame, _take_apart_frame, _put_together_frame)
_SERIES: Final = ExtensionType(49, pd.Series, _take_apart_series, _put_together_series)
_INDEX: Final = ExtensionType(50, pd.Index, _take_apart_index, _put_together_index)
_EXTENSIONS: Final = (
    _FRAME,
    _SERIES,
    _INDEX,
    ExtensionType(51, pd.Timestamp, _take_apart_timestamp, _put_together_timestamp),
    ExtensionType(52, pd.Timedelta, lambda span: [span.asm8], _put_together_timedelta),
    ExtensionType(53, type(pd.NaT), lambda _: None, lambda _: pd.NaT, form=type(None)),
    ExtensionType(54, type(pd.NA), lambda _: None, lambda _: pd.NA, form=type(None)),
)
EXTENSION_BY_CODE: Final = {extension.code: extension for extension in _EXTENSIONS}
_EXTENSION_BY_TYPE: Final = {
    **{extension.type: extension for extension in _EXTENSIONS},
    **dict.fromkeys((*_PLAIN_INDEXES, *_TIMED_INDEXES, pd.RangeIndex, pd.MultiIndex), _INDEX),
}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the extension type for values of exactly this type, or None: subclasses would come back as another."""
    return _EXTENSION_BY_TYPE.get(of)
