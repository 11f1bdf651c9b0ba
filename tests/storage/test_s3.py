"""Errors that only S3 has, and differences of other servers that speak its protocol."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import boto3
import pytest

from storage import (
    BucketNotFound,
    ConditionalWriteUnsupported,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    create_bucket,
    deadline,
    open_store,
    put_once,
)
from storage.s3.boto3_store import S3Store

from .scripted import Answer, Script


def new_store(pauses: list[float] | None = None) -> S3Store:
    return S3Store("s3://bucket/root", pause=(pauses if pauses is not None else []).append)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(404, "NoSuchKey"), ObjectNotFound),
        (Answer(404, "NoSuchBucket"), BucketNotFound),
        (Answer(403, "AccessDenied"), StorageDenied),
        (Answer(403, "SignatureDoesNotMatch"), StorageDenied),
        (Answer(403, "InvalidAccessKeyId"), StorageDenied),
        (Answer(403, "RequestTimeTooSkewed"), StorageDenied),
        (Answer(400, "ExpiredToken"), StorageDenied),
        (Answer(403, "SomethingNew"), StorageDenied),
        (Answer(500, "InternalError"), StorageUnavailable),
        (Answer(503, "SlowDown"), StorageUnavailable),
        (Answer(503, "ServiceUnavailable"), StorageUnavailable),
        (Answer(502), StorageUnavailable),
        (Answer(504, "SomethingNew"), StorageUnavailable),
        (Answer(429, "TooManyRequests"), StorageUnavailable),
        (Answer(0), StorageUnavailable),
        (Answer(400, "InvalidArgument"), StorageError),
        (Answer(418, "SomethingNew"), StorageError),
    ],
    ids=lambda case: f"{case.status}-{case.code}" if isinstance(case, Answer) else None,
)
def test_answers_become_errors(script: Script, answer: Answer, expected: type[StorageError]) -> None:
    """Each answer, documented or not, becomes exactly one error, with the key and without credentials."""
    script(answer)
    with pytest.raises(StorageError) as caught:
        new_store().get("a/b")
    assert type(caught.value) is expected
    assert caught.value.key == "a/b"
    assert "a/b" in str(caught.value)
    assert "test-secret" not in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, ObjectNotFound), (403, StorageDenied), (503, StorageUnavailable), (400, StorageError)],
)
def test_a_head_is_decided_by_its_status(script: Script, status: int, expected: type[StorageError]) -> None:
    """The answer to a HEAD has no body, so its status alone decides."""
    script(Answer(status))
    with pytest.raises(StorageError) as caught:
        new_store().head("a")
    assert type(caught.value) is expected


def test_requests_to_a_busy_server_are_repeated(script: Script) -> None:
    """After five 503s and a closed connection in a row the call still succeeds."""
    server = script(*[Answer(503, "SlowDown")] * 5, Answer(0), Answer(200, body=b"there"))
    assert new_store().get("a") == b"there"
    assert len(server.requests) == 7


def test_requests_to_a_busy_server_are_limited(script: Script) -> None:
    """Eight answers of 503 are StorageUnavailable."""
    server = script(Answer(503, "SlowDown"))
    with pytest.raises(StorageUnavailable):
        new_store().get("a")
    assert len(server.requests) == 8


def test_no_server_is_unavailable(aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint without a listener is StorageUnavailable, which is transient."""
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, pause_s=0.001))
    aws_environment("http://127.0.0.1:1")
    with pytest.raises(ConnectionError):
        new_store().put("a", b"x")


def test_a_conflicting_put_is_repeated(script: Script) -> None:
    """409 means that two conditional writes met. The put is repeated after a jittered pause."""
    pauses: list[float] = []
    conflict = Answer(409, "ConditionalRequestConflict")
    server = script(conflict, conflict, Answer(200))
    new_store(pauses).put("a", b"x", if_absent=True)
    assert [request.headers["If-None-Match"] for request in server.requests] == ["*"] * 3
    assert [request.body for request in server.requests] == [b"x"] * 3
    assert len(pauses) == 2
    assert 0 <= pauses[0] <= 0.1
    assert 0 <= pauses[1] <= 0.2


def test_a_lasting_conflict_is_unavailable(script: Script) -> None:
    """A conflict that does not end is StorageUnavailable after eight requests."""
    server = script(Answer(409, "ConditionalRequestConflict"))
    with pytest.raises(StorageUnavailable):
        new_store().put("a", b"x", if_absent=True)
    assert len(server.requests) == 8


def test_a_plain_put_sets_no_condition(script: Script) -> None:
    """Without if_absent there is no If-None-Match, and the body is sent as it is, without trailers."""
    server = script(Answer(200))
    new_store().put("a b", b"x" * 10)
    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("PUT", "/bucket/root/a%20b", b"x" * 10)
    names = {name.lower() for name in request.headers}
    assert not names & {"if-none-match", "x-amz-trailer", "x-amz-checksum-crc32", "x-amz-sdk-checksum-algorithm"}
    assert "fanout-storage" in request.headers["User-Agent"]


