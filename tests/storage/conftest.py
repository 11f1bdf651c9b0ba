"""Fixtures: every store under one name, and an environment without credentials."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from storage import FileStore, MemoryStore, ObjectStore, create_bucket, deadline, open_store
from tests.services import AZURE_CONTAINER

from .scripted import Answer, Script, ScriptedServer, serving

_BUCKET = f"contract-{os.getpid()}"
_prefixes = count(1)


@pytest.fixture(autouse=True)
def no_aws_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the credentials, region and endpoint of the user who runs the tests."""
    others = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    for name in [name for name in os.environ if name.startswith("AWS_") or name in others]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch, no_aws_environment: None) -> Callable[[str], None]:
    """Return a function that points boto3 at an endpoint, with credentials that no other server accepts."""

    def point_at(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test-key")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")

    return point_at


@pytest.fixture
def script(aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Yield a function that starts a scripted server and points boto3 at it; pauses between requests are short."""
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, pause_s=0.001))
    with ExitStack() as open_servers:

        def start(*answers: Answer) -> ScriptedServer:
            manager: AbstractContextManager[ScriptedServer] = serving([*answers])
            server = open_servers.enter_context(manager)
            aws_environment(server.endpoint)
            return server

        yield start


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    """The URL of a moto server in this process."""
    # These imports take most of a second, in each process that collects tests.
    from moto.server import ThreadedMotoServer

    from devstack.moto_app import serialise_write_once_puts

    serialise_write_once_puts()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def moto_url(moto_endpoint: str, aws_environment: Callable[[str], None]) -> str:
    """Return the URL of an empty prefix in an existing bucket of moto."""
    aws_environment(moto_endpoint)
    return _new_prefix()


@pytest.fixture
def ceph_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, no_aws_environment: None) -> str:
    """Return the URL of an empty prefix on Ceph, with real authentication; skip the test without Ceph."""
    gateway = request.getfixturevalue("ceph_gateway")
    for name, value in gateway.environment.items():
        monkeypatch.setenv(name, value)
    return _new_prefix()


@pytest.fixture
def azure_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty prefix on Azurite, with real authentication; skip the test without Azurite."""
    for name, value in request.getfixturevalue("azurite").environment.items():
        monkeypatch.setenv(name, value)
    return f"az://{AZURE_CONTAINER}/test-{next(_prefixes)}"


@pytest.fixture(
    params=[
        # Each client and each server once; the other pairs are slow, and so is Azurite, which takes 10 ms for a write.
        *["memory", "file", "moto-boto3", "ceph-obstore"],
        *[pytest.param(name, marks=pytest.mark.slow) for name in ("moto-obstore", "ceph-boto3", "azurite")],
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """Return an empty store, for each store and client in turn."""
    if request.param == "memory":
        return MemoryStore()
    if request.param == "file":
        return FileStore(tmp_path / "store")
    if request.param == "azurite":
        return open_store(request.getfixturevalue("azure_url"))
    server, client = request.param.split("-")
    # obstore leaves keys that need quoting to boto3, and would be unused under the odd prefix.
    prefix = "an odd prefix" if client == "boto3" else "prefix"
    return open_store(f"{request.getfixturevalue(f'{server}_url')}/{prefix}?client={client}")


def _new_prefix() -> str:
    url = f"s3://{_BUCKET}/test-{next(_prefixes)}"
    # Create the bucket each time, because a mock_aws() in this process empties its server.
    create_bucket(url)
    return url
