"""A folder for sinks, as steps write to it and as its readers see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fanout.external.access import Access
from fanout.external.context import StepContext, running
from fanout.external.location import parse_location
from fanout.sinks import Published, Written
from fanout.sinks.sink import open_staging
from storage import decode, encode

from .uploads import ScriptedUploads

LAUNCH = "0123456789abcdef"


class Place:
    """A folder for sinks, in a directory or in a bucket, as its readers see it."""

    def __init__(self, root: Path | None) -> None:
        self.access = Access(None, None)
        self.store = ScriptedUploads()
        self.root = root
        self.url = root.as_uri() if root is not None else "s3://lake/words"
        if root is None:
            self.access._uploads["lake", None] = self.store

    @contextmanager
    def step(self, step: str, item: int | None = None, launch: str = LAUNCH) -> Iterator[None]:
        """Let the block inside run as a step of a job."""
        context = StepContext(access=self.access, job_id="job", launch_id=launch, generation=0, step=step)
        context.position.item = item
        with running(context):
            yield

    def write(self, sink: Any, item: int, data: Any, **more: Any) -> Written:
        """Run process for an item, and return what join gets of it."""
        with self.step("process", item):
            written: Written = decode(encode(sink.write(data, **more)))
            return written

    def commit(self, sink: Any, results: Any, launch: str = LAUNCH) -> Published:
        """Run join."""
        with self.step("join", launch=launch):
            published: Published = sink.commit(results)
            return published

    def visible(self) -> dict[str, bytes]:
        """Return what a reader finds who overlooks hidden names, as readers of datasets do."""
        if self.root is None:
            found = {key.removeprefix("words/"): self.store.get(key) for key in self.store.keys("words/")}
        else:
            paths = [path for path in self.root.rglob("*") if path.is_file()] if self.root.exists() else []
            found = {str(path.relative_to(self.root)): path.read_bytes() for path in paths}
        return {name: body for name, body in sorted(found.items()) if name[0] not in "._"}

    def staged(self) -> int:
        """Return the number of objects that are staged."""
        with self.step("join"):
            return len([*open_staging(parse_location(self.url), None, self.access).list_staged()])

    def is_committed(self) -> bool:
        """Return whether readers find `_SUCCESS`."""
        if self.root is None:
            return self.store.keys("words/_SUCCESS") != []
        return (self.root / "_SUCCESS").exists()