def test_checksums_are_a_setting(script: Script) -> None:
    """?checksums=when_supported asks boto3 for its newer checksums."""
    server = script(Answer(200))
    open_store("s3://bucket/x?checksums=when_supported").put("a", b"x")
    assert any(name.lower().startswith("x-amz-checksum-") for name in server.requests[0].headers)


def test_the_second_writer_gets_object_exists(script: Script) -> None:
    """412 is ObjectExists, and the put is not repeated."""
    server = script(Answer(412, "PreconditionFailed"))
    with pytest.raises(ObjectExists):
        new_store().put("a", b"x", if_absent=True)
    assert len(server.requests) == 1


def test_put_once_succeeds_after_a_lost_answer(script: Script) -> None:
    """The answer to the put is lost. boto3 sends the put again and gets 412, and put_once finds its own bytes."""
    server = script(Answer(0), Answer(412, "PreconditionFailed"), Answer(200, body=b"ours"))
    assert put_once(new_store(), "a", b"ours") is None
    assert [request.method for request in server.requests] == ["PUT", "PUT", "GET"]


def test_a_server_without_conditional_writes_is_named(script: Script) -> None:
    """501 to a write-once put is ConditionalWriteUnsupported; to any other request it is another error."""
    script(Answer(501, "NotImplemented"))
    with pytest.raises(ConditionalWriteUnsupported, match="If-None-Match"):
        new_store().put("a", b"x", if_absent=True)
    with pytest.raises(StorageError) as caught:
        new_store().put("a", b"x")
    assert type(caught.value) is StorageError


def test_a_body_cut_short_is_read_again(script: Script) -> None:
    """A body that breaks off is requested again, with the same range."""
    pauses: list[float] = []
    cut = Answer(206, body=b"012", missing_bytes=2)
    server = script(cut, cut, Answer(206, body=b"01234"))
    assert new_store(pauses).get("a", offset=10, length=5) == b"01234"
    assert [request.headers["Range"] for request in server.requests] == ["bytes=10-14"] * 3
    assert len(pauses) == 2


def test_a_body_always_cut_short_is_unavailable(script: Script) -> None:
    """Four broken bodies in a row are StorageUnavailable, never a short result."""
    server = script(Answer(200, body=b"012", missing_bytes=2))
    with pytest.raises(StorageUnavailable):
        new_store().get("a")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("offset", "length", "expected"), [(0, 3, b"012"), (3, 4, b"3456"), (8, None, b"89"), (8, 9, b"89"), (12, 5, b"")]
)
def test_the_answer_of_a_server_without_ranges_is_cut(
    script: Script, offset: int, length: int | None, expected: bytes
) -> None:
    """Status 200 to a ranged GET means the whole object, from which the store cuts the range."""
    script(Answer(200, body=b"0123456789"))
    assert new_store().get("a", offset=offset, length=length) == expected


def test_a_range_with_the_wrong_status_is_accepted(script: Script) -> None:
    """Status 200 with a Content-Range means that range, as rclone's gateway sends it."""
    script(Answer(200, body=b"345", headers={"Content-Range": "bytes 3-5/10"}))
    assert new_store().get("a", offset=3, length=3) == b"345"


@pytest.mark.parametrize("code", ["InvalidRange", ""])
def test_a_range_past_the_end_is_empty(script: Script, code: str) -> None:
    """416 to a ranged GET means an empty result, with or without an error body."""
    script(Answer(416, code))
    assert new_store().get("a", offset=10) == b""


def test_batch_deletes_carry_md5_to_other_servers(script: Script) -> None:
    """A custom endpoint gets the Content-MD5 that older servers require, and no newer checksum."""
    server = script(Answer(200, body=b"<DeleteResult/>"))
    new_store().delete(["a", "b"])
    (request,) = server.requests
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(request.body).digest()).decode()
    assert not [name for name in headers if name.startswith("x-amz-checksum")]
    assert request.body.count(b"<Key>root/") == 2


def refusing(**codes: str) -> Answer:
    """Return the answer to a batch delete that refuses these keys with these codes."""
    refusals = "".join(f"<Error><Key>root/{key}</Key><Code>{code}</Code></Error>" for key, code in codes.items())
    return Answer(200, body=f"<DeleteResult>{refusals}</DeleteResult>".encode())


def test_a_denied_key_of_a_batch_is_raised(script: Script) -> None:
    """An error for one key within a successful batch answer is raised with its key; a missing key is none."""
    script(refusing(**{"a": "NoSuchKey", "b/c": "AccessDenied"}), Answer(403, "AccessDenied"))
    with pytest.raises(StorageDenied, match="b/c") as caught:
        new_store().delete(["a", "b/c"])
    assert caught.value.key == "b/c"


