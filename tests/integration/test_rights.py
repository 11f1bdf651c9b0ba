"""The documents of "Prepare a bucket", on a server that enforces policies."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config as ClientConfig
from click.testing import CliRunner

from devstack import CephGateway
from fanout.cli import main
from fanout.engines.stub import StubEngine
from storage import (
    Examination,
    StorageDenied,
    Verdict,
    create_bucket,
    open_examination,
    open_store,
    open_verified,
    probe_store,
    write_probe_result,
)
from tests.docs.blocks import blocks_of

from ..tasks import SumTask

PAGE = "docs/how-to/bucket.md"
DOCUMENTS: dict[str, Any] = {block.title: json.loads(block.text) for block in blocks_of(PAGE) if block.title}
RIGHTS: list[str] = [right for statement in DOCUMENTS["policy.json"]["Statement"] for right in statement["Action"]]
NEEDED = ("s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject")
UNCHECKED_BY_CEPH = "s3:ListMultipartUploadParts"
BUCKET = f"rights-{os.getpid()}"
URL = f"s3://{BUCKET}/fanout"


def policy_without(right: str) -> str:
    """Return the page's policy for the tests' bucket, without one of its rights."""
    policy = copy.deepcopy(DOCUMENTS["policy.json"])
    for statement in policy["Statement"]:
        statement["Action"] = [action for action in statement["Action"] if action != right]
        statement["Resource"] = statement["Resource"].replace("my-bucket", BUCKET)
    return json.dumps(policy)


@pytest.fixture(scope="module")
def write_as_owner(ceph_gateway: CephGateway) -> Callable[[], object]:
    """Make the bucket with the page's rules; return a function that writes its owner's probe result."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ceph_gateway.environment.items():
            patch.setenv(name, value)
        create_bucket(URL)
        store = open_store(URL)
        report = probe_store(store, writers=4, rounds=1)
        owner = boto3.session.Session().client("s3", config=ClientConfig(s3={"addressing_style": "path"}))
    rules = DOCUMENTS["lifecycle.json"]
    owner.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=rules)
    return lambda: write_probe_result(store, report)


@pytest.fixture(scope="module")
def environment(ceph_gateway: CephGateway) -> dict[str, str]:
    """Variables of a user without any rights yet."""
    return ceph_gateway.add_user(BUCKET)


@pytest.fixture(scope="module")
def allow(ceph_gateway: CephGateway, environment: dict[str, str]) -> Callable[[str], None]:
    """Return a function that gives that user a policy."""
    return lambda policy: ceph_gateway.allow(BUCKET, policy)


@pytest.fixture(autouse=True)
def _use_credentials(
    environment: dict[str, str], write_as_owner: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let the test run as that user, over an object of the owner's: Ceph lets users read their own in any case."""
    write_as_owner()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def examination(environment: dict[str, str]) -> Iterator[Examination]:
    """The examination by that user, with one client for all policies."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        examination = open_examination(URL)
        assert examination is not None
        examination.check_connection()
        yield examination


def run_and_remove_job() -> int:
    """Run a job as callers and workers do, remove it, and return its value."""
    engine = StubEngine(store=open_verified(URL))
    job = engine.submit(SumTask.declaration, {"numbers": [1, 2, 3]})
    engine.drain()
    value: int = job.get(10)
    job.remove()
    return value


def test_the_policy_is_enough(allow: Callable[[str], None]) -> None:
    """With the page's policy a job runs and is removed, and doctor finds nothing to change."""
    allow(policy_without(""))
    assert run_and_remove_job() == 6
    result = CliRunner().invoke(main, ["doctor", "--store", URL, "--json"])
    findings = {finding["check"]: finding for finding in json.loads(result.output)}
    assert {finding["verdict"] for finding in findings.values()} == {"ok"}, findings
    assert {f"store: {right}" for right in RIGHTS} <= findings.keys()
    assert findings["store: deletes"]["found"].startswith("one by one")
    assert result.exit_code == 0


@pytest.mark.parametrize("right", [right for right in RIGHTS if right != UNCHECKED_BY_CEPH])
def test_a_missing_right_is_named(allow: Callable[[str], None], examination: Examination, right: str) -> None:
    """Doctor names the one right that the policy lacks, and where to allow it."""
    allow(policy_without(right))
    missing = [check for check in examination.check_rights() if check.found != "allowed"]
    assert [check.check for check in missing] == [right]
    (check,) = missing
    assert check.found == "is missing"
    assert f"Allow {right} on arn:aws:s3:::{BUCKET}" in check.remedy
    assert (check.verdict is Verdict.BROKEN) is (right in NEEDED)


@pytest.mark.parametrize("right", NEEDED)
def test_a_job_without_a_right_names_it(allow: Callable[[str], None], right: str) -> None:
    """A job that lacks a right which it needs fails with an error that names the right."""
    allow(policy_without(right))
    with pytest.raises(StorageDenied) as caught:
        run_and_remove_job()
    assert right in caught.value.remedy


def test_a_broken_store_ends_doctor_at_the_rights(allow: Callable[[str], None]) -> None:
    """Without a right that jobs need, doctor stops after the rights, with the status of something broken."""
    allow(policy_without("s3:PutObject"))
    result = CliRunner().invoke(main, ["doctor", "--store", URL])
    assert result.exit_code == 1
    assert [line for line in result.output.splitlines() if line.startswith("broken")] != []
    assert "write once" not in result.output
