"""The package as a whole: its names, its cost, its errors, its URLs."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import time
import types
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import storage
from storage import (
    CountingStore,
    FileStore,
    InvalidKey,
    InvalidStoreUrl,
    MemoryStore,
    ObjectInfo,
    ObjectNotFound,
    ObjectStore,
    StorageError,
    StorageUnavailable,
    Unencodable,
    create_bucket,
    open_store,
    put_once,
)
from tests.stores import ScriptedStore

ERRORS = [
    error_type
    for error_type in vars(importlib.import_module("storage.errors")).values()
    if isinstance(error_type, type) and issubclass(error_type, StorageError)
]


def test_all_names_the_public_names() -> None:
    """`__all__` names exactly the public names of the package, in order."""
    public = [
        name
        for name, value in vars(storage).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType) and name != "annotations"
    ]
    assert sorted(storage.__all__) == sorted(public)
    assert {error_type.__name__ for error_type in ERRORS} <= set(storage.__all__)


def test_importing_does_not_import_a_client() -> None:
    """`import storage` imports neither client, and opening an s3:// URL imports the one that it uses."""
    program = (
        "import sys, storage; clients = lambda: {'boto3', 'obstore'} & set(sys.modules); assert not clients(); "
        "storage.open_store('s3://bucket?client=obstore'); assert clients() == {'obstore'}; "
        "storage.open_store('s3://bucket?client=boto3'); assert clients() == {'boto3', 'obstore'}"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(storage.__file__).parents[1])


PRELOAD = """
import os, sys, storage
from unittest.mock import patch

os.environ.update(AWS_ACCESS_KEY_ID="key", AWS_SECRET_ACCESS_KEY="secret", AWS_ENDPOINT_URL_S3="http://127.0.0.1:9")
storage.preload("s3://bucket")
assert "obstore" in sys.modules and "boto3" not in sys.modules
os.environ["AWS_DEFAULTS_MODE"] = "standard"
storage.preload("s3://bucket")
before = set(sys.modules)

from botocore.loaders import JSONFileLoader
from storage.s3.boto3_client import new_client

with patch.object(JSONFileLoader, "load_file", side_effect=AssertionError("a model is read again")):
    assert new_client("when_required").client.meta.endpoint_url == "http://127.0.0.1:9"
assert {name for name in set(sys.modules) - before if "boto" in name} == set()
"""


def test_a_store_is_preloaded_for_forked_processes() -> None:
    """After `preload`, the first client imports and reads nothing. boto3 is loaded only where it is needed."""
    subprocess.run([sys.executable, "-c", PRELOAD], check=True, cwd=Path(storage.__file__).parents[1])


@pytest.mark.parametrize("error_type", ERRORS)
def test_errors_survive_pickling(error_type: type[StorageError]) -> None:
    """Type, text and attributes of every error survive pickling."""
    error = error_type("something happened", key="a/b", remedy="Do this.")
    error.__dict__["noted"] = 1
    revived = pickle.loads(pickle.dumps(error))
    assert type(revived) is error_type
    assert str(revived) == str(error) == "something happened. Do this."
    assert vars(revived) == vars(error)
    assert revived.key == "a/b"


@pytest.mark.parametrize("error_type", [error_type for error_type in ERRORS if error_type is not StorageError])
def test_errors_are_builtins_and_name_the_remedy(error_type: type[StorageError]) -> None:
    """Every error is also a builtin that callers know, and names a remedy."""
    assert len(error_type.__mro__) > 4
    assert error_type.__bases__[1].__module__ == "builtins"
    assert str(error_type("it happened")) == f"it happened. {error_type.remedy}"
    assert error_type.remedy.endswith(".")


def test_each_error_says_whether_it_is_transient() -> None:
    """transient is true only of errors that may pass by themselves, before and after pickling."""
    transient = {error_type.__name__ for error_type in ERRORS if error_type("it happened").transient}
    assert transient == {"StorageError", "StorageUnavailable", "StorageDenied", "BucketNotFound", "NewerFormat"}
    for error_type in ERRORS:
        assert pickle.loads(pickle.dumps(error_type("it happened"))).transient is error_type("it happened").transient


def test_unencodable_keeps_its_path() -> None:
    """The path of an Unencodable survives pickling."""
    assert pickle.loads(pickle.dumps(Unencodable("no", path="a[3].b"))).path == "a[3].b"


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("s3://bucket", "s3://bucket/"),
        ("s3://bucket/", "s3://bucket/"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        ("s3://bucket/a%20b", "s3://bucket/a%20b"),
        ("s3://bucket/" + "x" * 123, "s3://bucket/" + "x" * 123),
        ("s3://bucket/a b", "s3://bucket/a%20b"),
        ("s3://bucket/x?checksums=when_required", "s3://bucket/x"),
        ("s3://bucket/x?checksums=when_supported", "s3://bucket/x?checksums=when_supported"),
        ("s3://bucket/x?encryption=aws:kms&kms_key=alias/a", "s3://bucket/x?encryption=aws:kms&kms_key=alias/a"),
        ("file:///tmp/a%20b", "file:///tmp/a%20b"),
        ("memory://name", "memory://name"),
    ],
)
def test_urls_open_and_have_one_form(url: str, canonical: str) -> None:
    """A store's URL is the canonical form of the URL that opened it, and opens it again."""
    assert open_store(url).url == canonical
    assert open_store(canonical).url == canonical


