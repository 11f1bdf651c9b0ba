"""Objects that announce more than they hold are refused, in little memory, with an error that names their key."""

from __future__ import annotations

import subprocess
import sys

ROOM_BYTES = 256 * 2**20


def test_no_forged_object_takes_the_memory_that_it_announces() -> None:
    """Bombs of zstd, msgpack, constructors, NumPy, pandas and Arrow all end in `CorruptObject`, in 256 MB."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.storage.bombs", str(ROOM_BYTES)], capture_output=True, text=True, check=True
    )
    (count,) = run.stdout.splitlines()
    assert int(count.removesuffix(" bombs")) > 60
