"""Encryption at rest, which each write asks for, and on the way, with certificates of one's own authority."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import boto3
import pytest
from botocore.config import Config
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from storage import StorageUnavailable, deadline, open_examination, open_store
from storage.s3.boto3_uploads import S3UploadStore
from storage.s3.location import parse_s3_url

from .scripted import Answer, Script, ScriptedServer

KEY = "arn:aws:kms:eu-west-1:1:key/1-2"
ASKED = {
    "?encryption=AES256": {"x-amz-server-side-encryption": "AES256"},
    f"?encryption=aws:kms&kms_key={KEY}": {
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": KEY,
    },
    "?": {},
}


@pytest.fixture(autouse=True)
def _give_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try a server that can't be reached only once."""
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, reach_s=deadline.LIMITS.connect_s))


def encryption_of(headers: dict[str, str]) -> dict[str, str]:
    lowered = {name.lower(): value for name, value in headers.items()}
    return {name: value for name, value in lowered.items() if name.startswith("x-amz-server-side")}


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize("query", ASKED)
def test_each_write_asks_for_the_encryption_of_the_url(script: Script, query: str, client: str) -> None:
    """Plain writes and write-once puts ask for it, and reads do not, for either client."""
    server = script(Answer(200, headers={"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}))
    store = open_store(f"s3://bucket{query}&client={client}".replace("?&", "?"))
    store.put("a", b"x")
    store.put("b", b"x", if_absent=True)
    store.get("a")
    assert [encryption_of(request.headers) for request in server.requests] == [ASKED[query], ASKED[query], {}]
    assert all(("Boto3" in str(request.headers)) is (client == "boto3") for request in server.requests)


def test_an_upload_in_parts_asks_for_it_at_its_start(script: Script) -> None:
    """The request that starts an upload asks for the encryption; those of its parts must not."""
    server = script(Answer(200, body=b"<R><UploadId>id</UploadId></R>"), Answer(200, headers={"ETag": '"e"'}))
    store = S3UploadStore(f"s3://bucket?encryption=aws:kms&kms_key={KEY}")
    store.upload_part("a", store.start_upload("a", token="t"), 1, b"x")
    assert [len(encryption_of(request.headers)) for request in server.requests] == [2, 0]


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_server_encrypts_what_it_is_asked_to(moto_url: str, client: str) -> None:
    """A server says of an object of a few bytes, and of one in parts, that it is encrypted as the URL asks."""
    store = open_store(f"{moto_url}?encryption=aws:kms&kms_key={KEY}&client={client}")
    store.put("small", b"x")
    store.put("large", bytes(17 * 2**20))
    location = parse_s3_url(moto_url)
    reader = boto3.session.Session().client("s3", config=Config(s3={"addressing_style": "path"}))
    for name in ("small", "large"):
        head = reader.head_object(Bucket=location.bucket, Key=location.prefix + name)
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY)


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own authority; return the files of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "own authority")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "certificate.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


@pytest.fixture
def certificate(tmp_path: Path, aws_environment: Callable[[str], None]) -> Iterator[Path]:
    """Run a server that speaks TLS, point the clients at it, and yield the file of its authority."""
    path, key = make_certificate(tmp_path)
    server = ScriptedServer([Answer(200, body=b"content")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, daemon=True).start()
    aws_environment(server.endpoint.replace("http:", "https:"))
    yield path
    server.shutdown()
    server.server_close()


def test_a_server_with_a_certificate_of_ones_own(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With AWS_CA_BUNDLE the store is read; without, the error names that variable. Doctor says which file it is."""
    with pytest.raises(StorageUnavailable, match="AWS_CA_BUNDLE"):
        open_store("s3://bucket?client=boto3").get("a")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert open_store("s3://bucket").get("a") == b"content"
    examination = open_examination("s3://bucket")
    assert examination is not None
    assert str(certificate) in examination.check_connection().found


def test_a_proxy_that_does_not_answer_is_named(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variables of proxies, and doctor the proxy without its password."""
    script(Answer(200, body=b"content"))
    monkeypatch.setenv("HTTP_PROXY", "http://me:sesame@127.0.0.1:1")
    with pytest.raises(StorageUnavailable, match="NO_PROXY"):
        open_store("s3://bucket?client=boto3").get("a")
    examination = open_examination("s3://bucket")
    assert examination is not None
    assert examination.check_connection().found.endswith("through the proxy http://127.0.0.1:1")
