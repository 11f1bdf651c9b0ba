"""The kinds of NumPy: arrays, whose memory is the buffer they were fetched into, and scalars. Its only importer.

An array travels as its dtype, its shape, its order in memory and its elements. dtypes are spelled as NumPy does
(`<f8`), structured ones as the mapping that `numpy.dtype` takes. Part of the wire format.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .buffers import Buffer
from .extension_types import ExtensionType, ExtensionTypeError

_EXTENSIONS_OF_DTYPE: Final = frozenset("biufcSUVmM")
_LONG_DOUBLES: Final = frozenset("gG")


def _spelled(dtype: np.dtype[Any]) -> Any:
    """Return the dtype as plain values, or raise `ExtensionTypeError`."""
    if dtype.metadata is not None:
        raise ExtensionTypeError("its dtype carries metadata, which would be lost")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_spelled(base), list(shape)]
    if dtype.fields is not None:
        return _fields(dtype)
    if dtype.hasobject:
        raise ExtensionTypeError(
            f"its dtype {dtype} refers to objects: convert it to a dtype of fixed size, or use tolist()"
        )
    if dtype.char in _LONG_DOUBLES:
        raise ExtensionTypeError(
            f"its dtype {dtype} is another on other machines: use astype(numpy.float64) or complex128"
        )
    # The second spelling is for C types of equal size, of which the first names only one.
    for spelling in (dtype.str, dtype.str[0] + dtype.char):
        if dtype.kind in _EXTENSIONS_OF_DTYPE and np.dtype(spelling) == dtype and np.dtype(spelling).type is dtype.type:
            return spelling
    raise ExtensionTypeError(f"its dtype {dtype} is not one of NumPy's own: use astype()")


def _fields(dtype: np.dtype[Any]) -> dict[str, Any]:
    fields = [dtype.fields[name] for name in dtype.names or ()]  # type: ignore[index]
    titles = [(*field, None)[2] for field in fields]
    if not all(title is None or type(title) is str for title in titles):
        raise ExtensionTypeError("a title of its dtype is no str")
    return {
        "names": list(dtype.names or ()),
        "formats": [_spelled(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": titles,
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _dtype(spelled: Any) -> np.dtype[Any]:
    if isinstance(spelled, str):
        dtype = np.dtype(spelled)
    elif isinstance(spelled, list):
        base, shape = spelled
        dtype = np.dtype((_dtype(base), tuple(shape)))
    else:
        fields = {**spelled, "formats": [*map(_dtype, spelled["formats"])]}
        aligned = fields.pop("aligned")
        dtype = np.dtype(fields, align=aligned)  # type: ignore[call-overload]
    if dtype.hasobject:
        # NumPy would take the bytes for addresses.
        raise ValueError(f"an array of dtype {dtype} never travels")
    return dtype


def _array_apart(array: np.ndarray[Any, Any]) -> list[Any]:
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return [_spelled(array.dtype), list(array.shape), "F" if is_fortran else "C", _buffer(array, is_fortran=is_fortran)]


def _buffer(array: np.ndarray[Any, Any], *, is_fortran: bool) -> Buffer:
    def fill(place: memoryview) -> None:
        _copy(array, np.ndarray(array.shape, array.dtype, buffer=place, order="F" if is_fortran else "C"))

    return Buffer(array.nbytes, fill)


def _copy(array: np.ndarray[Any, Any], into: np.ndarray[Any, Any]) -> None:
    """Copy the elements field by field, so that what lies between fields stays zero: NumPy may copy that as well."""
    if array.dtype.names is None:
        np.copyto(into, array)
        return
    for name in array.dtype.names:
        _copy(array[name], into[name])


def _array_together(plain: list[Any]) -> np.ndarray[Any, Any]:
    spelled, shape, order, buffer = plain
    array: np.ndarray[Any, Any] = np.ndarray(tuple(shape), _dtype(spelled), buffer=buffer, order=order)
    if list(array.shape) != shape or array.nbytes != len(buffer):
        raise ValueError(f"the elements of an array of shape {shape} are not all there")
    if not array.flags.aligned:
        # Some would take it as it is, NumPy at a price; but what is compiled may rely on it.
        array = array.copy(order="K")
    array.flags.writeable = False
    return array


def _scalar_apart(scalar: np.generic) -> list[Any]:
    # As the str and the bytes they are: NumPy's own ways drop the zeros at their end.
    if isinstance(scalar, np.str_ | np.bytes_):
        return [scalar.dtype.char, scalar[:]]
    known = _SPELLED_SCALARS.get(type(scalar))
    if known is not None:
        return [known, scalar.tobytes()]
    content = bytearray(scalar.nbytes)
    _buffer(np.asarray(scalar), is_fortran=False).fill(memoryview(content))
    return [_spelled(scalar.dtype), bytes(content)]


def _scalar_together(plain: list[Any]) -> Any:
    spelled, content = plain
    if spelled == "U":
        return np.str_(content)
    if spelled == "S":
        return np.bytes_(content)
    return np.ndarray((), _dtype(spelled), buffer=content)[()]


_ARRAY: Final = ExtensionType(32, np.ndarray, _array_apart, _array_together, is_buffered=True)
_SCALAR: Final = ExtensionType(33, np.generic, _scalar_apart, _scalar_together)
_SCALAR_TYPES: Final = frozenset(np.sctypeDict.values())
# Those whose type says it all; a value may hold many.
_SPELLED_SCALARS: Final[dict[type[Any], str]] = {
    of: _spelled(np.dtype(of))
    for of in _SCALAR_TYPES
    if issubclass(of, np.number | np.bool_)
    and not issubclass(of, np.timedelta64)
    and np.dtype(of).char not in _LONG_DOUBLES
}

EXTENSION_BY_CODE: Final = {kind.code: kind for kind in (_ARRAY, _SCALAR)}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the kind of values of exactly this type, or None: subclasses would come back as another type."""
    if of is np.ndarray:
        return _ARRAY
    return _SCALAR if of in _SCALAR_TYPES else None
