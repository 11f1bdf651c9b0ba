"""How pytest-xdist distributes the tests over its processes: file by file, and those of one cluster to one process."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

CLUSTERS = ("redis_cluster", "rpc_cluster")
"""Fixtures with workers that all files of a process share. Four processes would start sixteen workers."""


@functools.cache
def group_of(path: str) -> str:
    """Return the name of the group of files that run in one process: the file's path, or its cluster.

    Args:
        path: Path of a file of tests, relative to the project.
    """
    text = (ROOT / path).read_text(encoding="utf-8")
    return next((name for name in CLUSTERS if name in text), path)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Group the tests by `group_of`, where the command says `--dist loadfile`."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling  # type: ignore[import-not-found, import-untyped, unused-ignore]

    class GroupScheduling(LoadFileScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    return GroupScheduling(config, log)
