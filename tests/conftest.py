"""What every test starts from: no setting of the machine's own reaches it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

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
