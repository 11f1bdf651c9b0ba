"""The envelope of an encoded value: a checksummed header, and optional zstd compression of the body.

The header is big-endian: magic (4 bytes), version (1), flags (1), length of the body (8), checksum of the stored body,
seeded with the flags (16). The flags are:

- 1: The body is compressed, and the length is the one before compression.
- 2: Buffers are outside the payload (see `buffers`).
- 4: Values are in another object (see `references`).

A body without flags is all payload. A reader refuses flags that it does not know.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Final, Literal, get_args

from ..errors import CorruptObject, UnknownKey
from ..hashing import raw_checksum
from ..object_store import Content
from ..sealing import is_sealed
from . import compression as zstd

Compression = Literal["none", "zstd"]
COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)

HEADER: Final = struct.Struct(">4sBBQ16s")
COMPRESSED: Final = 1
OUT_OF_BAND: Final = 2
REFERENCES: Final = 4
DECODED_BYTES: Final = 4 * 2**30
"""Size up to which a compressed value may grow, unless its reader allows more."""

_MAGIC: Final = b"\x9fobj"
_VERSION: Final = 1
_OR_UPGRADE: Final = "corrupt, or written by a newer fanout: upgrade"
# Smaller bodies, and larger ratios, save too few bytes for the time.
_WORTH_TRYING_BYTES: Final = 512
_WORTH_KEEPING: Final = 7 / 8


def new_stream() -> BytesIO:
    """Return a stream positioned after an empty header, for the body."""
    stream = BytesIO()
    stream.write(bytes(HEADER.size))
    return stream


def seal_stream(stream: BytesIO, *, flags: int = 0, compression: Compression = "none") -> bytes:
    """Return the bytes of the stream with the header filled in. The stream is of no further use.

    Copies nothing, unless it compresses; see `seal`.

    Raises:
        ValueError: There is no such compression.
        MissingPackage: zstd is asked for and not installed.
    """
    with stream.getbuffer() as whole:
        sealed = seal(whole, flags=flags, compression=compression)
        if isinstance(sealed, bytes):
            return sealed
    # A BytesIO returns its own bytes, without a copy, once no view of them exists.
    return stream.getvalue()


def seal(whole: memoryview, *, flags: int = 0, compression: Compression = "none") -> memoryview | bytes:
    """Fill in the header of a value, and return the value, or compressed bytes if they are much smaller.

    While compressing, both forms are held. A body that zstd makes hardly smaller stays as it is.

    Args:
        whole: An empty header, and then the body.
        flags: Flags of the body.
        compression: The compression to try.

    Raises:
        ValueError: There is no such compression.
        MissingPackage: zstd is asked for and not installed.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression must be 'none' or 'zstd', not {compression!r}")
    with whole[HEADER.size :] as body:
        if compression == "zstd" and len(body) >= _WORTH_TRYING_BYTES:
            smaller = zstd.compress(body)
            if len(smaller) <= len(body) * _WORTH_KEEPING:
                return _header(flags | COMPRESSED, len(body), smaller) + smaller
        whole[: HEADER.size] = _header(flags, len(body), body)
    return whole


def unseal(
    data: bytes | bytearray | memoryview, *, name: str, key: str | None, limit_bytes: int
) -> tuple[memoryview, int]:
    """Return the whole value, decompressed and read-only, and its flags.

    Verifies magic, version, flags, length and checksum first. The body begins at `HEADER.size`, compressed or not, so
    that its alignment is the same in both cases.

    Raises:
        CorruptObject: The bytes are not exactly those that `seal` made, a newer version made them, or they state a
            length above `limit_bytes`.
        MissingPackage: They are compressed, and zstd is not installed.
        UnknownKey: They are sealed.
    """
    whole = memoryview(data).cast("B").toreadonly()
    if is_sealed(whole):
        raise UnknownKey(f"{name} is sealed, and this process has no encryption_keys", key=key)
    if bytes(whole[: len(_MAGIC)]) != _MAGIC[: len(whole)] or not len(whole):
        raise CorruptObject(f"{name} is no encoded value: it begins otherwise", key=key)
    if len(whole) < HEADER.size:
        raise CorruptObject(f"{name} is cut short within its header", key=key)
    _, version, flags, length, expected = HEADER.unpack_from(whole)
    if version != _VERSION or flags & ~(COMPRESSED | OUT_OF_BAND | REFERENCES):
        raise CorruptObject(f"{name} has format version {version}, flags {flags}: {_OR_UPGRADE}", key=key)
    body = whole[HEADER.size :]
    if not flags & COMPRESSED and len(body) != length:
        raise CorruptObject(f"{name} has {len(body)} bytes of payload where {length} were written", key=key)
    if raw_checksum(body, seed=flags) != expected:
        raise CorruptObject(f"{name} is not what was written: its checksum differs", key=key)
    if flags & COMPRESSED:
        if length > limit_bytes:
            raise CorruptObject(
                f"{name} says that it is {length} bytes when decompressed, and {limit_bytes} are allowed",
                key=key,
                remedy="If that is its true size, allow more (limit_bytes), or write it as several smaller values.",
            )
        whole = _decompress(body, length, name=name, key=key)
    return whole, flags


def is_encoded(data: Content) -> bool:
    """Return whether these are the first bytes of a value that this package has encoded; 4 bytes are enough."""
    return bytes(data[: len(_MAGIC)]) == _MAGIC


def is_plain(data: Content) -> bool:
    """Return whether a value that `unseal` accepted is all payload, uncompressed."""
    return len(data) >= HEADER.size and not HEADER.unpack_from(data)[2]


def unreadable_error(name: str, error: Exception, *, key: str | None) -> CorruptObject:
    """Return the error for bytes with a valid checksum that cannot be read: they were made on purpose."""
    return CorruptObject(f"{name} cannot be read ({type(error).__name__}): {_OR_UPGRADE}", key=key)


def _header(flags: int, length: int, body: bytes | memoryview) -> bytes:
    return HEADER.pack(_MAGIC, _VERSION, flags, length, raw_checksum(body, seed=flags))


def _decompress(body: memoryview, length: int, *, name: str, key: str | None) -> memoryview:
    try:
        return memoryview(zstd.decompress(body, length=length, reserve_bytes=HEADER.size)).toreadonly()
    except zstd.DecompressionError as error:
        raise unreadable_error(name, error, key=key) from error
    except MemoryError as error:
        raise CorruptObject(
            f"{name} is {length} bytes when decompressed, and this process has no room for them",
            key=key,
            remedy="Give the process more memory, or write it as several smaller values.",
        ) from error
