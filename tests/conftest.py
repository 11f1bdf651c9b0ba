"""What every test starts from: no setting of the machine's own reaches it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from celery import Celery

from fanout.engines.celery.current_app import ConnectedApps

pytest_plugins = ["tests.services"]

SCRUBBED = ("AWS_", "FANOUT_", "CELERY_", "TEST_")


@pytest.fixture(autouse=True, scope="session")
def _scrubbed_environment() -> Iterator[None]:
    """Settings and credentials of whoever runs the tests are out of reach."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(SCRUBBED)}
    for name in kept:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    yield
    os.environ.update(kept)


_APPS: list[Celery] = []


@pytest.fixture(autouse=True, scope="module")
def _apps_stay(request: pytest.FixtureRequest) -> Iterator[None]:
    """Apps with connections to real servers stay until the process ends.

    Celery leaves their sockets to the garbage collector, whose warnings would be the failures of other tests.
    """

    def add(connected: ConnectedApps, app: Celery) -> None:
        _APPS.append(app)
        plain(connected, app)

    plain = ConnectedApps.add
    with pytest.MonkeyPatch.context() as patch:
        if "unit" not in request.path.parts:
            patch.setattr(ConnectedApps, "add", add)
        yield
