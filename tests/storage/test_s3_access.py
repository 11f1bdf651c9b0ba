"""boto3's chain decides once where requests go, and no client reads the environment itself."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import InvalidStoreUrl, ObjectStore, StorageDenied, StorageError, open_store
from storage.s3.boto3_client import new_client
from storage.s3.boto3_store import S3Store
from storage.s3.endpoint import Keys, S3Access, read_access
from storage.s3.location import S3Location
from storage.s3.obstore_clients import make_clients
from storage.s3.obstore_store import ObstoreS3Store

from .scripted import Answer, Script, ScriptedServer, serving

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
NO_FILE = {"AWS_CONFIG_FILE": "/nowhere/config", "AWS_SHARED_CREDENTIALS_FILE": "/nowhere/credentials"}
NOWHERE = "http://127.0.0.1:9"

# Variables that object_store, reqwest and rustls read; each value would redirect or break every request.
HARMFUL = {
    "AWS_ACCESS_KEY": "stray",
    "AWS_ALLOW_HTTP": "false",
    "AWS_ALLOW_INVALID_CERTIFICATES": "true",
    "AWS_BUCKET": "stray",
    "AWS_BUCKET_NAME": "stray",
    "AWS_CHECKSUM_ALGORITHM": "SHA256",
    "AWS_CONDITIONAL_PUT": "disabled",
    "AWS_CONNECT_TIMEOUT": "1ns",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/nowhere",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI": NOWHERE,
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/stray",
    "AWS_COPY_IF_NOT_EXISTS": "nonsense",
    "AWS_DEFAULT_CONTENT_TYPE": "stray/stray",
    "AWS_DISABLE_BULK_DELETE": "nonsense",
    "AWS_DISABLE_TAGGING": "nonsense",
    "AWS_ENDPOINT": NOWHERE,
    "AWS_ENDPOINT_URL_STS": NOWHERE,
    "AWS_HTTP2_ONLY": "true",
    "AWS_IMDSV1_FALLBACK": "nonsense",
    "AWS_METADATA_ENDPOINT": NOWHERE,
    "AWS_PROXY_URL": NOWHERE,
    "AWS_READ_TIMEOUT": "1ns",
    "AWS_REGION": "stray-9",
    "AWS_REQUEST_PAYER": "requester",
    "AWS_ROLE_ARN": "arn:aws:iam::1:role/stray",
    "AWS_S3_EXPRESS": "true",
    "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
    "AWS_SKIP_SIGNATURE": "true",
    "AWS_SSE_BUCKET_KEY_ENABLED": "true",
    "AWS_SSE_CUSTOMER_KEY_BASE64": "c3RyYXk=",
    "AWS_SSE_KMS_KEY_ID": "stray",
    "AWS_STS_ENDPOINT": NOWHERE,
    "AWS_TIMEOUT": "1ns",
    "AWS_TOKEN": "stray",
    "AWS_UNSIGNED_PAYLOAD": "nonsense",
    "AWS_USER_AGENT": "stray",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "nonsense",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nowhere",
    "AWS_endpoint": NOWHERE,
    "AWS_skip_signature": "true",
    "ALL_PROXY": NOWHERE,
    "all_proxy": NOWHERE,
    "HTTPS_PROXY": NOWHERE,
    "SSL_CERT_FILE": "/nowhere",
    "SSL_CERT_DIR": "/nowhere",
    "S3_ENDPOINT": NOWHERE,
    "BUCKET": "stray",
}
WRITTEN = Answer(200, headers={"ETag": '"e"'})
THERE = Answer(200, body=b"there", headers={"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})


def use(store: ObjectStore) -> None:
    store.put("a", b"x")
    assert store.get("a") == b"there"
    store.head("a")
    assert [*store.list("folder/")] == []


@pytest.mark.parametrize(
    ("client", "variables"),
    [*(("obstore", {name: value}) for name, value in HARMFUL.items()), ("obstore", HARMFUL), ("boto3", HARMFUL)],
    ids=[*HARMFUL, "all, obstore", "all, boto3"],
)
def test_no_foreign_variable_redirects_requests(
    script: Script, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], client: str
) -> None:
    """With any variable of other programs set, requests use the server, bucket and keys of boto3's chain."""
    listing = Answer(200, body=b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
    server = script(WRITTEN, THERE, THERE, listing)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    use(open_store(f"s3://bucket/root?client={client}"))
    assert [request.method for request in server.requests] == ["PUT", "GET", "HEAD", "GET"]
    for request in server.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert request.path.partition("?")[0] in ("/bucket/root/a", "/bucket", "/bucket/")
        assert "Credential=test-key/" in headers["authorization"]
        assert "/us-east-1/s3/aws4_request" in headers["authorization"]
        strays = {"x-amz-security-token", "x-amz-request-payer", "x-amz-server-side-encryption"}
        assert not strays & set(headers)
        assert "stray" not in str(headers)


def test_no_other_server_is_asked(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endpoint or proxy that is set for other programs gets no request, and obstore is used."""
    with serving([Answer(403, "AccessDenied")]) as stray:
        for name, value in HARMFUL.items():
            if value == NOWHERE:
                monkeypatch.setenv(name, stray.endpoint)
        server = script(WRITTEN)
        store = ObstoreS3Store("s3://bucket")
        store.put("a", b"x")
        assert store._boto3 is None
        assert len(server.requests) == 1
        assert stray.requests == []


def test_obstore_is_used_if_it_has_the_settings(aws_environment: Callable[[str], None]) -> None:
    """Only three settings of object_store's own, which no setting of obstore overrides, prevent its use."""
    access = S3Access("http://s3:9", "r", "http://s3:9/bucket", Keys("key", "secret"))
    assert make_clients(access, S3Location("bucket"), {}) is not None
    aside = {
        name for name, value in HARMFUL.items() if make_clients(access, S3Location("bucket"), {name: value}) is None
    }
    assert aside == {"AWS_CHECKSUM_ALGORITHM", "AWS_COPY_IF_NOT_EXISTS", "AWS_SERVER_SIDE_ENCRYPTION"}


ENVIRONMENTS = {
    "endpoint": {"AWS_ENDPOINT_URL_S3": "http://s3:9"},
    "endpoint of all services": {"AWS_ENDPOINT_URL": "http://a:9", "AWS_DEFAULT_REGION": "r"},
    "both endpoints": {"AWS_ENDPOINT_URL": "http://a:9", "AWS_ENDPOINT_URL_S3": "http://s3:9/"},
    "path in the endpoint": {"AWS_ENDPOINT_URL_S3": "https://gate.way/s3", "AWS_DEFAULT_REGION": "eu-west-1"},
    "IPv6": {"AWS_ENDPOINT_URL_S3": "http://[::1]:9000", "AWS_DEFAULT_REGION": "eu-west-1"},
    "AWS": {"AWS_DEFAULT_REGION": "eu-west-1"},
    "us-east-1": {"AWS_DEFAULT_REGION": "us-east-1"},
    "another region's name": {"AWS_DEFAULT_REGION": "us-east-1", "AWS_REGION": "eu-west-1"},
    "token": {"AWS_DEFAULT_REGION": "eu-west-1", "AWS_SESSION_TOKEN": "token"},
    "proxy": {"AWS_ENDPOINT_URL_S3": "http://s3:9", "HTTP_PROXY": "http://proxy:3128"},
    "no proxy there": {"AWS_ENDPOINT_URL_S3": "http://s3:9", "HTTP_PROXY": "http://proxy:3128", "NO_PROXY": "s3"},
    "another scheme's proxy": {"AWS_ENDPOINT_URL_S3": "http://s3:9", "HTTPS_PROXY": "http://proxy:3128"},
}
BY_BOTO3 = {
    "no region": ({}, "https://bucket.s3.amazonaws.com"),
    "China": ({"AWS_DEFAULT_REGION": "cn-north-1"}, "https://bucket.s3.cn-north-1.amazonaws.com.cn"),
    "FIPS": (
        {"AWS_DEFAULT_REGION": "us-west-2", "AWS_USE_FIPS_ENDPOINT": "true"},
        "https://bucket.s3-fips.us-west-2.amazonaws.com",
    ),
    "dual stack": (
        {"AWS_DEFAULT_REGION": "us-west-2", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        "https://bucket.s3.dualstack.us-west-2.amazonaws.com",
    ),
    "ignored endpoints": (
        {
            "AWS_DEFAULT_REGION": "us-west-2",
            "AWS_ENDPOINT_URL_S3": "http://s3:9",
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        },
        "https://bucket.s3.us-west-2.amazonaws.com",
    ),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    def set_all(variables: dict[str, str]) -> None:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name, value in (KEYS | NO_FILE | variables).items():
            monkeypatch.setenv(name, value)

    return set_all


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_environment_alone_gives_boto3s_access(environment: Callable[[dict[str, str]], None], name: str) -> None:
    """If the environment alone determines the access, boto3 is not imported, and would use the same access."""
    environment(ENVIRONMENTS[name])
    short = read_access(os.environ, bucket="bucket")
    assert short is not None
    assert short == S3Store("s3://bucket").access()


@pytest.mark.parametrize("name", BY_BOTO3)
def test_odd_settings_are_left_to_boto3(environment: Callable[[dict[str, str]], None], name: str) -> None:
    """For odd regions and settings boto3 decides where a request goes, and obstore is given the result."""
    variables, url = BY_BOTO3[name]
    environment(variables)
    assert read_access(os.environ, bucket="bucket") is None
    access = S3Store("s3://bucket").access()
    assert access is not None
    assert access.bucket_url == url
    assert make_clients(access, S3Location("bucket")) is not None


@pytest.mark.parametrize("bucket", ["with.dots", "UPPER", "under_score"])
def test_a_bucket_that_is_no_host_is_in_the_path(environment: Callable[[dict[str, str]], None], bucket: str) -> None:
    """A bucket name that no TLS certificate covers as a host is part of the path, with either client."""
    environment({"AWS_DEFAULT_REGION": "eu-west-1"})
    assert read_access(os.environ, bucket=bucket) is None
    access = S3Store(f"s3://{bucket}").access()
    assert access is not None
    assert access.bucket_url == f"https://s3.eu-west-1.amazonaws.com/{bucket}"


@pytest.mark.parametrize("variables", [{"AWS_PROFILE": "mine"}, {"AWS_CONFIG_FILE": __file__}, {"AWS_CA_BUNDLE": "x"}])
def test_files_and_profiles_are_left_to_boto3(variables: dict[str, str]) -> None:
    """A profile, a file or a bundle of certificates is left to boto3."""
    given = KEYS | NO_FILE | {"AWS_DEFAULT_REGION": "eu-west-1"}
    assert read_access(given, bucket="bucket") is not None
    assert read_access(given | variables, bucket="bucket") is None


def test_a_file_that_hides_the_usual_ones_is_no_setting() -> None:
    """With /dev/null in place of boto3's files the environment alone decides, and boto3 is not imported."""
    given = KEYS | dict.fromkeys(NO_FILE, os.devnull) | {"AWS_DEFAULT_REGION": "eu-west-1"}
    assert read_access(given, bucket="bucket") is not None


def test_both_clients_use_the_proxy(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """obstore is given the proxy that boto3 uses."""
    server = script(THERE)
    monkeypatch.setenv("HTTP_PROXY", server.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://s3.internal:1234")
    for client in ("boto3", "obstore"):
        assert open_store(f"s3://bucket?client={client}").get("a") == b"there"
    assert [request.path for request in server.requests] == ["http://s3.internal:1234/bucket/a"] * 2


def test_both_clients_use_the_first_clients_server(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change of the environment between two requests does not spread a store over two servers."""
    server = script(WRITTEN, Answer(200, body=b"<DeleteResult/>"))
    store = ObstoreS3Store("s3://bucket")
    store.put("a", b"x")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", NOWHERE)
    # obstore deletes single objects, and boto3 several.
    store.delete(["a", "b"])
    assert [request.method for request in server.requests] == ["PUT", "POST"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_uses_the_parents_server(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child works with boto3, and with the server of its parent."""
    server = script(WRITTEN)
    store = ObstoreS3Store("s3://bucket")
    store.put("a", b"parent")
    monkeypatch.setenv("AWS_ENDPOINT", NOWHERE)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", NOWHERE)
    child = os.fork()
    if child == 0:
        try:
            store.put("a", b"child")
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert [request.body for request in server.requests] == [b"parent", b"child"]


# Errors of the access


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_an_endpoint_without_http_is_named(
    aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, variable: str, client: str
) -> None:
    """The error on each verb names the variable, its value and the correct value, and can be pickled."""
    aws_environment("")
    monkeypatch.setenv(variable, "localhost:4566")
    store = open_store(f"s3://bucket?client={client}")
    for act in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: store.head("a"), lambda: [*store.list()]):
        with pytest.raises(InvalidStoreUrl) as caught:
            act()
        assert f"{variable} is 'localhost:4566'" in str(caught.value)
        assert "http://localhost:4566" in caught.value.remedy
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "ftp://host",
        "http://",
        "https://",
        "http://host:99999",
        "http://bad host/",
        "http://[::1",
        "s3.local/path",
        "//x",
    ],
)
@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_an_invalid_endpoint_is_named(aws_environment: Callable[[str], None], endpoint: str, client: str) -> None:
    """An endpoint that is no URL raises an error of this package that names the variable."""
    aws_environment(endpoint)
    with pytest.raises(InvalidStoreUrl, match="AWS_ENDPOINT_URL_S3"):
        open_store(f"s3://bucket?client={client}").get("a")


def test_the_error_hides_a_secret_in_an_endpoint(aws_environment: Callable[[str], None]) -> None:
    """The error does not repeat the text in front of an '@'."""
    aws_environment("key:sesame@localhost:9000")
    with pytest.raises(InvalidStoreUrl) as caught:
        open_store("s3://bucket").get("a")
    assert "sesame" not in str(caught.value)


def test_access_shows_no_secret() -> None:
    """The repr of an access contains neither keys nor a proxy's password."""
    access = S3Access(None, "r", "https://bucket", Keys("key", "sesame", "sesame"), "http://me:sesame@proxy")
    assert "sesame" not in repr(access)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Write AWS's configuration file, and choose the profile `mine` in it."""

    def write(text: str) -> None:
        path = tmp_path / "config"
        path.write_text(text)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        monkeypatch.setenv("AWS_PROFILE", "mine")

    return write


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("[profile other]\n", StorageDenied, "mine"),
        ("[profile mine]\naws_secret_access_key sesame\n", StorageError, "AWS_CONFIG_FILE"),
        ("[profile mine]\nregion = r\ncredential_process = false\n", StorageDenied, "credentials"),
        ("[profile mine]\nregion = r\ncredential_process = echo no json\n", StorageError, "AWS_CONFIG_FILE"),
        ("[profile mine]\nregion = r\nrole_arn = arn\nsource_profile = none\n", StorageError, "none"),
        ("[profile mine]\nregion = bad region\n", InvalidStoreUrl, "AWS_DEFAULT_REGION"),
        ("[profile mine]\nendpoint_url = s3:9\nregion = r\n", InvalidStoreUrl, "endpoint_url"),
    ],
    ids=["no profile", "no config", "helper fails", "helper babbles", "no source", "bad region", "bad endpoint"],
)
def test_failures_of_the_chain_are_storage_errors(
    profile: Callable[[str], None], text: str, kind: type[StorageError], said: str, client: str
) -> None:
    """Failures while a client is made become errors of this package, with the remedy and without a secret."""
    profile(text)
    store = open_store(f"s3://bucket?client={client}")
    for act in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: [*store.list("x/")]):
        with pytest.raises(kind, match=said) as caught:
            act()
        assert isinstance(caught.value, StorageError)
        assert "sesame" not in f"{caught.value} {caught.value.__cause__!r}"


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_credential_helper_is_called_again_after_a_failure(
    profile: Callable[[str], None], tmp_path: Path, client: str
) -> None:
    """As soon as the credential helper succeeds, the same store works."""
    with serving([THERE]) as server:
        credentials = tmp_path / "credentials.json"
        profile(
            f"[profile mine]\nregion = r\nendpoint_url = {server.endpoint}\ncredential_process = cat {credentials}\n"
        )
        store = open_store(f"s3://bucket?client={client}")
        for _ in range(2):
            with pytest.raises(StorageDenied, match="credentials") as caught:
                store.get("a")
            assert caught.value.transient
        credentials.write_text('{"Version": 1, "AccessKeyId": "late", "SecretAccessKey": "s"}')
        assert store.get("a") == b"there"
        assert "Credential=late/" in _authorization(server)


def _authorization(server: ScriptedServer) -> str:
    headers = {name.lower(): value for name, value in server.requests[-1].headers.items()}
    return headers["authorization"]


def test_clients_of_all_buckets_share_the_description_of_s3(
    aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes 12 MB, and holds nothing of a bucket or of credentials; a setting that adds to it gives another one."""
    aws_environment(NOWHERE)
    first, second = (new_client("when_required").session.get_component("data_loader") for _ in range(2))
    assert first is second
    monkeypatch.setenv("AWS_DATA_PATH", "/nowhere/models")
    assert new_client("when_required").session.get_component("data_loader") is not first