@pytest.mark.parametrize("code", ["UnknownError", "InternalError", "SlowDown", "ServiceUnavailable", "Whatever", ""])
def test_a_key_of_a_batch_that_a_busy_server_refused_is_deleted_alone(script: Script, code: str) -> None:
    """Only the refused keys are asked for again, as often as any request; Ceph refuses so where two removals meet."""
    busy = Answer(503, "SlowDown")
    server = script(refusing(b=code, d=code), busy, busy, Answer(204))
    new_store().delete(["a", "b", "c", "d"])
    assert [request.method for request in server.requests] == ["POST", *["DELETE"] * 4]
    assert [request.path.split("?")[0][-1] for request in server.requests[1:]] == ["b", "b", "b", "d"]


def test_a_missing_bucket_names_create_bucket(moto_url: str) -> None:
    """The errors of a put and a listing in a bucket that does not exist name create_bucket as the remedy."""
    store = open_store("s3://no-such-bucket/x")
    for use in (lambda: store.put("a", b""), lambda: list(store.list())):
        with pytest.raises(BucketNotFound, match="create_bucket"):
            use()


def test_creating_a_bucket_twice_succeeds(moto_url: str) -> None:
    """create_bucket makes the bucket, and succeeds if it exists."""
    create_bucket("s3://made-twice")
    create_bucket("s3://made-twice")
    open_store("s3://made-twice").put("a", b"")


def test_a_bucket_is_created_in_the_clients_region(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside us-east-1 the bucket is made with a LocationConstraint, inside without."""
    server = script(Answer(200))
    create_bucket("s3://bucket")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    create_bucket("s3://bucket")
    assert [b"eu-central-1" in request.body for request in server.requests] == [False, True]


def test_a_bucket_of_another_account_is_denied(script: Script) -> None:
    """BucketAlreadyExists is success only for a client that may read the bucket."""
    exists = Answer(409, "BucketAlreadyExists")
    script(exists, Answer(200))
    create_bucket("s3://bucket")
    script(exists, Answer(403))
    with pytest.raises(StorageDenied):
        create_bucket("s3://bucket")


def test_no_credentials_are_denied(no_aws_environment: None) -> None:
    """Without credentials the error is StorageDenied, and names their sources."""
    with pytest.raises(StorageDenied, match="AWS_ACCESS_KEY_ID"):
        open_store("s3://bucket?client=boto3").get("a")


def test_an_unknown_profile_is_denied(no_aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile that is not configured is StorageDenied too."""
    monkeypatch.setenv("AWS_PROFILE", "unknown-profile")
    with pytest.raises(StorageDenied, match="unknown-profile"):
        open_store("s3://bucket?client=boto3").get("a")


def test_a_malformed_endpoint_is_named(aws_environment: Callable[[str], None]) -> None:
    """An endpoint that is no URL is an error of this package that names the variable."""
    aws_environment("not a url")
    with pytest.raises(StorageError, match="AWS_ENDPOINT_URL_S3"):
        open_store("s3://bucket?client=boto3").get("a")


def test_polling_a_busy_store_does_not_use_up_repetitions(script: Script) -> None:
    """After hundreds of answers of 503, each before a 404, a request is still repeated."""
    busy = Answer(503, "SlowDown")
    script(*[busy, Answer(404, "NoSuchKey")] * 150, busy, busy, Answer(200))
    store = new_store()
    for _ in range(150):
        with pytest.raises(ObjectNotFound):
            store.get("outcome")
    store.put("a", b"x")


def test_boto3_works_inside_mock_aws(aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store with boto3 works under moto's decorator, with AWS's own endpoint and addressing."""
    # moto takes most of a second, in each process that collects this file.
    from moto import mock_aws

    aws_environment("")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    with mock_aws():
        create_bucket("s3://bucket")
        store = open_store("s3://bucket/x?client=boto3")
        store.put("a", b"1")
        store.put("b", b"2")
        assert [info.key for info in store.list()] == ["a", "b"]
        store.delete(["a"])
        assert boto3.client("s3").list_objects_v2(Bucket="bucket")["Contents"][0]["Key"] == "x/b"


def test_threads_share_one_client(moto_url: str) -> None:
    """A process makes one client, even if many threads begin at once."""
    store = S3Store(moto_url)
    begin = threading.Barrier(8)

    def client_seen(_: int) -> int:
        begin.wait()
        return id(store._calls.process_client().client)

    with ThreadPoolExecutor(8) as pool:
        assert len({*pool.map(client_seen, range(8))}) == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_client(moto_url: str) -> None:
    """A child forked from a parent that has used the store, and holds its lock, reads through its own client."""
    store = S3Store(moto_url)
    store.put("a", b"from the parent")
    parents = store._calls.process_client().client
    outlet, inlet = os.pipe()
    with store._calls._locks[os.getpid()]:
        child = os.fork()
        if child == 0:
            answer = b"failed"
            try:
                if store._calls.process_client().client is not parents:
                    answer = store.get("a")
            finally:
                os.write(inlet, answer)
                os._exit(0)
    os.close(inlet)
    with os.fdopen(outlet, "rb") as pipe:
        assert pipe.read() == b"from the parent"
    assert os.waitpid(child, 0)[1] == 0
    assert store._calls.process_client().client is parents
    assert store.get("a") == b"from the parent"
