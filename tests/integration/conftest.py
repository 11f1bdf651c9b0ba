"""Clusters for the integration tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fanout.stack import CephGateway, RabbitMQ, Redis

from .cluster import Cluster, running_cluster


@pytest.fixture(scope="module")
def redis_cluster(
    rabbitmq: RabbitMQ,
    redis_server: Redis,
    ceph_gateway: CephGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """RabbitMQ, results in Redis, Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": redis_server.url}
    with running_cluster(tmp_path_factory.mktemp("redis-cluster"), environment) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def rpc_cluster(
    rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """RabbitMQ, results as messages to the caller (`rpc://`), Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.url, "TEST_BACKEND": "rpc://"}
    with running_cluster(tmp_path_factory.mktemp("rpc-cluster"), environment) as cluster:
        yield cluster
