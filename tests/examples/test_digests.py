"""Digests of a folder's files in parts are those of a plain loop."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.digests import FOLDER_FILES, Digests, digest_serially, make_files
from fanout import sources


@pytest.mark.parametrize("part_bytes", [1, 5000, 2**20])
def test_digests_of_a_folder(part_bytes: int, tmp_path: Path) -> None:
    """For any size of parts, the table is that of hashlib in a loop, with empty and large files, in order of keys."""
    make_files(tmp_path, FOLDER_FILES // 10)
    (tmp_path / "zürich 100%.txt").write_bytes(b"x" * 3_000_000)
    (tmp_path / "empty").touch()
    found = Digests.run({"folder": sources.objects(f"{tmp_path}/"), "part_bytes": part_bytes})
    assert found == digest_serially(tmp_path)
    assert list(found) == sorted(found)
