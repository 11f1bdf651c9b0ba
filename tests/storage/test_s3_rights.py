"""Limits of a bucket or its policy: missing rights, versions, object lock, no batch deletes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import boto3
import pytest
from botocore.config import Config

from storage import (
    ObjectStore,
    Retention,
    StorageDenied,
    StorageError,
    open_store,
    probe_store,
)
from storage.s3.boto3_store import S3Store
from storage.s3.location import parse_s3_url

from .scripted import Answer, Script

VERBS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a", b"x"),
    "put once": lambda store: store.put("a", b"x", if_absent=True),
    "get": lambda store: store.get("a"),
    "head": lambda store: store.head("a"),
    "list": lambda store: [*store.list("x/")],
    "delete": lambda store: store.delete(["a"]),
}
DENIALS = [
    (403, "AccessDenied"),
    (400, "ExpiredToken"),
    (403, "ExpiredTokenException"),
    (400, "InvalidToken"),
    (400, "TokenRefreshRequired"),
    (403, "InvalidAccessKeyId"),
    (403, "SignatureDoesNotMatch"),
    (403, "RequestTimeTooSkewed"),
    (401, "Unauthorized"),
    (400, "UnauthorizedAccess"),
    (400, "AccessDeniedException"),
    (400, "KMS.DisabledException"),
    (400, "KMS.AccessDeniedException"),
    (400, "UnrecognizedClientException"),
    (400, "AuthorizationHeaderMalformed"),
    (400, "MissingAuthenticationToken"),
    (403, "SomethingNew"),
]


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize(("status", "code"), DENIALS)
def test_every_form_of_a_denial_is_storage_denied(script: Script, status: int, code: str, client: str) -> None:
    """A denial of any verb is StorageDenied, which is transient. A HEAD, which has no code, makes a second request."""
    script(Answer(status, code))
    store = open_store(f"s3://bucket?client={client}")
    for name, verb in VERBS.items():
        with pytest.raises(StorageError) as caught:
            verb(store)
        assert type(caught.value) is StorageDenied, name
        assert caught.value.transient
        if name != "head" or status == 400:
            assert code in str(caught.value)


@pytest.mark.parametrize(
    ("verb", "right"),
    [
        ("put", "s3:PutObject"),
        ("get", "s3:GetObject, or s3:ListBucket on the bucket"),
        ("head", "s3:GetObject, or s3:ListBucket on the bucket"),
        ("list", "s3:ListBucket on the bucket"),
        ("delete", "s3:DeleteObject"),
    ],
)
def test_the_right_that_may_be_missing_is_named(script: Script, verb: str, right: str) -> None:
    """A denial without a better reason names the action that a policy has to allow."""
    script(Answer(403, "AccessDenied"))
    with pytest.raises(StorageDenied) as caught:
        VERBS[verb](S3Store("s3://bucket"))
    assert right in caught.value.remedy
    assert right.startswith(caught.value.right)
    assert caught.value.right


def test_the_servers_reason_is_in_the_message(script: Script) -> None:
    """The message repeats the server's text for a denial or an unknown code."""
    script(Answer(400, body=b"<Error><Code>Odd</Code><Message>Odd things happened.</Message></Error>"))
    with pytest.raises(StorageError, match=r"Odd things happened\."):
        S3Store("s3://bucket").get("a")


NO_BATCHES = [
    (501, "NotImplemented"),
    (400, "MalformedXML"),
    (400, "InvalidArgument"),
    (405, "MethodNotAllowed"),
    (400, "InvalidRequest"),
    (411, "MissingContentLength"),
    (400, ""),
]


@pytest.mark.parametrize(("status", "code"), NO_BATCHES)
def test_keys_are_deleted_singly_without_batch_deletes(script: Script, status: int, code: str) -> None:
    """Google's S3 interface has no batch deletes: keys are deleted one by one, and no batch is sent again."""
    server = script(Answer(status, code), Answer(204))
    store = open_store("s3://bucket/root")
    store.delete(["a", "b/c"])
    store.delete(["d"])
    asked = [(request.method, request.path) for request in server.requests]
    assert asked[0][0] == "POST"
    assert sorted(asked[1:]) == [("DELETE", f"/bucket/root/{key}") for key in ("a", "b/c", "d")]


def test_single_deletes_raise_their_errors(script: Script) -> None:
    """A single deletion raises its error, except for a missing key."""
    script(Answer(501, "NotImplemented"), Answer(404, "NoSuchKey"), Answer(403, "AccessDenied"))
    store = S3Store("s3://bucket")
    store.delete(["gone"])
    with pytest.raises(StorageDenied, match="'kept'"):
        store.delete(["kept"])


