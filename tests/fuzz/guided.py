"""Objects that atheris makes, guided by the branches of the codec that they reach. Needs the group `fuzz`.

The checksum is made anew for each, so that the bytes reach the decoder. atheris ends its process: so it gets one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from .run import limit_memory


def run_guided(seconds: int) -> int:
    """Run atheris for some seconds, from the corpus of `objects`; return the number of findings, at most one."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        corpus = Path(directory) / "corpus"
        corpus.mkdir()
        options = [f"-max_total_time={seconds}", "-max_len=4096", "-timeout=20", "-rss_limit_mb=3000"]
        options += [f"-artifact_prefix={os.getcwd()}/", "-print_final_stats=1"]
        program = [sys.executable, "-m", "tests.fuzz.guided", str(corpus), *options]
        return int(subprocess.run(program, check=False).returncode != 0)


def main() -> None:
    """Run atheris in this process, with its own arguments."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["storage"]):
        # Only what is imported here is instrumented.
        from storage import StorageError, decode
        from storage.codec.envelope import HEADER
        from storage.hashing import raw_checksum

        from .objects import ObjectFuzz

    for number, (body, _) in enumerate(ObjectFuzz().originals):
        # Flags, and then the body without its header.
        (Path(sys.argv[1]) / str(number)).write_bytes(body[5:6] + body[HEADER.size :])

    def try_object(data: bytes) -> None:
        if not data:
            return
        flags, body = data[0] & 7, data[1:]
        header = HEADER.pack(b"\x9fobj", 1, flags, len(body), raw_checksum(body, seed=flags))
        try:
            decode(header + body, key="the/key", limit_bytes=2**26)
        except StorageError:
            return

    limit_memory()
    atheris.Setup(sys.argv, try_object)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
