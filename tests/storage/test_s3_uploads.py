"""Uploads that one process begins and another one completes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from storage import ObjectNotFound, UploadGone
from storage.s3.boto3_uploads import S3UploadStore

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
