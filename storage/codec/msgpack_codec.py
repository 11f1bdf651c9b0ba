"""Values to bytes and back, exactly: msgpack in an `envelope`.

Values that msgpack does not know or cannot tell apart become extensions, with codes from `extension_types`. The
elements of large arrays are out-of-band buffers, which decoding can use where they are.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any, Final
from zoneinfo import ZoneInfoNotFoundError

import msgpack  # type: ignore[import-untyped]

from ..errors import CorruptObject, MissingPackage, Unencodable, UnknownType
from .buffers import OutOfBandBuffers, align, buffer_at, split_body, write_offsets
from .diagnose import MAX_DEPTH, Diagnosis, fits_msgpack
from .envelope import (
    DECODED_BYTES,
    HEADER,
    OUT_OF_BAND,
    REFERENCES,
    Compression,
    new_stream,
    seal_stream,
    unreadable_error,
    unseal,
)
from .extension import ExtensionType, ExtensionTypeError
from .extension_types import extension_type_of, extension_type_of_code
from .incremental import write_incrementally
from .references import FetchRange, ReferencedRange, ReferencedValues, read_range
from .scan import SCANNED_BYTES, scan

_PACKER_BYTES: Final = 16 * 1024
_NESTED_PACKER_BYTES: Final = 1024
REFUSALS: Final = (TypeError, ValueError, BufferError, OverflowError, RecursionError, ExtensionTypeError)
"""Errors of `Encoder.pack_quickly` where a value cannot travel, or only by the slow path."""


def encode(
    value: object,
    *,
    path: str = "value",
    default: Callable[[object], object] | None = None,
    compression: Compression = "none",
) -> bytes:
    """Return bytes from which `decode` makes an equal value of equal types, all the way down.

    These travel: None, bool, int, float, complex, str (lone surrogates included), bytes, list, tuple, dict, set,
    frozenset, deque, Counter, OrderedDict, defaultdict of a builtin, range, UserDict, UserList, ChainMap,
    MappingProxyType, array.array, datetime, date, time, timedelta, Decimal, Fraction, UUID, paths; NumPy's arrays of
    any dtype of fixed size, except long double, and its scalars; Arrow's tables, record batches, arrays and chunked
    arrays; pandas' frames, series and indexes; values of classes that `register_type` knows. A bytearray or memoryview
    arrives as bytes.

    Exact types only: a subclass would come back as its base. The packer does not ask about classes of msgpack itself,
    so an `ExtType` comes back as the value that its code means. Nothing is pickled. Equal steps give equal bytes: dicts
    keep their order, members of sets are sorted. 100 levels of nesting travel, more may be refused.

    Memory: the result and about a megabyte, if the large parts of the value are str, bytes, arrays of NumPy or Arrow,
    or lists or dicts of these. Other large parts, such as a tuple, are held twice more while they are packed.
    Compression holds the result before and after.

    Args:
        value: The value to encode.
        path: Its name in errors.
        default: Called once with each object that does not travel. It returns a value that travels instead (and comes
            back from `decode`), or raises TypeError. Its other errors pass through.
        compression: "zstd" compresses, at level 1, where that saves an eighth. Equal values then give equal bytes only
            with the same version of zstd.

    Raises:
        Unencodable: Something in it does not travel. Its `path` names it, such as `value.rows[3]`.
        MissingPackage: zstd is asked for and not installed.
    """
    encoder = Encoder(default)
    stream = new_stream()
    encoder.write(value, stream, lambda: path)
    if not encoder.buffers.size:
        return seal_stream(stream, compression=compression)
    end = stream.tell()
    buffers = align(end)
    encoder.buffers.write_to(stream, start=buffers)
    write_offsets(stream, payload=(HEADER.size, end), buffers=buffers)
    return seal_stream(stream, flags=OUT_OF_BAND, compression=compression)


def decode(
    data: bytes | bytearray | memoryview,
    *,
    key: str | None = None,
    limit_bytes: int = DECODED_BYTES,
    fetch_range: FetchRange | None = None,
) -> Any:
    """Return the value that `encode` or `SequenceEncoder` was given.

    Verifies magic, version, length and checksum before it reads the value. Safe on bytes of any origin: no code from
    them runs, and all containers that they announce are together no larger than the number of their bytes. Memory: up
    to about a hundred times the decompressed bytes, for forged ones that hold nothing but small containers.

    Arrays of NumPy (from 512 bytes on) and Arrow are views of `data`. They are not copied, are read-only
    (`array.copy()` to write), and keep all of `data` alive. An array of NumPy may be copied to align it where `data`
    does not begin at a multiple of 16 bytes, as every bytes object does.

    Args:
        data: All the bytes, exactly. They must not change while an array of theirs is in use.
        key: The key that they come from, for errors.
        limit_bytes: How large a compressed value may become. Memory is allocated only then.
        fetch_range: Fetches the range of another object that a chunk refers to; called at most once.

    Raises:
        CorruptObject: The bytes are not exactly those that `encode` made, a newer version made them, or the range that
            they refer to has changed.
        UnknownType: They hold a value of a class that is not registered here, or has changed since.
        MissingPackage: They hold a value that needs a package that is not installed here.
        StorageError: Any error of `fetch_range`.
    """
    name = f"the object at {key!r}" if key is not None else "the object"
    whole, flags = unseal(data, name=name, key=key, limit_bytes=limit_bytes)
    referenced = ReferencedRange()
    if flags & REFERENCES:
        whole, referenced = read_range(whole, fetch_range=fetch_range, key=key)
    try:
        payload, buffers = split_body(whole, flags)
        return _unpack(payload, _External(buffers, referenced), depth=0)
    except ZoneInfoNotFoundError as error:
        remedy = "Install the package tzdata here."
        raise CorruptObject(f"{name} names a time zone unknown here: {error}", key=key, remedy=remedy) from error
    except UnknownType as error:
        message = f"{name} cannot be read: {error.args[0]}"
        raise type(error)(message, type_name=error.type_name, key=key, remedy=error.remedy) from error
    except MissingPackage as error:
        raise MissingPackage(f"{name} cannot be read: {error.args[0]}", extra=error.extra, key=key) from error
    except Exception as error:
        # Hostile bytes can raise any error.
        raise unreadable_error(name, error, key=key) from error


class Encoder:
    """Packs values one after the other, without header. Not for use from several threads.

    The packer written in C does the work, and calls this class for types that it does not know. Only where it fails is
    the value walked in Python.

    Attributes:
        buffers: The out-of-band buffers of the values, which the caller writes.
        pack_quickly: The packer itself, for an encoder without `default`. Where it raises, which may be one of
            `REFUSALS`, the caller rewinds the buffers; `pack` may then succeed, or names what does not travel.
    """

    def __init__(self, default: Callable[[object], object] | None = None) -> None:
        self.buffers = OutOfBandBuffers()
        self._default = default
        self._replaced: dict[int, tuple[object, object]] = {}
        self.pack_quickly: Callable[[object], bytes] = self._new_packer(_PACKER_BYTES).pack
        self._nested: list[msgpack.Packer] = []
        self._depth = 0

    def pack(self, value: object, name: Callable[[], str]) -> bytes:
        """Return the packed value.

        Args:
            value: The value to pack.
            name: Returns its name in errors. A function, because naming a million items takes time.

        Raises:
            Unencodable: Something in it does not travel. The buffers are as they were before.
        """
        size = self.buffers.size
        try:
            try:
                return self.pack_quickly(value)
            except REFUSALS:
                # The packer cannot say where it failed: the diagnosis meets the same value again.
                self.buffers.rewind(size)
            return self._pack_slowly(value, name())
        except BaseException:
            self.buffers.rewind(size)
            raise
        finally:
            if self._replaced:
                self._replaced = {}

    def write(self, value: object, stream: BytesIO, name: Callable[[], str]) -> None:
        """Write the packed value at the stream's position; large parts are written there directly.

        Raises:
            Unencodable: Something in it does not travel. Stream and buffers are as they were before.
        """
        start, size = stream.tell(), self.buffers.size
        try:
            try:
                write_incrementally(value, stream, pack=self.pack_quickly)
                return
            except REFUSALS:
                stream.seek(start)
                stream.truncate()
                self.buffers.rewind(size)
            stream.write(self._pack_slowly(value, name()))
        except BaseException:
            stream.seek(start)
            self.buffers.rewind(size)
            raise
        finally:
            if self._replaced:
                self._replaced = {}

    def _pack_slowly(self, value: object, path: str) -> bytes:
        diagnosis = Diagnosis(extend=self._extend_exactly, replace=self._replace)
        try:
            return _pack_exactly(diagnosis.spell_out(value, path=path))
        except RecursionError as error:
            raise Unencodable(
                f"{path} is nested too deeply for what is left of the stack", path=path, remedy="Flatten it first."
            ) from error
        except ExtensionTypeError as error:
            raise Unencodable(f"{path} cannot travel: {error}", path=path, remedy="Divide it first.") from error

    def _new_packer(self, buffer_bytes: int) -> msgpack.Packer:
        # A weak reference. Else encoder and packer would hold each other, and the packer's buffer, as large as the
        # largest value that it packed, would stay until the garbage collector runs.
        encoder = weakref.ref(self)

        def extend(value: object) -> object:
            living = encoder()
            assert living is not None
            return living._extend(value)

        return msgpack.Packer(default=extend, strict_types=True, buf_size=buffer_bytes)

    def _pack_nested(self, value: object) -> bytes:
        # The packer that calls is in the middle of its own value.
        if self._depth == len(self._nested):
            if self._depth >= MAX_DEPTH:
                raise RecursionError
            self._nested.append(self._new_packer(_NESTED_PACKER_BYTES))
        packer = self._nested[self._depth]
        self._depth += 1
        try:
            return bytes(packer.pack(value))
        finally:
            self._depth -= 1

    def _extend(self, value: object) -> object:
        extension = extension_type_of(type(value))
        if extension is None:
            value = self._replace(value)
            extension = extension_type_of(type(value))
        if extension is None or (type(value) is int and fits_msgpack(value)):
            return value
        return self._new_extension(extension, extension.take_apart(value), self._pack_nested)

    def _extend_exactly(self, extension: ExtensionType, plain: Any) -> msgpack.ExtType:
        return self._new_extension(extension, plain, _pack_exactly)

    def _new_extension(self, extension: ExtensionType, plain: Any, pack: Callable[[Any], bytes]) -> msgpack.ExtType:
        if extension.is_buffered:
            plain = [*plain[:-1], self.buffers.reserve(plain[-1])]
        if not extension.is_unordered:
            return msgpack.ExtType(extension.code, pack(plain))
        members = sorted(map(pack, plain))
        return msgpack.ExtType(extension.code, b"".join((_array_header(len(members)), *members)))

    def _replace(self, value: object) -> object:
        if self._default is None:
            raise ExtensionTypeError
        # Remembered by identity, and kept alive, so that no other object can get the identity.
        replaced = self._replaced.get(id(value))
        if replaced is None:
            try:
                replaced = self._replaced[id(value)] = (value, self._default(value))
            except TypeError as error:
                raise ExtensionTypeError(str(error)) from error
        if replaced[1] is value:
            raise ExtensionTypeError
        return replaced[1]


def _array_header(members: int) -> bytes:
    return bytes(msgpack.Packer(buf_size=16).pack_array_header(members))


def _pack_exactly(tree: Any) -> bytes:
    # Lone surrogates are rare, and a packer that allows them is slower: hence only here.
    packer = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", buf_size=_NESTED_PACKER_BYTES)
    try:
        return bytes(packer.pack(tree))
    except (ValueError, OverflowError) as error:
        # Every other reason for a refusal has been spelled out before.
        raise ExtensionTypeError(f"something in it has a length of 4 GiB or more ({error})") from error


@dataclass(frozen=True, slots=True)
class _External:
    """Data of a value that is not in its payload."""

    buffers: memoryview
    referenced: ReferencedRange


def _unpack(packed: bytes | memoryview, external: _External, *, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecursionError
    if len(packed) > SCANNED_BYTES:
        scan(packed)
    return msgpack.unpackb(
        packed,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        # Its own type of timestamps, which this package never writes, comes back as a type that travels.
        timestamp=3,
        ext_hook=partial(_put_together, external=external, depth=depth + 1),
    )


def _put_together(code: int, packed: bytes, *, external: _External, depth: int) -> Any:
    extension = extension_type_of_code(code)
    plain = _unpack(packed, external, depth=depth)
    extension.check_form(plain)
    if extension.is_buffered:
        plain[-1] = buffer_at(plain[-1], external.buffers)
    value = extension.put_together(plain)
    return (
        _unpack(external.referenced.values_at(value), external, depth=depth)
        if type(value) is ReferencedValues
        else value
    )
