"""Fixtures of all tests, which isolate them from the machine's settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

import pytest
from botocore.loaders import JSONFileLoader
from celery import Celery
from hypothesis import HealthCheck, settings

from fanout.engines.celery.current_app import ConnectedApps

pytest_plugins = ["tests.distribution", "tests.services"]

# A busy machine is no failure. Fixtures of all tests isolate them, and may stay for all examples of one.
settings.register_profile(
    "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("tests")

REMOVED_PREFIXES = ("AWS_", "FANOUT_", "CELERY_", "TEST_")


@pytest.fixture(autouse=True, scope="session")
def _isolate_environment() -> Iterator[None]:
    """Hide the settings and credentials of the user who runs the tests."""
    saved = {name: value for name, value in os.environ.items() if name.startswith(REMOVED_PREFIXES)}
    for name in saved:
        del os.environ[name]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    yield
    os.environ.update(saved)


@pytest.fixture(autouse=True, scope="session")
def _keep_models_of_services() -> Iterator[None]:
    """Read each of botocore's models once a process. Many tests make a client, which reads two megabytes of JSON."""
    load_once = functools.cache(JSONFileLoader().load_file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load_once(path))
        yield


_APPS: list[Celery] = []


@pytest.fixture(autouse=True, scope="module")
def _keep_apps(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep apps with connections to real servers until the process ends.

    Celery leaves their sockets to the garbage collector, whose warnings would fail other tests.
    """

    def add(connected: ConnectedApps, app: Celery) -> None:
        _APPS.append(app)
        plain(connected, app)

    plain = ConnectedApps.add
    with pytest.MonkeyPatch.context() as patch:
        if "unit" not in request.path.parts:
            patch.setattr(ConnectedApps, "add", add)
        yield
