"""Fixtures and the hypothesis profile of the unit tests."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from .world import World

settings.register_profile(
    "unit", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("unit")


@pytest.fixture
def world() -> World:
    """Return a store, a dispatcher and a runtime for one test."""
    return World()
