"""The kinds of pandas: frames, series, indexes, and the scalars that its columns hold. Its only importer.

A column travels as what it is made of: an array of NumPy or Arrow, or the list of its objects. So each dtype comes
back as it was, objects keep their types, and where Arrow would make one of two (an int in a column of objects, None
and NaN) nothing is changed. What has no such form is refused. Part of the wire format.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pandas as pd

from ..errors import MissingPackage
from .extension_types import ExtensionType, ExtensionTypeError, zone_apart, zone_together

_ARRAYS: Final = pd.arrays
_MASKED: Final = {cls.__name__: cls for cls in (_ARRAYS.IntegerArray, _ARRAYS.FloatingArray, _ARRAYS.BooleanArray)}
_PLAIN_INDEXES: Final = (pd.Index, pd.CategoricalIndex, pd.IntervalIndex, pd.PeriodIndex)
_TIMED_INDEXES: Final = (pd.DatetimeIndex, pd.TimedeltaIndex)


def _values_apart(values: Any) -> list[Any]:
    """A column's array as its form, and what it is made of."""
    of = type(values)
    if of is _ARRAYS.NumpyExtensionArray:
        content = values.to_numpy()
        return ["object", content.tolist()] if content.dtype == object else ["numpy", np.asarray(content)]
    if of in (_ARRAYS.DatetimeArray, _ARRAYS.TimedeltaArray):
        zone = getattr(values, "tz", None)
        return ["time", values.to_numpy(values.dtype.base if zone is None else f"M8[{values.unit}]"), zone_apart(zone)]
    if of is _ARRAYS.StringArray or of.__name__ == "ArrowStringArray" or isinstance(values.dtype, pd.StringDtype):
        missing = getattr(values.dtype, "na_value", pd.NA)
        content = [None if absent else text for text, absent in zip(values, pd.isna(values), strict=True)]
        return ["string", values.dtype.storage, missing is pd.NA, content]
    if of is pd.Categorical:
        return ["categorical", np.asarray(values.codes), values.categories, values.ordered]
    if of.__name__ in _MASKED:
        mask = np.asarray(values.isna())
        # What stands where nothing is would differ between equal columns.
        return ["masked", of.__name__, values.fillna(values.dtype.type(0)).to_numpy(values.dtype.numpy_dtype), mask]
    if of is _ARRAYS.IntervalArray:
        return ["interval", values.left, values.right, values.closed]
    if of is _ARRAYS.PeriodArray:
        return ["period", np.asarray(values.asi8), values.freqstr]
    if isinstance(values.dtype, getattr(pd, "ArrowDtype", ())):
        return ["arrow", values.__arrow_array__()]
    raise ExtensionTypeError(f"a column of its dtype {values.dtype} has no form that travels: use astype()")


def _values_together(plain: list[Any]) -> Any:
    form, *content = plain
    return _FORMS[form](*content)


def _strings(storage: str, is_na: bool, content: list[Any]) -> Any:
    try:
        dtype = pd.StringDtype(storage) if is_na else pd.StringDtype(storage, na_value=np.nan)
    except ImportError as error:
        raise MissingPackage(
            "a column that Arrow holds came, and pyarrow is not installed here", extra="arrow"
        ) from error
    return pd.array(content, dtype=dtype)


def _times(content: Any, zone: Any) -> Any:
    values = pd.array(content, dtype=content.dtype)
    return values if zone is None else values.tz_localize("UTC").tz_convert(zone_together(zone))


def _objects(content: list[Any]) -> Any:
    # Made so that NumPy does not look whether lists among them would make a second dimension.
    return np.fromiter(content, dtype=object, count=len(content))


_FORMS: Final[dict[str, Callable[..., Any]]] = {
    "numpy": lambda content: content,
    "object": _objects,
    "time": _times,
    "string": _strings,
    "categorical": lambda codes, categories, ordered: pd.Categorical.from_codes(
        codes, categories=categories, ordered=ordered
    ),
    "masked": lambda name, values, mask: _MASKED[name](values.copy(), mask.copy()),
    "interval": lambda left, right, closed: _ARRAYS.IntervalArray.from_arrays(left, right, closed=closed),
    "period": lambda ordinals, freq: _ARRAYS.PeriodArray(ordinals.copy(), dtype=pd.PeriodDtype(freq)),
    "arrow": lambda content: _ARRAYS.ArrowExtensionArray(content),
}


