"""Values to bytes and back, exactly: msgpack behind a checksummed header. The only importer of msgpack.

An encoded value is a header and a payload. The header is big-endian: magic (4 bytes), version (1), flags
(1, none defined yet), length of the payload (8), checksum of the payload (16). The payload is msgpack; what
msgpack does not know or cannot tell apart is an extension, whose code stands in `kinds`.
"""

from __future__ import annotations

import gc
import hashlib
import struct
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from functools import partial
from itertools import compress
from typing import Any, Final
from zoneinfo import ZoneInfoNotFoundError

import msgpack  # type: ignore[import-untyped]
import xxhash

from .errors import CorruptObject, Unencodable
from .kinds import KIND_BY_CODE, KIND_BY_TYPE, Kind, KindError
from .survey import MAX_DEPTH, Survey, fits

_MAGIC: Final = b"\x9fobj"
_VERSION: Final = 1
_HEADER: Final = struct.Struct(">4sBBQ16s")
_CHECKSUM_BYTES: Final = 16
_NESTED_BUFFER_BYTES: Final = 1024
_OR_UPGRADE: Final = "corrupt, or written by a newer fanout: upgrade"

# The packer takes these for bytes or for extensions of its own and asks nobody: their type would be lost.
_DISGUISED: Final = frozenset({bytearray, memoryview, msgpack.ExtType, msgpack.Timestamp})
_DISGUISES: Final = tuple(bytes([marker]) for marker in (*range(0xC4, 0xCA), *range(0xD4, 0xD9)))
_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset, Counter, OrderedDict, defaultdict, deque})


def encode(value: object, *, path: str = "value", default: Callable[[object], object] | None = None) -> bytes:
    """Return bytes from which `decode` makes an equal value of equal types, all the way down.

    What travels: None, bool, int, float, complex, str (lone surrogates included), bytes, bytearray,
    list, tuple, dict, set, frozenset, deque, Counter, OrderedDict, defaultdict of a builtin, range,
    datetime, date, time, timedelta, Decimal, Fraction, UUID. Exact types only: a subclass would come
    back as its base. Nothing is pickled. Equal steps give equal bytes: dicts keep their order, members
    of sets are sorted. 100 levels of nesting travel; more may be refused.

    Memory: about twice the size of the result, while it is made.

    Args:
        value: What to encode.
        path: What to call it in an error.
        default: Called with each object that does not travel, once; returns what travels in its place
            (and comes back from `decode`), or raises TypeError. Its other errors pass through.

    Raises:
        Unencodable: Something in it does not travel; `path` names it, such as `value.rows[3]`.
    """
    return seal(Encoder(default).pack(value, path=path))


def decode(data: bytes | bytearray | memoryview, *, key: str | None = None) -> Any:
    """Return the value that `encode` or `SequenceEncoder` was given.

    Verifies magic, version, length and checksum before it reads the value. Safe on bytes of any origin:
    none of their code runs, and no container they announce is made larger than their number allows.

    Args:
        data: All the bytes, exactly.
        key: Where they come from, for the error.

    Raises:
        CorruptObject: These are not whole bytes that `encode` made, or a newer version made them.
    """
    name = f"the object at {key!r}" if key is not None else "the object"
    whole = memoryview(data).cast("B")
    if bytes(whole[: len(_MAGIC)]) != _MAGIC[: len(whole)] or not len(whole):
        raise CorruptObject(f"{name} is no encoded value: it begins otherwise", key=key)
    if len(whole) < _HEADER.size:
        raise CorruptObject(f"{name} is cut short within its header", key=key)
    _, version, flags, length, expected = _HEADER.unpack_from(whole)
    if version != _VERSION or flags:
        raise CorruptObject(f"{name} has format version {version}, flags {flags}: {_OR_UPGRADE}", key=key)
    payload = whole[_HEADER.size :]
    if len(payload) != length:
        raise CorruptObject(f"{name} has {len(payload)} bytes of payload where {length} were written", key=key)
    if xxhash.xxh3_128_digest(payload) != expected:
        raise CorruptObject(f"{name} is not what was written: its digest differs", key=key)
    try:
        return _unpack(payload, depth=0)
    except ZoneInfoNotFoundError as error:
        remedy = "Install the package tzdata here."
        raise CorruptObject(f"{name} names a time zone unknown here: {error}", key=key, remedy=remedy) from error
    except Exception as error:
        # The checksum is right, so this was written on purpose; what hostile bytes can raise has no end.
        raise CorruptObject(f"{name} cannot be read ({type(error).__name__}): {_OR_UPGRADE}", key=key) from error


def digest(data: bytes | bytearray | memoryview) -> str:
    """Return the name by which content may be kept: BLAKE2b of 16 bytes, as 32 hex digits.

    Nobody can make other content of the same name on purpose. About 1 GB/s; to notice damage, `checksum` will do.
    """
    return hashlib.blake2b(data, digest_size=_CHECKSUM_BYTES).hexdigest()


