"""Clusters for the integration tests, one per result backend. Tests that kill workers start their own cluster."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .cluster import Cluster, running_cluster

CANARIES = {"signing key": "canary-" + "a" * 32, "old signing key": "canary-" + "b" * 32, "password": "canary-p4ssw0rd"}
"""Credentials of the cluster with signatures, which must appear nowhere."""


@pytest.fixture(autouse=True, scope="package")
def _restore_environment() -> Iterator[None]:
    """Restore the environment after all clusters, in any order of the fixtures' ends."""
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
    """RabbitMQ, results in Redis, Ceph's gateway; workers that run only signed messages, on sealed objects."""
    environment = {
        **ceph_gateway.environment,
        "TEST_BROKER": rabbitmq.add_host().url,
        "TEST_BACKEND": redis_server.url,
        "FANOUT_SIGNING_KEYS": json.dumps({"new": CANARIES["signing key"], "old": CANARIES["old signing key"]}),
        "SHOP_DB_PASSWORD": CANARIES["password"],
        "FANOUT_REQUIRE_SIGNATURES": "true",
        "FANOUT_ENCRYPTION_KEYS": json.dumps({"new": "c" * 43, "old": "d" * 43}),
        "FANOUT_REQUIRE_ENCRYPTION": "true",
    }
    with running_cluster(tmp_path_factory.mktemp("redis-cluster"), environment) as cluster:
        connect_store(cluster)
        yield cluster


@pytest.fixture(scope="package")
def rpc_cluster(
    rabbitmq: RabbitMQ, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """RabbitMQ, results as messages to the caller (`rpc://`), Ceph's gateway."""
    environment = {**ceph_gateway.environment, "TEST_BROKER": rabbitmq.add_host().url, "TEST_BACKEND": "rpc://"}
    with running_cluster(tmp_path_factory.mktemp("rpc-cluster"), environment) as cluster:
        connect_store(cluster)
        yield cluster


@pytest.fixture(autouse=True)
def _use_app_of_cluster(request: pytest.FixtureRequest) -> None:
    """Make the app of the test's shared cluster the current one, whatever clusters ran in this process before."""
    for name in {"redis_cluster", "rpc_cluster"} & set(request.fixturenames):
        request.getfixturevalue(name).app.set_current()


def connect_store(cluster: Cluster) -> None:
    """Create the caller's storage client now, while the environment names this cluster's store."""
    next(iter(cluster.app.fanout.runtime.store.list()), None)  # type: ignore[attr-defined]
