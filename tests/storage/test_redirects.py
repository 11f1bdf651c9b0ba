"""A server of S3 that redirects requests gains nothing: no signature reaches another server."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from storage import S3Server, StorageError, open_bucket, open_store

from .scripted import Answer, Script, serving


@pytest.mark.parametrize("status", [302, 308])
def test_boto3_follows_no_redirect(script: Script, status: int) -> None:
    """The other server gets no request at all, for any verb."""
    with serving([Answer(200, body=b"from elsewhere", headers={"ETag": '"x"'})]) as elsewhere:
        script(Answer(status, headers={"Location": f"{elsewhere.endpoint}/bucket/a"}))
        store = open_store("s3://bucket?client=boto3")
        verbs: list[Callable[[], object]] = [
            lambda: store.get("a"),
            lambda: store.head("a"),
            lambda: store.put("a", b"x"),
            lambda: list(store.list()),
        ]
        for verb in verbs:
            with pytest.raises(StorageError):
                verb()
        assert elsewhere.requests == []


@pytest.mark.parametrize("status", [302, 308])
def test_obstore_signs_no_redirected_request(script: Script, status: int) -> None:
    """obstore follows a redirect, of stores and of sources, and leaves the signature out for another server."""
    answer = Answer(200, body=b"x", headers={"ETag": '"x"', "Last-Modified": "Fri, 27 Nov 2026 06:00:00 GMT"})
    with serving([answer]) as elsewhere:
        server = script(Answer(status, headers={"Location": f"{elsewhere.endpoint}/bucket/a"}))
        open_store("s3://bucket?client=obstore").get("a")
        open_bucket("bucket", S3Server(endpoint_url=server.endpoint)).head("a")
        assert [request.method for request in elsewhere.requests] == ["GET", "HEAD"]
        for request in elsewhere.requests:
            assert "authorization" not in map(str.lower, request.headers)
