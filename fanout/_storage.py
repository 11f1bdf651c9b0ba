"""The one door to the `storage` package.

`storage` is a common name. If another module of that name stands in front of ours on `sys.path`, the import below
would succeed and fail much later, far from the cause; so it is checked here, once, in words.
"""

from __future__ import annotations

import importlib
from types import ModuleType


def _the_right_one(module: ModuleType) -> None:
    if not hasattr(module, "ObjectStore") or not hasattr(module, "PackWriter"):
        raise ImportError(
            f"fanout needs its own package `storage`, but Python found another one at "
            f"{getattr(module, '__file__', None) or list(getattr(module, '__path__', []))}. "
            "Rename that module, or put it behind fanout's on sys.path."
        )


_the_right_one(importlib.import_module("storage"))

from storage import (  # noqa: E402
    COMPRESSIONS,
    BucketNotFound,
    Compression,
    Content,
    CorruptObject,
    Lender,
    Loan,
    MemoryStore,
    MissingPackage,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    PackReader,
    PackWriter,
    SequenceEncoder,
    Slice,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    Unencodable,
    UnknownType,
    Unregistrable,
    create_bucket,
    decode,
    digest,
    encode,
    is_encoded,
    is_registrable,
    open_proven,
    open_store,
    probe_store,
    put_once,
    register_type,
    remaining_s,
    travels,
    within,
    write_verdict,
)

__all__ = [
    "COMPRESSIONS",
    "BucketNotFound",
    "Compression",
    "Content",
    "CorruptObject",
    "Lender",
    "Loan",
    "MemoryStore",
    "MissingPackage",
    "ObjectInfo",
    "ObjectNotFound",
    "ObjectStore",
    "PackReader",
    "PackWriter",
    "SequenceEncoder",
    "Slice",
    "StorageDenied",
    "StorageError",
    "StorageUnavailable",
    "Unencodable",
    "UnknownType",
    "Unregistrable",
    "create_bucket",
    "decode",
    "digest",
    "encode",
    "is_encoded",
    "is_registrable",
    "open_proven",
    "open_store",
    "probe_store",
    "put_once",
    "register_type",
    "remaining_s",
    "travels",
    "within",
    "write_verdict",
]
