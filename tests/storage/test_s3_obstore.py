"""Differences of the store that uses obstore from the one that uses boto3."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

import storage
from storage import (
    BucketNotFound,
    InvalidStoreUrl,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageUnavailable,
    open_store,
)
from storage.s3.boto3_store import S3Store
from storage.s3.location import parse_s3_url
from storage.s3.obstore_store import ObstoreS3Store

from .scripted import Answer, Script


def test_obstore_is_used_if_it_is_installed() -> None:
    """A plain URL means obstore. A URL may name a client, and newer checksums mean boto3."""
    assert type(open_store("s3://bucket")) is ObstoreS3Store
    assert type(open_store("s3://bucket?client=boto3")) is S3Store
    assert type(open_store("s3://bucket?checksums=when_supported")) is S3Store
    assert open_store("s3://bucket/a?client=obstore").url == "s3://bucket/a?client=obstore"


def test_without_obstore_boto3_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra a plain URL means boto3, and the error for client=obstore names the extra to install."""
    monkeypatch.setattr("storage.open.find_spec", lambda name: None)
    assert type(open_store("s3://bucket")) is S3Store
    with pytest.raises(InvalidStoreUrl, match=r"fanout\[fast\]"):
        open_store("s3://bucket?client=obstore")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([Answer(404, "NoSuchKey")], ObjectNotFound),
        ([Answer(404, "NoSuchBucket")], BucketNotFound),
        ([Answer(403, "AccessDenied")], StorageDenied),
        ([Answer(503, "SlowDown")], StorageUnavailable),
        ([Answer(0)], StorageUnavailable),
    ],
)
def test_errors_are_those_of_boto3(script: Script, answers: list[Answer], expected: type[Exception]) -> None:
    """An answer of the server causes the same error with either client, which names key and store."""
    script(*answers)
    with pytest.raises(expected, match=r"'a'.*s3://bucket/x"):
        ObstoreS3Store("s3://bucket/x").get("a")


def test_boto3_repeats_requests_that_failed_with_obstore(script: Script) -> None:
    """boto3 repeats a request that failed for longer than obstore repeats it, and boto3's answer counts."""
    server = script(*[Answer(503, "SlowDown")] * 5, Answer(200, body=b"there"))
    assert ObstoreS3Store("s3://bucket").get("a") == b"there"
    assert len(server.requests) == 6


def test_a_repeated_put_raises_object_exists(script: Script) -> None:
    """A write-once put that is repeated after a lost answer raises ObjectExists, which the caller handles."""
    script(Answer(0), Answer(412, "PreconditionFailed"))
    with pytest.raises(ObjectExists):
        ObstoreS3Store("s3://bucket").put("a", b"1", if_absent=True)


def test_a_conflicting_put_is_repeated(script: Script) -> None:
    """If two conditional writes meet, neither has won: the put is repeated, and writes."""
    conflict = Answer(409, "ConditionalRequestConflict")
    server = script(conflict, conflict, Answer(200))
    ObstoreS3Store("s3://bucket").put("a", b"1", if_absent=True)
    assert len(server.requests) == 3


