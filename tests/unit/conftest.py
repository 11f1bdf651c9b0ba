"""Fixtures and the hypothesis profile of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from .sinks import Place
from .world import World

settings.register_profile("unit", settings.get_profile("tests"), max_examples=60)
settings.load_profile("unit")


@pytest.fixture
def world() -> World:
    """Return a store, a dispatcher and a runtime for one test."""
    return World()


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty folder for sinks, in a directory and in a bucket in turn."""
    return Place(tmp_path / "words" if request.param == "directory" else None)
