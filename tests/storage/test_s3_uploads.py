"""Uploads that one process begins and another one completes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage import ObjectNotFound, S3Server, UploadGone, open_uploads
from storage.s3.boto3_uploads import S3UploadStore

from .scripted import Answer, Script

SMALLEST_PART_BYTES = 5 * 2**20


@pytest.fixture(params=["moto", "ceph"])
def uploads(request: pytest.FixtureRequest) -> S3UploadStore:
    """Return an empty prefix of a bucket on each server in turn."""
    return S3UploadStore(request.getfixturevalue(f"{request.param}_url") + "/an odd prefix")


def test_an_object_appears_when_its_upload_is_completed(uploads: S3UploadStore) -> None:
    """A reader sees nothing of two uploads for one key, and then the whole of the one that is completed."""
    started = {token: uploads.start_upload("a b.bin", token=token) for token in ("first", "second")}
    blocks = [b"x" * SMALLEST_PART_BYTES, b"the end"]
    tags = [uploads.upload_part("a b.bin", started["first"], number, block) for number, block in enumerate(blocks, 1)]
    uploads.upload_part("a b.bin", started["second"], 1, b"other bytes")
    with pytest.raises(ObjectNotFound):
        uploads.head("a b.bin")
    assert {upload.upload_id for upload in uploads.list_uploads("a")} == set(started.values())
    uploads.complete_upload("a b.bin", started["first"], tags, token="first")
    assert uploads.get("a b.bin") == b"".join(blocks)
    assert [upload.upload_id for upload in uploads.list_uploads()] == [started["second"]]
    uploads.abort_upload("a b.bin", started["second"])
    uploads.abort_upload("a b.bin", started["second"])
    assert not list(uploads.list_uploads())


def test_an_upload_is_completed_by_several_processes(uploads: S3UploadStore) -> None:
    """Two that complete an upload at once, and a third one later, all succeed."""
    upload_id = uploads.start_upload("key", token="mine")
    tags = [uploads.upload_part("key", upload_id, 1, b"content")]
    with ThreadPoolExecutor(2) as pool:
        for _ in pool.map(lambda _: uploads.complete_upload("key", upload_id, tags, token="mine"), range(2)):
            pass
    uploads.complete_upload("key", upload_id, tags, token="mine")
    assert uploads.get("key") == b"content"


def test_an_upload_that_was_aborted_is_named(uploads: S3UploadStore) -> None:
    """Completing an aborted upload fails by its key, even if another upload has made an object of that key."""
    lost, other = uploads.start_upload("key", token="lost"), uploads.start_upload("key", token="other")
    tags = {upload_id: [uploads.upload_part("key", upload_id, 1, upload_id.encode())] for upload_id in (lost, other)}
    uploads.abort_upload("key", lost)
    uploads.complete_upload("key", other, tags[other], token="other")
    with pytest.raises(UploadGone, match="'key'"):
        uploads.complete_upload("key", lost, tags[lost], token="lost")


@pytest.mark.parametrize("uploads", ["ceph"], indirect=True)
def test_a_part_for_an_aborted_upload_is_refused(uploads: S3UploadStore) -> None:
    """A run whose upload another process has aborted fails by its key at the next part."""
    upload_id = uploads.start_upload("key", token="lost")
    uploads.abort_upload("key", upload_id)
    with pytest.raises(UploadGone, match="'key'"):
        uploads.upload_part("key", upload_id, 1, b"more")


def test_a_server_that_is_named_gets_its_own_credentials(script: Script) -> None:
    """Uploads go to the server that a setting names, signed with its keys, whatever the environment says."""
    script(Answer(500))
    other = script(Answer(200, body=b"<R><UploadId>id-1</UploadId></R>"))
    script(Answer(500))
    server = S3Server(other.endpoint, access_key_id="named-key", secret_access_key="named-secret")
    assert open_uploads("lake", server).start_upload("a", token="t") == "id-1"
    headers = {name.lower(): value for name, value in other.requests[0].headers.items()}
    assert "Credential=named-key/" in headers["authorization"]
    assert headers["x-amz-meta-fanout-upload"] == "t"


def test_parts_for_a_locked_bucket_have_a_digest(script: Script) -> None:
    """A bucket with object lock refuses a part without a digest. The repeated part and all later ones have one."""
    words = "Content-MD5 OR x-amz-checksum- HTTP header is required for Upload Part requests"
    refusal = f"<Error><Code>InvalidRequest</Code><Message>{words}</Message></Error>".encode()
    server = script(Answer(400, body=refusal), Answer(200, headers={"ETag": '"tag"'}))
    store = S3UploadStore("s3://bucket")
    assert [store.upload_part("a", "id", number, b"x") for number in (1, 2)] == ["tag", "tag"]
    digests = ["content-md5" in {name.lower() for name in request.headers} for request in server.requests]
    assert digests == [False, True, True]
