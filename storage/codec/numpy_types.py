"""Extension types for NumPy: arrays, which use the memory that was fetched, and scalars. Imports NumPy.

An array travels as its dtype, its shape, its order in memory and its elements. dtypes are spelled as NumPy does
(`<f8`), structured ones as the mapping that `numpy.dtype` takes. Part of the wire format.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from .buffers import Buffer
from .extension import ExtensionType, ExtensionTypeError

_DTYPE_KINDS: Final = frozenset("biufcSUVmM")
_LONG_DOUBLES: Final = frozenset("gG")
_SPELLING: Final = re.compile(r"[<>|=][A-Za-z?][0-9]{0,10}(\[[0-9A-Za-z]{1,16}\])?")

_FIELDS: Final = {"names": (str,), "offsets": (int,), "titles": (str, type(None))}
"""Attributes of a dtype's fields -> the types that they have."""


def _spell(dtype: np.dtype[Any]) -> Any:
    """Return the dtype as plain values.

    Raises:
        ExtensionTypeError: It does not travel.
    """
    if dtype.metadata is not None:
        raise ExtensionTypeError("its dtype carries metadata, which would be lost")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_spell(base), list(shape)]
    if dtype.fields is not None:
        return _spell_fields(dtype)
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
        if dtype.kind in _DTYPE_KINDS and np.dtype(spelling) == dtype and np.dtype(spelling).type is dtype.type:
            return spelling
    raise ExtensionTypeError(f"its dtype {dtype} is not one of NumPy's own: use astype()")


def _spell_fields(dtype: np.dtype[Any]) -> dict[str, Any]:
    fields = [dtype.fields[name] for name in dtype.names or ()]  # type: ignore[index]
    titles = [(*field, None)[2] for field in fields]
    if not all(title is None or type(title) is str for title in titles):
        raise ExtensionTypeError("a title of its dtype is no str")
    return {
        "names": list(dtype.names or ()),
        "formats": [_spell(field[0]) for field in fields],
        "offsets": [field[1] for field in fields],
        "titles": titles,
        "itemsize": dtype.itemsize,
        "aligned": dtype.isalignedstruct,
    }


def _read_dtype(spelled: Any) -> np.dtype[Any]:
    if type(spelled) is str:
        if _SPELLING.fullmatch(spelled) is None:
            # NumPy has a language of its own for these.
            raise ValueError("a dtype is spelled otherwise")
        dtype = np.dtype(spelled)
    elif type(spelled) is list:
        base, shape = spelled
        dtype = np.dtype((_read_dtype(base), _read_numbers(shape)))
    else:
        fields = {**spelled, "formats": [*map(_read_dtype, spelled["formats"])]}
        aligned = fields.pop("aligned")
        for name, types in _FIELDS.items():
            listed = fields[name]
            if type(listed) is not list or len(listed) != len(fields["formats"]):
                raise ValueError(f"the {name} of a dtype are no list")
            if not all(type(each) in types for each in listed):
                raise ValueError(f"the {name} of a dtype have other types")
        # NumPy takes what has a truth, or is like a number.
        if type(aligned) is not bool or type(fields["itemsize"]) is not int:
            raise ValueError("aligned and itemsize of a dtype have other types")
        dtype = np.dtype(fields, align=aligned)  # type: ignore[call-overload]
    if dtype.hasobject:
        # NumPy would take the bytes for addresses.
        raise ValueError(f"an array of dtype {dtype} never travels")
    return dtype


def _read_numbers(plain: Any) -> tuple[int, ...]:
    if type(plain) is not list or not all(type(number) is int for number in plain):
        raise ValueError("a shape is no list of numbers")
    return tuple(plain)


def _take_apart_array(array: np.ndarray[Any, Any]) -> list[Any]:
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    return [
        _spell(array.dtype),
        list(array.shape),
        "F" if is_fortran else "C",
        _new_buffer(array, is_fortran=is_fortran),
    ]


def _new_buffer(array: np.ndarray[Any, Any], *, is_fortran: bool) -> Buffer:
    def fill(view: memoryview) -> None:
        _copy_elements(array, np.ndarray(array.shape, array.dtype, buffer=view, order="F" if is_fortran else "C"))

    return Buffer(array.nbytes, fill)


def _copy_elements(array: np.ndarray[Any, Any], into: np.ndarray[Any, Any]) -> None:
    """Copy the elements field by field, so that padding stays zero: NumPy may copy that as well."""
    if array.dtype.names is None:
        np.copyto(into, array)
        return
    for name in array.dtype.names:
        _copy_elements(array[name], into[name])


def _put_together_array(plain: list[Any]) -> np.ndarray[Any, Any]:
    spelled, shape, order, buffer = plain
    array: np.ndarray[Any, Any] = np.ndarray(_read_numbers(shape), _read_dtype(spelled), buffer=buffer, order=order)
    if list(array.shape) != shape or array.nbytes != len(buffer):
        raise ValueError(f"the elements of an array of shape {shape} are not all there")
    if not array.flags.aligned:
        # NumPy reads unaligned elements, slowly, but compiled code may rely on alignment.
        array = array.copy(order="K")
    array.flags.writeable = False
    return array


def _take_apart_scalar(scalar: np.generic) -> list[Any]:
    # As str and bytes: NumPy's own conversions drop the zeros at their end.
    if isinstance(scalar, np.str_ | np.bytes_):
        return [scalar.dtype.char, scalar[:]]
    spelled = _SPELLED_SCALARS.get(type(scalar))
    if spelled is not None:
        return [spelled, scalar.tobytes()]
    content = bytearray(scalar.nbytes)
    _new_buffer(np.asarray(scalar), is_fortran=False).fill(memoryview(content))
    return [_spell(scalar.dtype), bytes(content)]


def _put_together_scalar(plain: list[Any]) -> Any:
    spelled, content = plain
    if spelled == "U" and type(content) is str:
        return np.str_(content)
    if type(content) is not bytes:
        # NumPy would make as many zeros as a number says.
        raise ValueError("a scalar has no bytes")
    if spelled == "S":
        return np.bytes_(content)
    return np.ndarray((), _read_dtype(spelled), buffer=content)[()]


_ARRAY: Final = ExtensionType(
    32, np.ndarray, _take_apart_array, _put_together_array, is_buffered=True, form=(object, list, str, object)
)
_SCALAR: Final = ExtensionType(33, np.generic, _take_apart_scalar, _put_together_scalar, form=(object, object))
_SCALAR_TYPES: Final = frozenset(np.sctypeDict.values())
# Scalars whose type determines the dtype, spelled in advance: a value may hold many.
_SPELLED_SCALARS: Final[dict[type[Any], str]] = {
    of: _spell(np.dtype(of))
    for of in _SCALAR_TYPES
    if issubclass(of, np.number | np.bool_)
    and not issubclass(of, np.timedelta64)
    and np.dtype(of).char not in _LONG_DOUBLES
}

EXTENSION_BY_CODE: Final = {extension.code: extension for extension in (_ARRAY, _SCALAR)}


def extension_type_of(of: type[Any]) -> ExtensionType | None:
    """Return the extension type for values of exactly this type, or None: subclasses would come back as another."""
    if of is np.ndarray:
        return _ARRAY
    return _SCALAR if of in _SCALAR_TYPES else None