def test_a_server_on_which_obstore_fails_is_left_to_boto3(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    """boto3 reads from a server that ignores ranges, in the end without a request of obstore.

    The log has one warning.
    """
    server = script(Answer(200, body=b"0123456789"))
    store = ObstoreS3Store("s3://bucket")
    for _ in range(12):
        assert store.get("a", offset=2, length=3) == b"234"
    before = len(server.requests)
    assert store.get("a", offset=2, length=3) == b"234"
    assert len(server.requests) == before + 1
    assert [record.levelname for record in caplog.records if "obstore" in record.message] == ["WARNING"]


def test_a_large_object_is_sent_in_parts(moto_url: str) -> None:
    """A large object is read as it was written; a small object, or a write-once put, is sent in one request.

    Four parts are sent at once, so that there are four or eight. S3, and moto, refuse parts under 5 MiB.
    """
    store = ObstoreS3Store(moto_url)
    size = 2 * 8 * 2**20
    large, small = random.Random(1).randbytes(size + 1), bytes(size)
    store.put("parts", memoryview(large))
    store.put("more", bytes(40_000_000))
    store.put("most", bytes(60_000_000))
    store.put("once", large, if_absent=True)
    store.put("small", small)
    assert store.get("parts") == store.get("once") == large
    assert store.get("small") == small
    location = parse_s3_url(moto_url)
    keys = [location.prefix + key for key in ("parts", "more", "most", "once", "small")]
    heads = [boto3.client("s3").head_object(Bucket=location.bucket, Key=key) for key in keys]
    # The ETag of an object in parts has their number.
    assert [head["ETag"].strip('"').partition("-")[2] for head in heads] == ["4", "4", "8", "", ""]


def test_boto3_sends_the_whole_if_parts_are_refused(script: Script) -> None:
    """If rights or server allow no upload in parts, boto3 writes the object in one request."""
    server = script(Answer(403, "AccessDenied"), Answer(200))
    body = bytes(17 * 2**20)
    ObstoreS3Store("s3://bucket").put("a", body)
    assert [(request.method, len(request.body)) for request in server.requests] == [("POST", 0), ("PUT", len(body))]


def test_odd_keys_are_kept_as_they_are(moto_url: str) -> None:
    """A key that obstore would spell differently in its paths is the same key with both clients."""
    quick, careful = ObstoreS3Store(moto_url), S3Store(moto_url)
    quick.put("a b/é%20?", b"1")
    assert careful.get("a b/é%20?") == quick.get("a b/é%20?") == b"1"
    assert [found.key for found in quick.list("a b/")] == ["a b/é%20?"]


@pytest.mark.parametrize("sign", list("+=@,: "))
def test_both_clients_spell_a_key_alike(moto_url: str, monkeypatch: pytest.MonkeyPatch, sign: str) -> None:
    """obstore writes, reads, lists and deletes keys with a sign such as a plus, and boto3 finds the same objects."""
    quick, careful = ObstoreS3Store(moto_url), S3Store(moto_url)
    prefix = f"day{sign}1/"
    keys = [f"{prefix}0{other}32" for other in "%/2"]
    key = f"{prefix}0{sign}32"
    for other in keys:
        careful.put(other, b"another")
    with monkeypatch.context() as patch:
        patch.setattr(ObstoreS3Store, "_fallback", property(lambda store: pytest.fail("boto3 was asked")))
        quick.put(key, b"1", if_absent=True)
        assert quick.get(key) == b"1"
        assert quick.head(key).size == 1
        assert [found.key for found in quick.list(prefix)] == sorted([*keys, key])
        assert key not in [found.key for found in quick.list(prefix, start_after=key)]
        with pytest.raises(ObjectExists):
            quick.put(key, b"2", if_absent=True)
        quick.put(f"{key}.gone", b"3")
        quick.delete([f"{key}.gone"])
        quick.delete([f"{key}.gone"])
    assert careful.get(key) == b"1"
    assert not list(careful.list(f"{key}."))


def test_a_forked_child_works_with_boto3(moto_url: str) -> None:
    """A child whose parent has used obstore reads with boto3 and does not hang."""
    program = f"""
import os, signal, storage
store = storage.open_store({moto_url!r})
store.put("a", b"from the parent")
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(0 if store.get("a") == b"from the parent" else 1)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=Path(storage.__file__).parents[1], timeout=60)
    assert ended.returncode == 0, signal.Signals(-ended.returncode).name if ended.returncode < 0 else "wrong"


def test_a_profile_is_read_by_boto3(
    moto_endpoint: str, moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Endpoint, region and keys may come from a profile's files."""
    for name in [name for name in os.environ if name.startswith("AWS_") and "ENDPOINT" not in name]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    config.write_text(f"[profile mine]\nregion = us-east-1\nendpoint_url = {moto_endpoint}\n")
    credentials.write_text("[mine]\naws_access_key_id = key\naws_secret_access_key = secret\n")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    store = ObstoreS3Store(moto_url.replace(" ", "-"))
    store.put("a", b"1", if_absent=True)
    assert store.get("a") == b"1"
    with pytest.raises(ObjectExists):
        store.put("a", b"2", if_absent=True)


def test_missing_credentials_are_an_error(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials the error is boto3's, and the call does not hang."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_endpoint)
    with pytest.raises(StorageDenied, match="credentials"):
        ObstoreS3Store("s3://bucket").get("a")
