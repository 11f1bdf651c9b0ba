"""Objects in a store (write, read, list, delete), and values as the bytes that such objects hold.

The package knows nothing of what the objects mean. Importing it is cheap: an S3 client is imported when an s3:// URL is
opened.
"""

from __future__ import annotations

from .codec.adapters import is_registrable, register_type, travels
from .codec.compression import load_zstd, open_zstd
from .codec.envelope import COMPRESSIONS, Compression, is_encoded
from .codec.msgpack_codec import decode, encode
from .codec.references import Reference, ReferenceSource
from .codec.sequences import LARGE_BYTES, SequenceEncoder
from .counting import CountingStore
from .deadline import remaining_s, within
from .encrypted import EncryptedStore
from .errors import (
    BucketNotFound,
    ChangedType,
    ConditionalWriteUnsupported,
    CorruptObject,
    GuaranteeBroken,
    InvalidKey,
    InvalidStoreUrl,
    MissingPackage,
    NewerFormat,
    NotEncrypted,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    StorageUnusable,
    Unencodable,
    UnknownKey,
    UnknownType,
    Unregistrable,
    UploadGone,
    from_os_error,
)
from .examination import Examination, Finding, Verdict
from .file import FileStore
from .hashing import Digester, checksum, digest
from .keyring import Keyring, KeySource
from .keys import check_key
from .memory import MemoryStore
from .object_store import Body, Bucket, Content, ObjectInfo, ObjectStore, Retention, TaggedObject
from .open import (
    create_bucket,
    open_bucket,
    open_examination,
    open_store,
    open_uploads,
    open_verified,
    preload,
)
from .packs import READ_AHEAD_BYTES, PackReader, PackWriter, Slice
from .plain_files import PlainFiles
from .probe import Guarantee, ProbeReport, probe_store, write_probe_result
from .s3.server import S3Server
from .speed import Speed, measure_speed
from .uploads import UnfinishedUpload, UploadStore
from .verified import VerifiedStore
from .write_once import put_once

__all__ = [
    "COMPRESSIONS",
    "LARGE_BYTES",
    "READ_AHEAD_BYTES",
    "Body",
    "Bucket",
    "BucketNotFound",
    "ChangedType",
    "Compression",
    "ConditionalWriteUnsupported",
    "Content",
    "CorruptObject",
    "CountingStore",
    "Digester",
    "EncryptedStore",
    "Examination",
    "FileStore",
    "Finding",
    "Guarantee",
    "GuaranteeBroken",
    "InvalidKey",
    "InvalidStoreUrl",
    "KeySource",
    "Keyring",
    "MemoryStore",
    "MissingPackage",
    "NewerFormat",
    "NotEncrypted",
    "ObjectChanged",
    "ObjectExists",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "PackReader",
    "PackWriter",
    "PlainFiles",
    "ProbeReport",
    "Reference",
    "ReferenceSource",
    "Retention",
    "S3Server",
    "SequenceEncoder",
    "Slice",
    "Speed",
    "StorageDenied",
    "StorageError",
    "StorageUnavailable",
    "StorageUnusable",
    "TaggedObject",
    "Unencodable",
    "UnfinishedUpload",
    "UnknownKey",
    "UnknownType",
    "Unregistrable",
    "UploadGone",
    "UploadStore",
    "Verdict",
    "VerifiedStore",
    "check_key",
    "checksum",
    "create_bucket",
    "decode",
    "digest",
    "encode",
    "from_os_error",
    "is_encoded",
    "is_registrable",
    "load_zstd",
    "measure_speed",
    "open_bucket",
    "open_examination",
    "open_store",
    "open_uploads",
    "open_verified",
    "open_zstd",
    "preload",
    "probe_store",
    "put_once",
    "register_type",
    "remaining_s",
    "travels",
    "within",
    "write_probe_result",
]