@pytest.mark.parametrize(("code", "methods"), [("InvalidAccessKeyId", ["POST"]), ("AccessDenied", ["POST", "DELETE"])])
def test_a_denied_batch_is_raised_soon(script: Script, code: str, methods: list[str]) -> None:
    """Refused credentials are raised at once, and a missing right after the first single deletion."""
    server = script(Answer(403, code))
    with pytest.raises(StorageDenied):
        S3Store("s3://bucket").delete(["a", "b", "c"])
    assert [request.method for request in server.requests] == methods


def test_a_right_to_delete_single_objects_is_enough(script: Script) -> None:
    """A server that asks more for a batch than the policy gives, as Ceph 16 does, gets single deletions."""
    server = script(Answer(403, "AccessDenied"), Answer(204))
    store = S3Store("s3://bucket")
    store.delete(["a", "b"])
    store.delete(["c", "d"])
    assert [request.method for request in server.requests] == ["POST", *["DELETE"] * 4]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InvalidRequest", "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Lock"),
        ("MissingUploadObjectWithObjectLockHeaders", ""),
    ],
)
def test_writes_to_a_locked_bucket_have_a_digest(script: Script, code: str, words: str) -> None:
    """A bucket with object lock refuses a write without a digest. The repeated write and all later ones have one."""
    refusal = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode()
    server = script(Answer(400, body=refusal), Answer(400, body=refusal), Answer(200))
    store = open_store("s3://bucket")
    store.put("a", b"x")
    store.put("b", b"y", if_absent=True)
    digests = [
        {name.lower(): value for name, value in request.headers.items()}.get("content-md5")
        for request in server.requests
    ]
    assert [digest is not None for digest in digests] == [False, False, True, True]


@pytest.fixture
def locked_url(moto_url: str) -> str:
    """Return the URL of a moto bucket with object lock and default retention. It refuses writes without a digest."""
    client = boto3.session.Session().client("s3")
    name = f"locked-{parse_s3_url(moto_url).prefix.strip('/')}"
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}}
    client.put_object_lock_configuration(Bucket=name, ObjectLockConfiguration=rule)  # type: ignore[arg-type]
    return f"s3://{name}/root"


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_locked_bucket_can_be_used(locked_url: str, client: str) -> None:
    """A locked bucket holds all guarantees, and the store reports that deleted objects stay."""
    store = open_store(f"{locked_url}?client={client}")
    assert probe_store(store, writers=4, rounds=1).broken == ()
    assert store.retention() == Retention(True, True, "GOVERNANCE", 3)


@pytest.mark.parametrize("server", ["moto", "ceph"])
def test_retention_reports_versions(request: pytest.FixtureRequest, server: str) -> None:
    """retention says whether a bucket keeps deleted objects."""
    url = request.getfixturevalue(f"{server}_url")
    name = f"versions-{int(datetime.now(UTC).timestamp() * 1e6)}"
    store = open_store(f"s3://{name}/x")
    # A new session, because the default one may have cached another server's credentials.
    client = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    client.create_bucket(Bucket=name)
    assert store.retention() == open_store(url).retention() == Retention()
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    assert store.retention() == Retention(versions=True)
    store.put("a", b"1")
    store.delete(["a"])
    assert [*store.list()] == []


def test_settings_that_may_not_be_read_are_unknown(script: Script) -> None:
    """Without the right to read the settings, retention is None."""
    script(Answer(403, "AccessDenied"))
    assert S3Store("s3://bucket").retention() is None


RIGHTS = {
    "all": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"],
    "no listing": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
    "no deleting": ["s3:GetObject", "s3:PutObject", "s3:ListBucket"],
}


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_the_documented_rights_are_enough(
    ceph_url: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """On a server that enforces policies, all verbs work with the four rights.

    Without one of them the error names it.
    """
    gateway = request.getfixturevalue("ceph_gateway")
    location = parse_s3_url(ceph_url)
    owner = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    other = gateway.add_user(f"other-{client}")
    for name, actions in RIGHTS.items():
        statement = {
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam:::user/other-{client}"]},
            "Action": actions,
            "Resource": [f"arn:aws:s3:::{location.bucket}", f"arn:aws:s3:::{location.bucket}/*"],
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        owner.put_bucket_policy(Bucket=location.bucket, Policy=policy)
        with monkeypatch.context() as patched:
            for variable, value in other.items():
                patched.setenv(variable, value)
            store = open_store(f"{ceph_url}/{name.replace(' ', '-')}?client={client}")
            store.put("a", b"x", if_absent=True)
            assert store.get("a") == b"x"
            if name == "no listing":
                store.delete(["a"])
                for verb in ("get", "head", "list"):
                    with pytest.raises(StorageDenied, match="s3:ListBucket on the bucket"):
                        VERBS[verb](store)
            elif name == "no deleting":
                with pytest.raises(StorageDenied, match="s3:DeleteObject"):
                    store.delete(["a"])
            else:
                assert probe_store(store, writers=4, rounds=1).broken == ()
    owner.delete_bucket_policy(Bucket=location.bucket)
