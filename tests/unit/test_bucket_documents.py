"""The documents of the page "Prepare a bucket" name the rights and the keys that fanout uses."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

from fanout.engines.stub import StubEngine
from storage import Body, MemoryStore
from storage.s3.rights import RIGHTS
from tests.docs.blocks import ROOT, blocks_of
from tests.tasks import SumTask

DOCUMENTS: dict[str, Any] = {
    block.title: json.loads(block.text) for block in blocks_of("docs/how-to/bucket.md") if block.title
}


def test_the_policy_has_the_rights_that_doctor_checks() -> None:
    """The page gives each right that fanout uses, and no other; Operations says what happens without it."""
    given = [right for statement in DOCUMENTS["policy.json"]["Statement"] for right in statement["Action"]]
    assert sorted(given) == sorted(RIGHTS)
    operations = (ROOT / "docs" / "operations.md").read_text()
    assert [right for right in RIGHTS if f"`{right}`" not in operations] == []


class WritingStore(MemoryStore):
    """A store that notes each key that is written, and whether it was under a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[tuple[str, bool]] = []

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        self.writes.append((key, if_absent))
        super().put(key, body, if_absent=if_absent)


def test_the_write_once_policy_covers_each_record_and_nothing_else() -> None:
    """The policy names each key that a job writes under a condition, except attempts, and no other key."""
    (statement,) = DOCUMENTS["write-once.json"]["Statement"]
    patterns = [resource.removeprefix("arn:aws:s3:::my-bucket/fanout/") for resource in statement["Resource"]]
    store = WritingStore()
    for sizes in ({"chunk_items": 1}, {"chunk_items": 2}):
        engine = StubEngine(store=store)
        job = engine.submit(SumTask.declaration, {"numbers": list(range(70))}, **sizes)
        engine.sweep()
        engine.drain()
        assert job.get(10) == sum(range(70))
    written = {True: set[str](), False: set[str]()}
    for key, is_once in store.writes:
        if "/attempts/" not in key:
            written[is_once].add(key)
    named = {key for key in written[True] | written[False] if any(fnmatchcase(key, each) for each in patterns)}
    assert named == written[True]
    assert written[True]
    assert written[False]
