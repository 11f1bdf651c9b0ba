"""The files that one process of pytest-xdist runs."""

from __future__ import annotations

from pathlib import Path

from tests.distribution import CLUSTERS, ROOT, group_of


def test_files_of_one_cluster_run_in_one_process() -> None:
    """All files of integration tests that use a shared cluster are one group, and every other file is its own."""
    folder = Path("tests/integration")
    paths = [str(path.relative_to(ROOT)) for path in sorted((ROOT / folder).glob("test_*.py"))]
    groups = {path: group_of(path) for path in paths}
    assert {groups[str(folder / name)] for name in ("test_canvas.py", "test_signing.py")} == {CLUSTERS[0]}
    alone = {path for path, group in groups.items() if group not in CLUSTERS}
    assert {groups[path] for path in alone} == alone
    assert str(folder / "test_limits.py") in alone
