"""Buckets that other programs use too: files of this machine, and a bucket of S3, behave alike."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from storage import (
    Bucket,
    BucketNotFound,
    InvalidKey,
    InvalidStoreUrl,
    ObjectChanged,
    ObjectNotFound,
    PlainFiles,
    S3Server,
    StorageDenied,
    open_bucket,
)


class Place:
    """A bucket, and an empty folder in it, to which another program writes.

    Args:
        bucket: The bucket.
        folder: The folder.
        name: The bucket's name; "" for files.
    """

    def __init__(self, bucket: Bucket, folder: str, name: str) -> None:
        self.bucket, self.folder, self._name = bucket, folder, name

    def put(self, key: str, body: bytes) -> None:
        if self._name:
            boto3.client("s3").put_object(Bucket=self._name, Key=key, Body=body)
            return
        path = Path(f"/{key}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def delete(self, key: str) -> None:
        if self._name:
            boto3.client("s3").delete_object(Bucket=self._name, Key=key)
        else:
            Path(f"/{key}").unlink()


@pytest.fixture(params=["files", "moto"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty folder in files, and in a bucket, in turn."""
    if request.param == "files":
        return Place(PlainFiles(), str(tmp_path).strip("/"), "")
    url: str = request.getfixturevalue("moto_url")
    bucket, _, folder = url.removeprefix("s3://").partition("/")
    return Place(open_bucket(bucket), folder, bucket)


def test_what_was_written_is_read_by_its_tag(place: Place) -> None:
    """Keys of any spelling are written, looked up and read in ranges, and a tag names the content."""
    bucket, folder = place.bucket, place.folder
    for name in ("a b.txt", "x/é.txt", "x/p%41.txt", "x/#1", "x/q?.txt"):
        place.put(f"{folder}/{name}", b"hello world")
        head = bucket.head(f"{folder}/{name}")
        assert head.size_bytes == 11
        assert bucket.read(f"{folder}/{name}", 2, 5, tag=head.tag) == b"llo"
        assert bucket.read(f"{folder}/{name}", 3, 3) == b""


def test_an_object_that_was_replaced_is_not_read(place: Place) -> None:
    """A read by an old tag fails, and so does a read past the end; a missing object is told apart."""
    bucket, folder = place.bucket, place.folder
    place.put(f"{folder}/a", b"hello")
    tag = bucket.head(f"{folder}/a").tag
    place.put(f"{folder}/a", b"other words")
    with pytest.raises(ObjectChanged, match="/a'"):
        bucket.read(f"{folder}/a", 0, 5, tag=tag)
    for start, end in ((6, 40), (30, 40)):
        with pytest.raises(ObjectChanged):
            bucket.read(f"{folder}/a", start, end)
    place.delete(f"{folder}/a")
    with pytest.raises(ObjectNotFound):
        bucket.read(f"{folder}/a", 0, 5, tag=tag)
    with pytest.raises(ObjectNotFound):
        bucket.head(f"{folder}/a")


def test_a_listing_is_in_the_order_of_keys(place: Place) -> None:
    """A folder's objects are listed in byte order, whatever lies in folders, and from any key on."""
    bucket, folder = place.bucket, place.folder
    names = ["a-b", "a.txt", "a/b", "a/c/d", "a0", "b", "é"]
    for name in reversed(names):
        place.put(f"{folder}/{name}", name.encode())
    place.put(f"{folder}0/other", b"")
    listed = [entry for page in bucket.list(folder) for entry in page]
    assert [entry.key for entry in listed] == [f"{folder}/{name}" for name in names]
    assert [entry.size_bytes for entry in listed] == [len(name.encode()) for name in names]
    assert all(bucket.head(entry.key) == entry for entry in listed)
    rest = [entry.key for page in bucket.list(folder, after=f"{folder}/a/b") for entry in page]
    assert rest == [f"{folder}/{name}" for name in names[3:]]


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
    boto3.client("s3").put_object(Bucket=bucket, Key=f"{folder}/a", Body=b"1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    server = S3Server(moto_endpoint, access_key_id="k", secret_access_key="s")
    assert open_bucket(bucket, server).head(f"{folder}/a").size_bytes == 1
