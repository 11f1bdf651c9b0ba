"""Values to bytes and back, exactly: msgpack in an `envelope`. The only importer of msgpack.

What msgpack does not know or cannot tell apart is an extension, whose code stands in `kinds`. The elements of large
arrays lie apart from the payload, in the `buffers`, so that decoding can use them where they are.
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
from .buffers import OutOfBandBuffers, buffer_at, buffers_start, parts, write_places
from .diagnose import MAX_DEPTH, Diagnosis, fits
from .envelope import DECODED_BYTES, HEADER, OUT_OF_BAND, REFERENCES, Compression, blank, seal, unreadable, unseal
from .extension_types import ExtensionType, ExtensionTypeError, extension_type_of, extension_type_of_code
from .incremental import write_in_pieces
from .references import FetchRange, Range, ReferencedValues, referenced_range

_PACKER_BYTES: Final = 16 * 1024
_NESTED_PACKER_BYTES: Final = 1024
# What the packer raises where a value cannot travel, or not the quick way.
_REFUSALS: Final = (TypeError, ValueError, BufferError, OverflowError, RecursionError, ExtensionTypeError)


def encode(
    value: object,
    *,
    path: str = "value",
    default: Callable[[object], object] | None = None,
    compression: Compression = "none",
) -> bytes:
    """Return bytes from which `decode` makes an equal value of equal types, all the way down.

    What travels: None, bool, int, float, complex, str (lone surrogates included), bytes, bytearray,
    list, tuple, dict, set, frozenset, deque, Counter, OrderedDict, defaultdict of a builtin, range,
    UserDict, UserList, ChainMap, MappingProxyType, array.array, datetime, date, time, timedelta, Decimal,
    Fraction, UUID, paths; NumPy's arrays of any dtype of fixed size, except long double, and its scalars;
    Arrow's tables, record batches, arrays and chunked arrays; pandas' frames, series and indexes; values of
    classes that `register_type` knows.
    Exact types only: a subclass would come back as its base. Nothing is pickled. Equal steps give equal
    bytes: dicts keep their order, members of sets are sorted. 100 levels of nesting travel; more may be
    refused.

    Memory: the result and about a megabyte, if what is large in the value is str, bytes, an array of
    NumPy or Arrow, or a list or dict of such things; other large things, such as a tuple, are held twice
    more while they are packed. Compression holds the result before and after.

    Args:
        value: What to encode.
        path: What to call it in an error.
        default: Called with each object that does not travel, once; returns what travels in its place
            (and comes back from `decode`), or raises TypeError. Its other errors pass through.
        compression: "zstd" compresses, at level 1, where that saves an eighth. Equal values then give
            equal bytes only where the same version of zstd compresses them.

    Raises:
        Unencodable: Something in it does not travel; `path` names it, such as `value.rows[3]`.
        MissingPackage: zstd is wanted and not installed.
    """
    encoder = Encoder(default)
    stream = blank()
    encoder.write(value, stream, lambda: path)
    if not encoder.buffers.size:
        return seal(stream, compression=compression)
    end = stream.tell()
    buffers = buffers_start(end)
    encoder.buffers.write_to(stream, start=buffers)
    write_places(stream, payload=(HEADER.size, end), buffers=buffers)
    return seal(stream, flags=OUT_OF_BAND, compression=compression)


def decode(
    data: bytes | bytearray | memoryview,
    *,
    key: str | None = None,
    limit_bytes: int = DECODED_BYTES,
    fetch_range: FetchRange | None = None,
) -> Any:
    """Return the value that `encode` or `SequenceEncoder` was given.

    Verifies magic, version, length and checksum before it reads the value. Safe on bytes of any origin:
    none of their code runs, and no container they announce is made larger than their number allows. One
    exception: a table that was forged to say that Arrow compressed it is inflated by Arrow, without limit.

    Arrays of NumPy (from 512 bytes on) and Arrow are views of `data`: nothing of them is copied, they are
    read-only (`array.copy()` to write), and each keeps all of `data` alive. Only where `data` does not begin
    at a multiple of 16 bytes, as every bytes object does, an array of NumPy may be copied to align it.

    Args:
        data: All the bytes, exactly. They must not change while an array of theirs is in use.
        key: Where they come from, for the error.
        limit_bytes: How large a compressed value may say that it becomes; memory is taken only then.
        fetch_range: Fetches what a chunk of `SequenceEncoder` borrows from another object; called at most once.

    Raises:
        CorruptObject: These are not whole bytes that `encode` made, a newer version made them, or what they borrow
            is not what was lent.
        UnknownType: They hold a value of a class that is not registered here, or has changed since.
        MissingPackage: They hold what needs a package that is not installed here.
        StorageError: What `fetch_range` raises.
    """
    name = f"the object at {key!r}" if key is not None else "the object"
    whole, flags = unseal(data, name=name, key=key, limit_bytes=limit_bytes)
    referenced = Range()
    if flags & REFERENCES:
        whole, referenced = referenced_range(whole, fetch_range=fetch_range, key=key)
    try:
        payload, buffers = parts(whole, flags)
        return _unpack(payload, _Elsewhere(buffers, referenced), depth=0)
    except ZoneInfoNotFoundError as error:
        remedy = "Install the package tzdata here."
        raise CorruptObject(f"{name} names a time zone unknown here: {error}", key=key, remedy=remedy) from error
    except UnknownType as error:
        message = f"{name} cannot be read: {error.args[0]}"
        raise type(error)(message, type_name=error.type_name, key=key, remedy=error.remedy) from error
    except MissingPackage as error:
        raise MissingPackage(f"{name} cannot be read: {error.args[0]}", extra=error.extra, key=key) from error
    except Exception as error:
        # What hostile bytes can raise has no end.
        raise unreadable(name, error, key=key) from error


class Encoder:
    """Packs values one after the other, without header. Not for use from several threads.

    The packer written in C does the work, and asks here about what it does not know. Only where it
    fails, or may have been deceived, is the value walked in Python.

    Attributes:
        buffers: Where the buffers of the values are to lie; the caller writes it.
    """

    def __init__(self, default: Callable[[object], object] | None = None) -> None:
        self.buffers = OutOfBandBuffers()
        self._default = default
        self._replaced: dict[int, tuple[object, object]] = {}
        self._pack = self._new_packer(_PACKER_BYTES).pack
        self._nested: list[msgpack.Packer] = []
        self._depth = 0

    def pack(self, value: object, name: Callable[[], str]) -> bytes:
        """Return the packed value.

        Args:
            value: What to pack.
            name: Gives what to call it in an error; a million names that nobody reads take their time.

        Raises:
            Unencodable: Something in it does not travel; the annex is as it was before.
        """
        size = self.buffers.size
        try:
            try:
                packed: bytes = self._pack(value)
                return packed
            except _REFUSALS:
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
        """Write the packed value where the stream stands; what is large goes there directly.

        Raises:
            Unencodable: Something in it does not travel; stream and annex stand where they did.
        """
        start, size = stream.tell(), self.buffers.size
        try:
            try:
                write_in_pieces(value, stream, pack=self._pack)
                return
            except _REFUSALS:
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
        diagnosis = Diagnosis(extend=self._extended_exactly, replace=self._replacement)
        try:
            return _pack_exactly(diagnosis.spell_out(value, path=path))
        except RecursionError as error:
            raise Unencodable(
                f"{path} is nested too deeply for what is left of the stack", path=path, remedy="Flatten it first."
            ) from error
        except ExtensionTypeError as error:
            raise Unencodable(f"{path} cannot travel: {error}", path=path, remedy="Divide it first.") from error

    def _new_packer(self, buffer_bytes: int) -> msgpack.Packer:
        # Weakly: else encoder and packer would hold each other, and the packer's buffer, which is as large as the
        # largest value that it packed, would stay until the garbage collector comes by.
        encoder = weakref.ref(self)

        def extended(value: object) -> object:
            asked = encoder()
            assert asked is not None
            return asked._extended(value)

        return msgpack.Packer(default=extended, strict_types=True, buf_size=buffer_bytes)

    def _pack_nested(self, value: object) -> bytes:
        # The packer that is asking is in the midst of its own value.
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

    def _extended(self, value: object) -> object:
        kind = extension_type_of(type(value))
        if kind is None:
            value = self._replacement(value)
            kind = extension_type_of(type(value))
        if kind is None or (type(value) is int and fits(value)):
            return value
        return self._extension(kind, kind.take_apart(value), self._pack_nested)

    def _extended_exactly(self, kind: ExtensionType, plain: Any) -> msgpack.ExtType:
        return self._extension(kind, plain, _pack_exactly)

    def _extension(self, kind: ExtensionType, plain: Any, pack: Callable[[Any], bytes]) -> msgpack.ExtType:
        if kind.is_buffered:
            plain = [*plain[:-1], self.buffers.place(plain[-1])]
        if not kind.is_unordered:
            return msgpack.ExtType(kind.code, pack(plain))
        members = sorted(map(pack, plain))
        return msgpack.ExtType(kind.code, b"".join((_array_header(len(members)), *members)))

    def _replacement(self, value: object) -> object:
        if self._default is None:
            raise ExtensionTypeError
        # Remembered by identity, and kept alive, so that no other object can take the identity over.
        known = self._replaced.get(id(value))
        if known is None:
            try:
                known = self._replaced[id(value)] = (value, self._default(value))
            except TypeError as error:
                raise ExtensionTypeError(str(error)) from error
        if known[1] is value:
            raise ExtensionTypeError
        return known[1]


def _array_header(members: int) -> bytes:
    return bytes(msgpack.Packer(buf_size=16).pack_array_header(members))


def _pack_exactly(tree: Any) -> bytes:
    # Lone surrogates are rare, and a packer that allows for them is slower: hence only here.
    packer = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", buf_size=_NESTED_PACKER_BYTES)
    try:
        return bytes(packer.pack(tree))
    except (ValueError, OverflowError) as error:
        # All else that the packer refuses has been spelled out before.
        raise ExtensionTypeError(f"something in it has a length of 4 GiB or more ({error})") from error


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """Where what is not in the payload lies."""

    buffers: memoryview
    referenced: Range


def _unpack(packed: bytes | memoryview, elsewhere: _Elsewhere, *, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecursionError
    return msgpack.unpackb(
        packed,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=partial(_put_together, elsewhere=elsewhere, depth=depth + 1),
    )


def _put_together(code: int, packed: bytes, *, elsewhere: _Elsewhere, depth: int) -> Any:
    kind = extension_type_of_code(code)
    plain = _unpack(packed, elsewhere, depth=depth)
    if kind.is_buffered:
        plain[-1] = buffer_at(plain[-1], elsewhere.buffers)
    value = kind.put_together(plain)
    return (
        _unpack(elsewhere.referenced.values_at(value), elsewhere, depth=depth)
        if type(value) is ReferencedValues
        else value
    )
