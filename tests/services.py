"""Fixtures with servers for a whole test session. Load them with `pytest_plugins = ["tests.services"]`.

RabbitMQ and Ceph's gateway take seconds of a processor to start, so all processes of the session share one of each.
The other servers start quickly: each process that needs one has its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from devstack import Azurite, CephGateway, LocalStack, MotoServer, RabbitMQ, Rclone, Redis, Server, ServerUnavailable
from devstack.localstack import PYTHON_VARIABLE

from .shared_servers import ServerOwner, ask

S = TypeVar("S", bound=Server)

AZURE_CONTAINER = "fanout"
"""The container that Azurite has for tests."""

# Read it before the tests remove variables from the environment.
LOCALSTACK_PYTHON = os.environ.get(
    PYTHON_VARIABLE, str(Path(__file__).parents[1] / "localstack" / ".venv" / "bin" / "python")
)


OWNER = pytest.StashKey[ServerOwner]()
FindShared = Callable[[str], Any]


def pytest_configure(config: pytest.Config) -> None:
    """Own the shared servers, unless another process does."""
    if not hasattr(config, "workerinput"):
        config.stash[OWNER] = ServerOwner({"rabbitmq": RabbitMQ.start, "ceph": CephGateway.start})


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process of pytest-xdist's how to ask for the shared servers."""
    node.workerinput["servers"] = node.config.stash[OWNER].listen()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the shared servers, which have outlived all tests."""
    if OWNER in config.stash:
        config.stash[OWNER].stop()


@pytest.fixture(scope="session")
def find_shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FindShared:
    """Return a function that finds a shared server by name, and skips or fails the test if it is not installed."""
    config, directory = request.config, tmp_path_factory.getbasetemp()

    def find(name: str) -> Any:
        with skip_if_unavailable():
            if OWNER in config.stash:
                return config.stash[OWNER].find(name, directory)
            # The owner's directory is the parent of this process's.
            return ask(config.workerinput["servers"], name, directory.parent)  # type: ignore[attr-defined]

    return find


@pytest.fixture(scope="session")
def rabbitmq(find_shared: FindShared) -> RabbitMQ:
    """A RabbitMQ node that all processes share, at a virtual host of this process. Tests use their own queues.

    A test that depends on the whole node's memory, traffic, connections or alarms starts a node of its own.
    """
    node: RabbitMQ = find_shared("rabbitmq")
    return node.add_host()


@pytest.fixture(scope="session")
def ceph_gateway(find_shared: FindShared) -> CephGateway:
    """A Ceph gateway that all processes share. Tests use buckets whose names no test of another process uses."""
    gateway: CephGateway = find_shared("ceph")
    return gateway


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A private Redis. Tests share it, so each uses its own keys."""
    yield from running(Redis.start, tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MotoServer]:
    """A private moto server. Tests share it, so each uses its own bucket and counts differences of requests."""
    yield from running(MotoServer.start, tmp_path_factory.mktemp("moto"))


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """A private Azurite. Tests share it, so each uses its own prefix. Without `make .venv/azurite`, skip, in CI too."""
    try:
        server = Azurite.start(tmp_path_factory.mktemp("azurite"))
    except ServerUnavailable as error:
        pytest.skip(str(error))
    with server:
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
    with skip_if_unavailable():
        server = start(directory)
    with server:
        yield server


@contextmanager
def skip_if_unavailable() -> Iterator[None]:
    """Skip the test if a server is not installed, or fail in CI."""
    try:
        yield
    except ServerUnavailable as error:
        if os.environ.get("CI") == "true":
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