def _index_apart(index: Any) -> list[Any]:
    of = type(index)
    if of is pd.RangeIndex:
        return ["range", index.start, index.stop, index.step, index.name]
    if of is pd.MultiIndex:
        return ["multi", [*index.levels], [np.asarray(codes) for codes in index.codes], [*index.names]]
    freq = getattr(index, "freq", None) if of in _TIMED_INDEXES else None
    if freq is not None and pd.tseries.frequencies.to_offset(freq.freqstr) != freq:
        raise ExtensionTypeError(f"its frequency {freq} has no name that leads back to it")
    return ["values", _values_apart(index.array), index.name, freq.freqstr if freq is not None else None]


def _index_together(plain: list[Any]) -> Any:
    form, *content = plain
    if form == "range":
        start, stop, step, name = content
        return pd.RangeIndex(start, stop, step, name=name)
    if form == "multi":
        levels, codes, names = content
        return pd.MultiIndex(levels=levels, codes=codes, names=names)
    values, name, freq = content
    array = _values_together(values)
    if freq is not None:
        return (pd.TimedeltaIndex if array.dtype.kind == "m" else pd.DatetimeIndex)(array, name=name, freq=freq)
    return pd.Index(array, dtype=array.dtype, name=name, copy=False)


def _about(value: Any) -> list[Any]:
    """What a frame or a series says about itself."""
    return [dict(value.attrs), value.flags.allows_duplicate_labels]


def _told(value: Any, about: list[Any]) -> Any:
    value.attrs.update(about[0])
    if not about[1]:
        value.flags.allows_duplicate_labels = False
    return value


def _series_apart(series: Any) -> list[Any]:
    return [_values_apart(series.array), series.index, series.name, _about(series)]


def _series_together(plain: list[Any]) -> Any:
    values, index, name, about = plain
    return _told(_column(values, index, name), about)


def _column(values: list[Any], index: Any, name: Any = None) -> Any:
    array = _values_together(values)
    return pd.Series(array, index=index, name=name, dtype=array.dtype, copy=False)


def _frame_apart(frame: Any) -> list[Any]:
    columns = [_values_apart(frame.iloc[:, place].array) for place in range(frame.shape[1])]
    return [columns, frame.index, frame.columns, _about(frame)]


def _frame_together(plain: list[Any]) -> Any:
    columns, index, names, about = plain
    frame = pd.DataFrame(
        {place: _column(values, index) for place, values in enumerate(columns)}, index=index, copy=False
    )
    frame.columns = names
    return _told(frame, about)


def _timestamp_apart(moment: Any) -> list[Any]:
    return [moment.asm8, zone_apart(moment.tz)]


def _timestamp_together(plain: list[Any]) -> Any:
    moment, zone = plain
    made = pd.Timestamp(moment)
    return made if zone is None else made.tz_localize("UTC").tz_convert(zone_together(zone))


_FRAME: Final = ExtensionType(48, pd.DataFrame, _frame_apart, _frame_together)
_SERIES: Final = ExtensionType(49, pd.Series, _series_apart, _series_together)
_INDEX: Final = ExtensionType(50, pd.Index, _index_apart, _index_together)
_EXTENSIONS: Final = (
    _FRAME,
    _SERIES,
    _INDEX,
    ExtensionType(51, pd.Timestamp, _timestamp_apart, _timestamp_together),
    ExtensionType(52, pd.Timedelta, lambda span: [span.asm8], lambda plain: pd.Timedelta(plain[0])),
    ExtensionType(53, type(pd.NaT), lambda _: None, lambda _: pd.NaT),
    ExtensionType(54, type(pd.NA), lambda _: None, lambda _: pd.NA),
)
EXTENSION_BY_CODE: Final = {kind.code: kind for kind in _EXTENSIONS}
_EXTENSION_BY_TYPE: Final = {
    **{kind.type: kind for kind in _EXTENSIONS},
    **dict.fromkeys((*_PLAIN_INDEXES, *_TIMED_INDEXES, pd.RangeIndex, pd.MultiIndex), _INDEX),
}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the kind of values of exactly this type, or None: subclasses would come back as another type."""
    return _EXTENSION_BY_TYPE.get(of)
