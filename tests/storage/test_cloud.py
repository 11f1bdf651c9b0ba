"""Stores in Azure and Google Cloud: their URLs, their errors, and processes that were forked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import GenericError

import storage
from storage import BucketNotFound, InvalidKey, InvalidStoreUrl, StorageDenied, open_store
from storage.cloud.store import CloudStore


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("az://box", "az://box/"),
        ("az://box/a/b/", "az://box/a/b"),
        ("az://box/a%20b", "az://box/a%20b"),
        ("gs://my.bucket_1/jobs", "gs://my.bucket_1/jobs"),
    ],
)
def test_a_url_names_a_container_and_a_prefix(url: str, canonical: str) -> None:
    """The store has the URL in its shortest form, and makes no request."""
    assert open_store(url).url == canonical


@pytest.mark.parametrize(
    "url",
    [
        "az://",
        "az://Box/a",
        "az://ab",
        "az://a--b/x",
        "az://box/../x",
        "gs://-b/x",
        "az://key@box/x",
        "az://box/x?sas=1",
    ],
)
def test_a_url_that_names_none_is_refused(url: str) -> None:
    """The error does not repeat what may be a secret."""
    with pytest.raises(InvalidStoreUrl) as caught:
        open_store(url)
    assert "key@" not in str(caught.value)
    assert "sas" not in str(caught.value)


def test_a_backslash_is_refused() -> None:
    """Azure takes it for a slash, so that two keys would name one object."""
    with pytest.raises(InvalidKey, match="backslash"):
        open_store("az://box").put("a\\b", b"")


def test_the_keys_of_a_refused_batch_are_deleted_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer to a batch does not tell which keys were refused. A single key that is missing is no error."""
    asked: list[object] = []

    def delete(client: object, names: list[str] | str) -> None:
        asked.append(names)
        if names == "x/gone":
            raise FileNotFoundError(names)
        if isinstance(names, list):
            raise GenericError("one of the keys was refused")

    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setattr(obstore, "delete", delete)
    open_store("az://box/x").delete(["a", "gone", "b"])
    assert asked == [["x/a", "x/gone", "x/b"], "x/a", "x/gone", "x/b"]


@pytest.mark.slow
def test_a_missing_container_is_named(azure_url: str) -> None:
    """The remedy speaks of Azure."""
    with pytest.raises(BucketNotFound, match="AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://no-such-box/x").put("a", b"")


@pytest.mark.slow
def test_wrong_credentials_are_told(azure_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variables to check, and no key."""
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3Jvbmc=")
    with pytest.raises(StorageDenied, match="AZURE_STORAGE_ACCOUNT_KEY") as caught:
        open_store(azure_url).put("a", b"")
    assert "d3Jvbmc=" not in str(caught.value)


@pytest.mark.slow
def test_a_large_object_is_sent_in_parts(azure_url: str) -> None:
    """It is read as it was written, be it written once or not."""
    store = CloudStore(azure_url)
    body = os.urandom(20 * 2**20)
    store.put("parts", body)
    store.put("once", body, if_absent=True)
    assert store.get("parts") == store.get("once") == body


@pytest.mark.slow
def test_a_forked_child_is_told(azure_url: str) -> None:
    """A child whose parent has used obstore gets an error with the remedy, and does not hang."""
    program = f"""
import os, signal, storage
store = storage.open_store({azure_url!r})
store.put("a", b"from the parent")
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        store.get("a")
    except storage.StorageUnusable as error:
        os._exit(0 if "--pool threads" in str(error) else 1)
    os._exit(2)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(storage.__file__).parents[1], timeout=60)
    assert ended.returncode == 0, signal.Signals(-ended.returncode).name if ended.returncode < 0 else "wrong"