def checksum(data: bytes | bytearray | memoryview) -> str:
    """Return what tells damaged bytes from those that were written: XXH3 of 128 bits, as 32 hex digits.

    Ten times as fast as `digest`, and no protection against somebody who makes other bytes fit it.
    """
    return xxhash.xxh3_128_hexdigest(data)


def seal(*parts: bytes | bytearray) -> bytes:
    """Return the payload, given in parts, behind its header."""
    total = xxhash.xxh3_128()
    for part in parts:
        total.update(part)
    header = _HEADER.pack(_MAGIC, _VERSION, 0, sum(map(len, parts)), total.digest())
    return b"".join((header, *parts))


def array_header(members: int) -> bytes:
    """Return what stands in front of the packed members of a list."""
    return bytes(msgpack.Packer(buf_size=16).pack_array_header(members))


class Encoder:
    """Packs values one after the other, without header. Not for use from several threads.

    The packer written in C does the work, and asks here about what it does not know. Only where it
    fails, or may have been deceived, is the value walked in Python.
    """

    def __init__(self, default: Callable[[object], object] | None = None) -> None:
        self._default = default
        self._replaced: dict[int, tuple[object, object]] = {}
        self._packers: list[msgpack.Packer] = []
        self._depth = 0

    def pack(self, value: object, *, path: str) -> bytes:
        """Return the packed value.

        Raises:
            Unencodable: Something in it does not travel.
        """
        try:
            return self._pack_quickly(value) or self._pack_slowly(value, path)
        finally:
            self._replaced = {}

    def _pack_quickly(self, value: object) -> bytes | None:
        try:
            packed = self._pack(value)
        except (TypeError, ValueError, OverflowError, RecursionError, KindError):
            # The packer cannot say where it failed. Whatever was wrong, the survey meets it again.
            return None
        if not any(marker in packed for marker in _DISGUISES):
            return packed
        return None if _holds_disguised([value, *(new for _, new in self._replaced.values())]) else packed

    def _pack_slowly(self, value: object, path: str) -> bytes:
        survey = Survey(extend=_extended_exactly, replace=self._replacement)
        try:
            return _pack_exactly(survey.spell_out(value, path=path))
        except RecursionError as error:
            raise Unencodable(
                f"{path} is nested too deeply for what is left of the stack", path=path, remedy="Flatten it first."
            ) from error

    def _pack(self, value: object) -> bytes:
        if self._depth == len(self._packers):
            if self._depth > MAX_DEPTH:
                raise RecursionError
            size = {"buf_size": _NESTED_BUFFER_BYTES} if self._depth else {}
            self._packers.append(msgpack.Packer(default=self._extended, strict_types=True, **size))
        packer = self._packers[self._depth]
        self._depth += 1
        try:
            return bytes(packer.pack(value))
        finally:
            self._depth -= 1

    def _extended(self, value: object) -> object:
        kind = KIND_BY_TYPE.get(type(value))
        if kind is None:
            value = self._replacement(value)
            kind = KIND_BY_TYPE.get(type(value))
        if kind is None or (type(value) is int and fits(value)):
            return value
        return _extension(kind, kind.take_apart(value), self._pack)

    def _replacement(self, value: object) -> object:
        if self._default is None:
            raise KindError
        # Remembered by identity, and kept alive, so that no other object can take the identity over.
        known = self._replaced.get(id(value))
        if known is None:
            try:
                known = self._replaced[id(value)] = (value, self._default(value))
            except TypeError as error:
                raise KindError(str(error)) from error
        if known[1] is value:
            raise KindError
        return known[1]


def _extension(kind: Kind, plain: Any, pack: Callable[[Any], bytes]) -> msgpack.ExtType:
    if not kind.is_unordered:
        return msgpack.ExtType(kind.code, pack(plain))
    members = sorted(map(pack, plain))
    return msgpack.ExtType(kind.code, b"".join((array_header(len(members)), *members)))


def _extended_exactly(kind: Kind, plain: Any) -> msgpack.ExtType:
    return _extension(kind, plain, _pack_exactly)


def _pack_exactly(tree: Any) -> bytes:
    # Lone surrogates are rare, and a packer that allows for them is slower: hence only here.
    packer = msgpack.Packer(strict_types=True, unicode_errors="surrogatepass", buf_size=_NESTED_BUFFER_BYTES)
    return bytes(packer.pack(tree))


def _holds_disguised(values: list[object]) -> bool:
    # Level by level, in C: several times faster than a walk in Python, and most values pass through here.
    # It ends because these values have been packed: they have no cycles.
    level = values
    while level:
        types = [*map(type, level)]
        if not _DISGUISED.isdisjoint(types):
            return True
        level = gc.get_referents(*compress(level, map(_CONTAINERS.__contains__, types)))
    return False


def _unpack(packed: bytes | memoryview, *, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise RecursionError
    return msgpack.unpackb(
        packed,
        strict_map_key=False,
        unicode_errors="surrogatepass",
        ext_hook=partial(_put_together, depth=depth + 1),
    )


def _put_together(code: int, packed: bytes, *, depth: int) -> Any:
    return KIND_BY_CODE[code].put_together(_unpack(packed, depth=depth))
