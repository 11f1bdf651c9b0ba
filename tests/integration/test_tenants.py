"""Two tenants, as two users of Ceph's gateway, with the policy of the page "Separate tenants" or a bucket each."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from devstack import CephGateway
from fanout.engines.stub import StubEngine
from storage import ObjectNotFound, ObjectStore, StorageDenied, StorageError, create_bucket, open_store
from tests.docs.blocks import blocks_of

from ..tasks import SumTask

POLICY = next(block.text for block in blocks_of("docs/how-to/tenants.md") if block.title == "tenants.json")
BUCKET = f"tenants-{os.getpid()}"
VICTIM, INTRUDER = "team", "team2"

UseAs = Callable[[str], ObjectStore]


@pytest.fixture(scope="module")
def variables(ceph_gateway: CephGateway) -> dict[str, dict[str, str]]:
    """Make the bucket, two users and the page's policy. Return each user's variables."""
    users = {name: f"{name}-{os.getpid()}" for name in (VICTIM, INTRUDER)}
    made = {name: ceph_gateway.add_user(user) for name, user in users.items()}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ceph_gateway.environment.items():
            patch.setenv(name, value)
        create_bucket(f"s3://{BUCKET}")
        text = POLICY.replace("my-bucket", BUCKET)
        for name, user in users.items():
            text = text.replace(f'user/{name}"', f'user/{user}"')
        boto3.Session().client("s3").put_bucket_policy(Bucket=BUCKET, Policy=text)
    return made


@pytest.fixture(params=["a prefix each", "a bucket each"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def use_as(variables: dict[str, dict[str, str]], layout: str, monkeypatch: pytest.MonkeyPatch) -> UseAs:
    """Return a function that gives this process a tenant's credentials, and returns the tenant's store."""

    def use(name: str) -> ObjectStore:
        for key, value in variables[name].items():
            monkeypatch.setenv(key, value)
        if layout == "a bucket each":
            create_bucket(url_of(name, layout))
        return open_store(url_of(name, layout))

    return use


def url_of(tenant: str, layout: str) -> str:
    return f"s3://{BUCKET}/{tenant}" if layout == "a prefix each" else f"s3://{BUCKET}-{tenant}"


@pytest.mark.parametrize("tenant", [VICTIM, INTRUDER])
def test_each_tenant_runs_jobs_below_its_prefix(use_as: UseAs, tenant: str) -> None:
    """The rights of the page are enough for a job: its records, packs and results."""
    store = use_as(tenant)
    engine = StubEngine(store=store)
    job = engine.submit(SumTask.declaration, {"numbers": [1, 2, 3]})
    engine.drain()
    assert job.get(10) == 6
    store.put("a", b"1", if_absent=True)


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_worker_of_one_tenant_reaches_nothing_of_another(use_as: UseAs, layout: str, client: str) -> None:
    """Reads, listings, writes and deletions of the other's prefix are denied, and the other's object is unchanged."""
    victim = use_as(VICTIM)
    victim.put("_jobs/a/intent", b"secret")
    use_as(INTRUDER)
    other = open_store(f"{url_of(VICTIM, layout)}?client={client}")
    attempts: dict[str, Callable[[], Any]] = {
        "get": lambda: other.get("_jobs/a/intent"),
        "range": lambda: other.get("_jobs/a/intent", length=1),
        "missing": lambda: other.get("_jobs/b/intent"),
        "head": lambda: other.head("_jobs/a/intent"),
        "list": lambda: list(other.list("_jobs/")),
        "list all": lambda: list(
            open_store(f"{url_of(VICTIM, layout).removesuffix(f'/{VICTIM}')}?client={client}").list()
        ),
        "put": lambda: other.put("_jobs/a/intent", b"forged"),
        "put once": lambda: other.put("_jobs/b/intent", b"forged", if_absent=True),
        "large put": lambda: other.put("_jobs/b/pack", b"x" * (9 << 20)),
        "delete": lambda: other.delete(["_jobs/a/intent"]),
        "a job": lambda: SumTask.run({"numbers": [1]}, store=other.url),
    }
    allowed = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except StorageDenied:
            continue
        except ObjectNotFound:
            assert name == "missing"
        except StorageError as error:
            allowed.append(f"{name}: {error}")
        else:
            allowed.append(name)
    # A shared bucket shows its keys to all, as the page says.
    assert allowed == (["list", "list all"] if layout == "a prefix each" else [])
    assert use_as(VICTIM).get("_jobs/a/intent") == b"secret"
    assert [entry.key for entry in victim.list("_jobs/b/")] == []


@pytest.mark.parametrize("layout", ["a prefix each"], indirect=True)
def test_no_tenant_can_widen_its_rights(use_as: UseAs) -> None:
    """Neither by the bucket's policy, nor by an object's, nor by a copy of another tenant's object."""
    use_as(VICTIM).put("_jobs/a/intent", b"secret")
    use_as(INTRUDER).put("mine", b"1")
    s3 = boto3.Session().client("s3")
    theirs = {"Bucket": BUCKET, "Key": f"{VICTIM}/_jobs/a/intent"}
    attempts: dict[str, Callable[[], Any]] = {
        "policy": lambda: s3.put_bucket_policy(Bucket=BUCKET, Policy='{"Version": "2012-10-17", "Statement": []}'),
        "no policy": lambda: s3.delete_bucket_policy(Bucket=BUCKET),
        "rights of the bucket": lambda: s3.put_bucket_acl(Bucket=BUCKET, ACL="public-read-write"),
        "rights of an object": lambda: s3.put_object_acl(**theirs, ACL="public-read"),
        "copy": lambda: s3.copy_object(Bucket=BUCKET, Key=f"{INTRUDER}/copy", CopySource=theirs),
        "part copy": lambda: copy_part(s3, theirs),
    }
    allowed = []
    for name, attempt in attempts.items():
        try:
            attempt()
        except ClientError as error:
            if error.response["Error"]["Code"] != "AccessDenied":
                allowed.append(f"{name}: {error}")
        else:
            allowed.append(name)
    assert allowed == []


def copy_part(s3: Any, source: dict[str, str]) -> None:
    """Copy another tenant's object as a part of an upload."""
    target = {"Bucket": BUCKET, "Key": f"{INTRUDER}/parts"}
    upload = s3.create_multipart_upload(**target)["UploadId"]
    try:
        s3.upload_part_copy(**target, UploadId=upload, PartNumber=1, CopySource=source)
    finally:
        s3.abort_multipart_upload(**target, UploadId=upload)
