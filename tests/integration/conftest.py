"""Clusters for the integration tests, one for each result backend; what a test kills has a cluster of its own."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .cluster import Cluster, running_cluster


@pytest.fixture(autouse=True, scope="package")
def _environment_of_before() -> Iterator[None]:
    """The clusters' variables go with them, in whatever order modules and this package give them back."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="package")
def redis_cluster(
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    ceph_gateway: CephGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """RabbitMQ, results in Redis, Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": host(rabbitmq), "TEST_BACKEND": redis_server.url}
    with running_cluster(tmp_path_factory.mktemp("redis-cluster"), environment) as cluster:
        reach_the_store(cluster)
        yield cluster


@pytest.fixture(scope="package")
def rpc_cluster(
    rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """RabbitMQ, results as messages to the caller (`rpc://`), Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": host(rabbitmq), "TEST_BACKEND": "rpc://"}
    with running_cluster(tmp_path_factory.mktemp("rpc-cluster"), environment) as cluster:
        reach_the_store(cluster)
        yield cluster


def host(rabbitmq: RabbitMQ) -> str:
    """The URL of a new virtual host, in which no other cluster's workers hear what is said to all."""
    name = f"host-{uuid.uuid4().hex[:8]}"
    rabbitmq.ctl(
        "eval",
        f'rabbit_vhost:add(<<"{name}">>, <<"tests">>), rabbit_auth_backend_internal:set_permissions('
        f'<<"guest">>, <<"{name}">>, <<".*">>, <<".*">>, <<".*">>, <<"tests">>).',
    )
    return f"{rabbitmq.url.rstrip('/')}/{name}"


def reach_the_store(cluster: Cluster) -> None:
    """Have the caller's client made now, while the environment names this cluster's store and no other's."""
    next(iter(cluster.app.fanout.runtime.store.list()), None)  # type: ignore[attr-defined]
