"""Fixtures with servers for a whole test session. Load them with `pytest_plugins = ["tests.services"]`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from devstack import Azurite, CephGateway, LocalStack, MotoServer, RabbitMQ, Rclone, Redis, Server, ServerUnavailable
from devstack.localstack import PYTHON_VARIABLE

S = TypeVar("S", bound=Server)

AZURE_CONTAINER = "fanout"
"""The container that Azurite has for tests."""

# Read it before the tests remove variables from the environment.
LOCALSTACK_PYTHON = os.environ.get(
    PYTHON_VARIABLE, str(Path(__file__).parents[1] / "localstack" / ".venv" / "bin" / "python")
)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A private RabbitMQ node. Tests share it, so each uses its own queues."""
    yield from running(RabbitMQ.start, tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A private Redis. Tests share it, so each uses its own keys."""
    yield from running(Redis.start, tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def ceph_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CephGateway]:
    """A private Ceph gateway. Tests share it, so each uses its own bucket or prefix."""
    yield from running(CephGateway.start, tmp_path_factory.mktemp("ceph"))


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A private moto server. Tests share it, so each uses its own bucket and counts differences of requests."""
    yield from running(MotoServer.start, tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A private Azurite. Tests share it, so each uses its own prefix of a container."""
    for server in running(Azurite.start, tmp_path_factory.mktemp("azurite")):
        server.create_container(AZURE_CONTAINER)
        yield server


@pytest.fixture(scope="session")
def rclone_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rclone]:
    """A private rclone gateway, which ignores conditions. Tests share it, so each uses its own bucket."""
    yield from running(Rclone.start, tmp_path_factory.mktemp("rclone"))


@pytest.fixture(scope="session")
def localstack_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A native LocalStack. Without an installation by `localstack/install-native`, skip, also in CI."""
    try:
        server = LocalStack.start(tmp_path_factory.mktemp("localstack"), python=LOCALSTACK_PYTHON)
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with server:
        yield server


def running(start: Callable[[Path], S], directory: Path) -> Iterator[S]:
    """Start a server, yield it and stop it. If it is not installed, skip on a laptop and fail in CI."""
    try:
        server = start(directory)
    except ServerUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    with server:
        yield server