@pytest.mark.parametrize(
    "url",
    [
        "",
        "bucket/prefix",
        "/tmp/x",
        "http://host/x",
        "s3://",
        "s3:///prefix",
        "s3://b",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/x#y",
        "s3://bucket:9000/x",
        "s3://bucket?region=here",
        "s3://bucket?checksums=never",
        "s3://bucket?encryption=rot13",
        "s3://bucket?kms_key=alias/a",
        "s3://bucket?encryption=AES256&kms_key=alias/a",
        "s3://bucket?encryption=aws:kms&kms_key=a%20b",
        "s3://bucket?checksums=",
        "file://relative/x",
        "file:relative",
        "file:///x?y=1",
        "memory://",
        "memory://a b",
        "S3://bucket",
        "s3://[bucket",
        "s3://bucket/" + "x" * 124,
    ],
)
def test_urls_that_name_no_store_are_refused(url: str) -> None:
    """open_store and create_bucket raise InvalidStoreUrl for any other URL."""
    for use in (open_store, create_bucket):
        with pytest.raises(InvalidStoreUrl):
            use(url)


@pytest.mark.parametrize(
    "url",
    [
        "AKIA:sesame@bucket",
        "s3://AKIA:sesame@bucket/x",
        "s3://sesame@bucket",
        "s3://bucket/x?secret=sesame",
        "http://me:sesame@host/x",
    ],
)
def test_credentials_in_a_url_are_refused_and_never_shown(url: str) -> None:
    """A URL with credentials is refused, and the error does not repeat them."""
    with pytest.raises(InvalidStoreUrl) as caught:
        open_store(url)
    assert "sesame" not in str(caught.value)
    assert "AKIA" not in str(caught.value)


def test_a_memory_store_is_one_per_name() -> None:
    """One name is one store in this process. Another name, or no name, is another store."""
    assert open_store("memory://one") is open_store("memory://one")
    assert open_store("memory://one") is not open_store("memory://two")
    assert MemoryStore().url != MemoryStore().url


def test_creating_a_bucket_without_s3_does_nothing() -> None:
    """create_bucket accepts the URLs of stores that have no buckets."""
    create_bucket("memory://any")


def test_requests_are_counted_as_s3_bills_them() -> None:
    """CountingStore counts requests by verb, per page and per batch of 1,000, and bytes by direction, with failures."""
    store = CountingStore(MemoryStore())
    keys = [f"k{number:04d}" for number in range(1500)]
    for key in keys:
        store.put(key, b"12")
    assert store.get("k0000", offset=1) == b"2"
    with pytest.raises(ObjectNotFound):
        store.get("missing")
    store.head("k0000")
    assert len(list(store.list())) == 1500
    store.delete(keys)
    store.delete([])
    assert store.requests == {"put": 1500, "get": 2, "head": 1, "list": 2, "delete": 2}
    assert (store.bytes_in, store.bytes_out) == (3000, 1)
    store.reset()
    assert (store.requests, store.bytes_in, store.bytes_out) == ({}, 0, 0)


def test_put_once_costs_one_request_or_two() -> None:
    """put_once costs one request for a free key and two for a taken one."""
    store = CountingStore(MemoryStore())
    put_once(store, "k", b"x")
    assert store.requests == {"put": 1}
    put_once(store, "k", b"y")
    assert store.requests == {"put": 2, "get": 1}


def test_put_once_raises_if_an_object_keeps_vanishing() -> None:
    """If the object exists at every put and is gone at every get, put_once raises instead of repeating for ever."""
    store = ScriptedStore()
    store.put("k", b"x")
    with store.failing("get", error=ObjectNotFound), pytest.raises(StorageUnavailable, match="vanished"):
        put_once(store, "k", b"x")


def test_a_directory_holds_only_objects(tmp_path: Path) -> None:
    """After puts and deletes no empty directory and no partial file is left in a file store."""
    store = FileStore(tmp_path / "deep" / "root")
    store.put("a/b/c", b"x")
    store.put("a/b/c", b"y", if_absent=False)
    with pytest.raises(FileExistsError):
        store.put("a/b/c", b"z", if_absent=True)
    store.delete(["a/b/c"])
    assert [path.name for path in (tmp_path / "deep" / "root").rglob("*")] == ["@partial"]


def test_a_segment_too_long_for_a_file_name_is_refused(tmp_path: Path) -> None:
    """A file store accepts segments of up to 254 bytes, quoted. The error for a longer one names the limit."""
    store = FileStore(tmp_path)
    store.put("x" * 254, b"")
    assert [info.key for info in store.list("x")] == ["x" * 254]
    with pytest.raises(InvalidKey, match="255"):
        store.put("x" * 255, b"")
    with pytest.raises(InvalidKey, match="file name"):
        store.put("a/" + "é" * 43 + "/b", b"")


def test_a_root_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    """A file store whose root is a file fails with an error of this package."""
    (tmp_path / "root").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        FileStore(tmp_path / "root").put("a", b"")


@pytest.mark.parametrize("ahead_s", [0.0, -90.0, 3600.0])
@pytest.mark.parametrize("whole_seconds", [False, True])
def test_the_stores_clock_is_read_from_its_dates(ahead_s: float, whole_seconds: bool) -> None:
    """The time is the store's and not this machine's, to half a second even if dates are whole seconds."""

    class Dated(MemoryStore):
        now = ObjectStore.now

        def head(self, key: str) -> ObjectInfo:
            info = super().head(key)
            modified = info.modified + timedelta(seconds=ahead_s)
            return replace(info, modified=modified.replace(microsecond=0) if whole_seconds else modified)

    assert abs(Dated().now() - time.time() - ahead_s) < 0.6
