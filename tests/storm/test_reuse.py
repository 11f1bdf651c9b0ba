"""Reuse of a job id after the removal of its job: each launch gets its own value."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .reuse import VARIANTS, Remove, reuse_id, start_cluster, start_remover
from .site import Servers

TIMES = 4


@pytest.fixture(scope="module")
def remove_elsewhere(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remove]:
    """Four children on RabbitMQ and Ceph's gateway, and a second process that removes jobs."""
    servers = Servers(rabbitmq, redis_server, ceph_gateway)
    with start_cluster(servers, tmp_path_factory.mktemp("reuse")) as app, start_remover() as remove:
        app.set_current()
        yield remove


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_answer_is_right(remove_elsewhere: Remove, variant: str) -> None:
    """With the same id and another input each time, every value is right. `python -m tests.storm.reuse` times it."""
    row = reuse_id(variant, times=TIMES, remove_elsewhere=remove_elsewhere)
    assert not row.wrong, "\n".join(row.wrong)
