"""Objects that announce more than they hold are refused, in little memory, with an error that names their key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from storage import CorruptObject, FileStore, PackReader, Slice, object_store

ROOM_BYTES = 256 * 2**20


def test_no_forged_object_takes_the_memory_that_it_announces() -> None:
    """Bombs of zstd, msgpack, constructors, NumPy, pandas and Arrow all end in `CorruptObject`, in 256 MB."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.storage.bombs", str(ROOM_BYTES)], capture_output=True, text=True, check=True
    )
    (count,) = run.stdout.splitlines()
    assert int(count.removesuffix(" bombs")) > 60


def test_a_body_larger_than_the_memory_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is a slice whose length a message or an index says."""
    store = FileStore(str(tmp_path))
    store.put("a/key", bytes(100_000))
    monkeypatch.setattr(object_store, "MOST_BYTES", 99_999)
    assert len(store.get("a/key", length=99_999)) == 99_999
    assert len(store.get("a/key", offset=1)) == 99_999
    for read in (
        lambda: store.get("a/key"),
        lambda: PackReader(store).read("a/key", Slice(0, 0, 100_000, "0" * 32)),
    ):
        with pytest.raises(CorruptObject, match="memory of this machine") as caught:
            read()
        assert caught.value.key == "a/key"
