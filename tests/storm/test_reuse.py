"""An id that is used again after its job was removed gives the answers of its own launch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack import CephGateway, RabbitMQ, Redis

from .reuse import VARIANTS, Remove, four_children, removing_elsewhere, use_again
from .site import Servers

TIMES = 4


@pytest.fixture(scope="module")
def remove_elsewhere(
    rabbitmq: RabbitMQ, redis_server: Redis, ceph_gateway: CephGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Remove]:
    """Four children on RabbitMQ and Ceph's gateway, and another process that removes jobs."""
    servers = Servers(rabbitmq, redis_server, ceph_gateway)
    with four_children(servers, tmp_path_factory.mktemp("reuse")) as app, removing_elsewhere() as remove:
        app.set_current()
        yield remove


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_answer_is_right(remove_elsewhere: Remove, variant: str) -> None:
    """The same id with another input each time: every answer is right; `python -m tests.storm.reuse` times it."""
    row = use_again(variant, times=TIMES, remove_elsewhere=remove_elsewhere)
    assert not row.wrong, "\n".join(row.wrong)
