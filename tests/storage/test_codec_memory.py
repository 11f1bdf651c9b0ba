"""Encoding holds a large value one more time in memory, and decoding at most one more time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

VALUES = {
    "bytes": "b'x' * size",
    "str": "'x' * size",
    "text": "'ä' * (size // 2)",
    "list": "['x' * (size // 32) for _ in range(32)]",
    "record": "{'kind': 'result', 'number': 7, 'values': b'x' * size, 'effort': [1, 2, 3]}",
    "array": "numpy.ones(size // 8)",
    "strided": "numpy.ones((size // 8, 2))[:, 0]",
    "table": "pyarrow.table({'a': numpy.ones(size // 8)})",
}
ITEMS = {"documents": "'x' * 2**20 + str(item)", "blocks": "numpy.full(2**17, item)"}
VIEWS = {"array", "strided", "table"}

PROGRAM = """if True:
    import numpy, pyarrow
    from storage import SequenceEncoder, decode, encode

    def peak_mib():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024

    def growth_mib(act):
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        before = peak_mib()
        made = act()
        return made, peak_mib() - before

    def chunk(count, make):
        encoder = SequenceEncoder()
        for item in range(count):
            encoder.add(make(item))
        return encoder.finish()

    size = 64 * 2**20
    decode(encode([numpy.ones(100), pyarrow.table({"a": [1]})]))
    ENCODE
    decoded, to_decode = growth_mib(lambda: decode(encoded))
    print(len(encoded) / 2**20, to_encode, to_decode)
"""


on_linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks are read from Linux's /proc")


def peaks(encoding: str) -> tuple[float, float, float]:
    """Return the MiB of the encoded value, and the MiB that encoding and decoding added to the process."""
    program = PROGRAM.replace("ENCODE", encoding)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    size, to_encode, to_decode = map(float, ran.stdout.split())
    return size, to_encode, to_decode


@on_linux
@pytest.mark.parametrize("kind", VALUES)
def test_memory_of_a_value(kind: str) -> None:
    """Encoding 64 MiB of any large type takes 64 MiB and a few more. Decoding takes as much, and nothing for arrays."""
    size, to_encode, to_decode = peaks(
        f"value = {VALUES[kind]}; encoded, to_encode = growth_mib(lambda: encode(value)); del value"
    )
    assert 63 < size < 65
    assert to_encode < size + 4
    assert to_decode < (4 if kind in VIEWS else size + 4)


@on_linux
@pytest.mark.parametrize("kind", ITEMS)
def test_memory_of_a_chunk(kind: str) -> None:
    """An encoder holds a chunk of 64 items of a MiB once, with an item or two. It does not copy the finished chunk."""
    size, to_encode, _ = peaks(f"encoded, to_encode = growth_mib(lambda: chunk(64, lambda item: {ITEMS[kind]}))")
    assert 63 < size < 65
    assert to_encode < size + 8
