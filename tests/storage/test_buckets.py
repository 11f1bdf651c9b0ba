"""Buckets that other programs use too: files of this machine, and a bucket of S3, behave alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from storage import (
    Bucket,
    BucketNotFound,
    InvalidKey,
    InvalidStoreUrl,
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    PlainFiles,
    S3Server,
    StorageDenied,
    open_bucket,
)


@pytest.fixture(params=["files", "moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Bucket, str]:
    """Return a bucket, and a folder in it that is empty."""
    if request.param == "files":
        return PlainFiles(), str(tmp_path).strip("/")
    url: str = request.getfixturevalue("moto_url")
    bucket, _, folder = url.removeprefix("s3://").partition("/")
    return open_bucket(bucket), folder


def test_what_was_written_is_read_by_its_tag(place: tuple[Bucket, str]) -> None:
    """Keys of any spelling are written, looked up and read in ranges, and a tag names the content."""
    bucket, folder = place
    for name in ("a b.txt", "x/é.txt", "x/p%41.txt", "x/#1", "x/q?.txt"):
        tag = bucket.put(f"{folder}/{name}", b"hello world")
        head = bucket.head(f"{folder}/{name}")
        assert (head.size_bytes, head.tag) == (11, tag)
        assert bucket.read(f"{folder}/{name}", 2, 5, tag=tag) == b"llo"
        assert bucket.read(f"{folder}/{name}", 3, 3) == b""


def test_an_object_that_was_replaced_is_not_read(place: tuple[Bucket, str]) -> None:
    """A read by an old tag fails, and so does a read past the end; a missing object is told apart."""
    bucket, folder = place
    tag = bucket.put(f"{folder}/a", b"hello")
    bucket.put(f"{folder}/a", b"other words")
    with pytest.raises(ObjectChanged, match="/a'"):
        bucket.read(f"{folder}/a", 0, 5, tag=tag)
    for start, end in ((6, 40), (30, 40)):
        with pytest.raises(ObjectChanged):
            bucket.read(f"{folder}/a", start, end)
    bucket.delete([f"{folder}/a", f"{folder}/never"])
    with pytest.raises(ObjectNotFound):
        bucket.read(f"{folder}/a", 0, 5, tag=tag)
    with pytest.raises(ObjectNotFound):
        bucket.head(f"{folder}/a")


def test_a_listing_is_in_the_order_of_keys(place: tuple[Bucket, str]) -> None:
    """A folder's objects are listed in byte order, whatever lies in folders, and from any key on."""
    bucket, folder = place
    names = ["a-b", "a.txt", "a/b", "a/c/d", "a0", "b", "é"]
    for name in reversed(names):
        bucket.put(f"{folder}/{name}", name.encode())
    bucket.put(f"{folder}0/other", b"")
    listed = [entry for page in bucket.list(folder) for entry in page]
    assert [entry.key for entry in listed] == [f"{folder}/{name}" for name in names]
    assert [entry.size_bytes for entry in listed] == [len(name.encode()) for name in names]
    assert all(bucket.head(entry.key) == entry for entry in listed)
    rest = [entry.key for page in bucket.list(folder, after=f"{folder}/a/b") for entry in page]
    assert rest == [f"{folder}/{name}" for name in names[3:]]


def test_a_streamed_object_appears_whole_or_not_at_all(place: tuple[Bucket, str]) -> None:
    """Blocks make one object; if a block raises, the error is the caller's, and there is no object."""
    bucket, folder = place
    tag = bucket.put_stream(f"{folder}/good", iter([b"x" * 9_000_000, b"yz"]))
    assert bucket.head(f"{folder}/good").size_bytes == 9_000_002
    assert bucket.read(f"{folder}/good", 8_999_999, 9_000_002, tag=tag) == b"xyz"

    def broken() -> Iterator[bytes]:
        yield b"x" * 9_000_000
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        bucket.put_stream(f"{folder}/bad", broken())
    assert [entry.key for page in bucket.list(folder) for entry in page] == [f"{folder}/good"]


def test_a_conditional_put_meets_what_exists(place: tuple[Bucket, str]) -> None:
    """A put with `if_absent` leaves an existing object as it is."""
    bucket, folder = place
    tag = bucket.put(f"{folder}/a", b"first", if_absent=True)
    with pytest.raises(ObjectExists):
        bucket.put(f"{folder}/a", b"second", if_absent=True)
    assert bucket.read(f"{folder}/a", 0, 5, tag=tag) == b"first"


def test_a_listing_leaves_links_to_folders_and_pipes_alone(tmp_path: Path) -> None:
    """A link to a folder may make a circle, and a pipe may never end."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_bytes(b"1")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "nothing").symlink_to(tmp_path / "absent")
    os.mkfifo(tmp_path / "pipe")
    root = str(tmp_path).strip("/")
    assert [entry.key for page in PlainFiles().list(root) for entry in page] == [f"{root}/folder/a"]
    with pytest.raises(ObjectNotFound, match="no regular file"):
        PlainFiles().head(f"{root}/pipe")


def test_a_missing_bucket_is_told_apart(moto_url: str) -> None:
    """A listing of a bucket that does not exist, and a read from it, say so."""
    bucket = open_bucket("no-such-bucket")
    with pytest.raises(BucketNotFound):
        list(bucket.list("folder"))
    with pytest.raises(BucketNotFound):
        bucket.read("a", 0, 1)


def test_a_key_that_obstore_cannot_name_is_told(moto_url: str) -> None:
    """A folder with a key like "a//b" can't be listed, and the error names the remedy."""
    name, _, folder = moto_url.removeprefix("s3://").partition("/")
    boto3.client("s3").put_object(Bucket=name, Key=f"{folder}/a//b", Body=b"")
    with pytest.raises(InvalidKey, match="list another folder"):
        list(open_bucket(name).list(folder))


def test_a_named_server_needs_a_url_and_credentials(no_aws_environment: None) -> None:
    """A server's settings are checked where its bucket is opened, and no message shows a secret."""
    with pytest.raises(InvalidStoreUrl, match="endpoint_url"):
        open_bucket("bucket", S3Server("localhost"))
    with pytest.raises(StorageDenied, match="access_key_id"):
        open_bucket("bucket", S3Server("http://localhost:1"))
    assert "geheim" not in repr(S3Server("http://h", access_key_id="geheim", secret_access_key="geheim"))


def test_a_named_server_is_used_instead_of_the_environments(
    moto_url: str, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests go to the named server, though the environment names one that does not exist."""
    bucket, _, folder = moto_url.removeprefix("s3://").partition("/")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    server = S3Server(moto_endpoint, access_key_id="k", secret_access_key="s")
    tag = open_bucket(bucket, server).put(f"{folder}/a", b"1")
    assert open_bucket(bucket, server).head(f"{folder}/a").tag == tag
