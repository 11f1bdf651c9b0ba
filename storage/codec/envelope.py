"""The envelope of an encoded value: a checksummed header, and on demand zstd around what it encloses.

The header is big-endian: magic (4 bytes), version (1), flags (1), length of the body (8), checksum of the body as it
is stored, seeded with the flags (16). Flags: 1, the body is compressed, and the length is the one before; 2, buffers
lie apart from the payload (see `annex`); 4, values lie in another object (see `loans`). A body without flags is all
payload. Whoever knows fewer flags refuses the others.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import Final, Literal, get_args

from ..errors import CorruptObject
from ..hashing import raw_checksum
from ..object_store import Content
from . import compression as zstd

Compression = Literal["none", "zstd"]
COMPRESSIONS: Final[tuple[Compression, ...]] = get_args(Compression)

HEADER: Final = struct.Struct(">4sBBQ16s")
COMPRESSED: Final = 1
OUT_OF_BAND: Final = 2
REFERENCES: Final = 4
DECODED_BYTES: Final = 4 * 2**30
"""What a compressed value may grow to, unless its reader allows more."""

_MAGIC: Final = b"\x9fobj"
_VERSION: Final = 1
_OR_UPGRADE: Final = "corrupt, or written by a newer fanout: upgrade"
# Below the one, and above the other, the bytes saved are not worth the time.
_WORTH_TRYING_BYTES: Final = 512
_WORTH_KEEPING: Final = 7 / 8


def blank() -> BytesIO:
    """Return a stream that stands behind the room for a header: write the body there."""
    stream = BytesIO()
    stream.write(bytes(HEADER.size))
    return stream


def seal(stream: BytesIO, *, flags: int = 0, compression: Compression = "none") -> bytes:
    """Return all of the stream, with the header filled in; the stream is of no further use.

    Nothing is copied, unless it is compressed; see `sealed`.

    Raises:
        ValueError: There is no such compression.
        MissingPackage: zstd is wanted and not installed.
    """
    with stream.getbuffer() as whole:
        done = sealed(whole, flags=flags, compression=compression)
        if isinstance(done, bytes):
            return done
    # A BytesIO gives away the very bytes it has grown, once nobody looks at them.
    return stream.getvalue()


def sealed(whole: memoryview, *, flags: int = 0, compression: Compression = "none") -> memoryview | bytes:
    """Fill in the header of a value, and return it; or, if it becomes much smaller so, other bytes that compress it.

    Compressed, both forms are held for a moment. A body that zstd makes hardly smaller stays as it is.

    Args:
        whole: Room for the header, and then the body.
        flags: What a reader must know about the body.
        compression: What to try.

    Raises:
        ValueError: There is no such compression.
        MissingPackage: zstd is wanted and not installed.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(f"compression must be 'none' or 'zstd', not {compression!r}")
    with whole[HEADER.size :] as body:
        if compression == "zstd" and len(body) >= _WORTH_TRYING_BYTES:
            smaller = zstd.compressed(body)
            if len(smaller) <= len(body) * _WORTH_KEEPING:
                return _header(flags | COMPRESSED, len(body), smaller) + smaller
        whole[: HEADER.size] = _header(flags, len(body), body)
    return whole


def unseal(
    data: bytes | bytearray | memoryview, *, name: str, key: str | None, limit_bytes: int
) -> tuple[memoryview, int]:
    """Return the whole value, not compressed and read-only, and its flags.

    Verifies magic, version, flags, length and checksum first. The body begins at `HEADER.size`, whether or not it
    was compressed, so that what is aligned in the one is in the other.

    Raises:
        CorruptObject: These are not whole bytes that `seal` made, a newer version made them, or they
            say that they are longer than `limit_bytes`.
        MissingPackage: They are compressed, and zstd is not installed.
    """
    whole = memoryview(data).cast("B").toreadonly()
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
        raise CorruptObject(f"{name} is not what was written: its digest differs", key=key)
    if flags & COMPRESSED:
        if length > limit_bytes:
            raise CorruptObject(
                f"{name} says that it is {length} bytes when decompressed, and {limit_bytes} are allowed",
                key=key,
                remedy="If that is what it should be, allow more (limit_bytes), or write it in smaller pieces.",
            )
        whole = _decompressed(body, length, name=name, key=key)
    return whole, flags


def is_encoded(data: Content) -> bool:
    """Whether these are the first bytes of something that this package has encoded; 4 bytes are enough to tell."""
    return bytes(data[: len(_MAGIC)]) == _MAGIC


def is_plain(data: Content) -> bool:
    """Return whether a value that `unseal` took is all payload, as it lies."""
    return len(data) >= HEADER.size and not HEADER.unpack_from(data)[2]


def unreadable(name: str, error: Exception, *, key: str | None) -> CorruptObject:
    """Return the error for bytes whose checksum is right and whose content is not: they were written on purpose."""
    return CorruptObject(f"{name} cannot be read ({type(error).__name__}): {_OR_UPGRADE}", key=key)


def _header(flags: int, length: int, body: bytes | memoryview) -> bytes:
    return HEADER.pack(_MAGIC, _VERSION, flags, length, raw_checksum(body, seed=flags))


def _decompressed(body: memoryview, length: int, *, name: str, key: str | None) -> memoryview:
    try:
        return memoryview(zstd.decompressed(body, length=length, room=HEADER.size)).toreadonly()
    except zstd.Undecompressible as error:
        raise unreadable(name, error, key=key) from error
