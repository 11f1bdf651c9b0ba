"""Digests of the objects of a folder, each read once where it lies: scans, photos, parts of a backup.

    setup    lists the folder, and gathers small objects into parts; it reads none of them
    process  reads the objects of its part, several at a time, and digests each
    join     makes one table of all, by URL

The tables of two days, or of a folder and its copy, show what has changed. Name a folder on the disk or in a bucket:

    python -m examples.digests photos/
    python -m examples.digests s3://bucket/photos/
    python -m examples.digests --make 100000 /tmp/many/      # writes so many files of 1 kB first
"""

from __future__ import annotations

import argparse
import hashlib
import random
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

from fanout import ForkJoinTask, sources

FOLDER_FILES = 1000
"""Files of a folder that `make_files` fills."""
FILE_BYTES = 1000


class Digests(ForkJoinTask[dict[str, str]]):
    """URL of each object -> its SHA-256, as 64 hex digits."""

    input_schema: ClassVar[dict[str, Any]] = {
        "folder": {"type": "source", "required": True},
        "part_bytes": {"type": "integer", "min": 1, "default": 8 * 2**20},
    }

    @staticmethod
    def setup(folder: sources.Source, part_bytes: int) -> Iterator[dict[str, sources.Part]]:
        return ({"part": part} for part in folder.parts(part_bytes))

    @staticmethod
    def process(part: sources.Part) -> list[tuple[str, str]]:
        return [(url, hashlib.sha256(data).hexdigest()) for url, data in part]

    @staticmethod
    def join(digests: Iterable[list[tuple[str, str]]]) -> dict[str, str]:
        return dict(chain.from_iterable(digests))


def digest_serially(folder: Path) -> dict[str, str]:
    """Return the same of a folder on the disk, in a loop."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.absolute().as_uri(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def make_files(folder: Path, files: int) -> None:
    """Write files of 1 kB, a thousand to a folder, the same each time."""
    chance = random.Random(files)  # noqa: S311 - not a secret
    for index in range(files):
        path = folder / f"{index // FOLDER_FILES:04d}" / f"{index % FOLDER_FILES:03d}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(FILE_BYTES))


def main() -> None:
    """Print the number of objects, the time, and the digest of all digests."""
    parser = argparse.ArgumentParser(prog="python -m examples.digests", description=__doc__.partition("\n")[0])
    parser.add_argument("folder", help="a directory, or a folder of a bucket, with '/' at the end")
    parser.add_argument("--make", type=int, metavar="N", help="write so many files into the directory first")
    chosen = parser.parse_args()
    if chosen.make:
        make_files(Path(chosen.folder), chosen.make)
    started = time.perf_counter()
    digests = Digests.run({"folder": sources.objects(chosen.folder)})
    seconds = time.perf_counter() - started
    total = hashlib.sha256("".join(f"{url} {digest}\n" for url, digest in digests.items()).encode()).hexdigest()
    print(f"{len(digests):,} objects in {seconds:.1f} s; of all digests: {total[:16]}")


if __name__ == "__main__":
    main()
