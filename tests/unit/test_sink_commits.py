"""A commit of a sink is the same whatever happens in it: deaths, other joins, other jobs, other files."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fanout import FailedItem, SinkConflict, sinks
from fanout.external.context import StepContext, current_step
from fanout.external.location import parse_location
from fanout.sinks import Published, Written
from fanout.sinks.commit import publish
from fanout.sinks.discard import discard
from fanout.sinks.sink import open_staging
from storage import StorageUnavailable, UploadGone

from .sinks import LAUNCH, Place

LAUNCHES = {"first": LAUNCH, "second": "f" * 16}


class WorkerDied(BaseException):
    """The process is gone."""


class Interrupted:
    """The place of a sink at which something happens before one of its calls."""

    def __init__(self, staging: Any, calls: int, event: Callable[[], object]) -> None:
        self.staging = staging
        self.left = calls
        self.event = event

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.staging, name)
        return value if name == "url" else lambda *arguments: self.call(value, arguments)

    def call(self, method: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        self.left -= 1
        if self.left == -1:
            self.event()
        answer = method(*arguments)
        return [*answer] if isinstance(answer, Iterator) else answer


def die() -> None:
    raise WorkerDied


@pytest.mark.parametrize("event", ["death", "another join"])
@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_a_commit_is_the_same_whatever_happens_in_it(
    kind: str, event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If join dies at any call, or another join runs there, a reader who sees `_SUCCESS` sees everything, once."""
    for calls in count():
        place = Place(tmp_path / str(calls) if kind == "directory" else None)
        sink = sinks.jsonl(place.url)
        place.write(sink, 0, [{"n": "lost"}])
        results = [*(place.write(sink, item, [{"n": item}]) for item in range(3)), FailedItem(3, 3, "ValueError", "no")]
        staging = open_staging(parse_location(place.url), None, place.access)
        with place.step("join"):
            context = current_step()
            assert context is not None

        def join_as_well(staging: Any = staging, context: Any = context, results: Any = results) -> None:
            publish(staging, context, results)

        interrupted = Interrupted(staging, calls, die if event == "death" else join_as_well)
        try:
            first = publish(interrupted, context, results)  # type: ignore[arg-type]
        except WorkerDied:
            first = None
        assert len(place.visible()) == 3 or not place.is_committed()
        again = place.commit(sink, results)
        assert (first or again) == again == Published(place.url, 3, 3, 24, failed=1)
        assert len(place.visible()) == 3
        assert place.staged() == 0
        if interrupted.left >= 0:
            break
    assert calls > 8


@pytest.mark.parametrize("kind", ["directory", "bucket"])
def test_of_two_jobs_that_commit_at_once_one_wins(kind: str, tmp_path: Path) -> None:
    """If another job commits to the folder at any moment, readers see the data of one job, and the other one fails."""
    winners = set()
    for calls in count():
        place = Place(tmp_path / str(calls) if kind == "directory" else None)
        written: dict[str, Written] = {}
        for name, launch in LAUNCHES.items():
            with place.step("process", 0, launch=launch):
                written[name] = sinks.jsonl(place.url).write([{"job": name}])
        staging = open_staging(parse_location(place.url), None, place.access)
        outcomes: dict[str, object] = {}

        def join(
            name: str, staging: Any, place: Place = place, written: Any = written, outcomes: Any = outcomes
        ) -> None:
            context = StepContext(access=place.access, job_id=name, launch_id=LAUNCHES[name], generation=0, step="join")
            try:
                outcomes[name] = publish(staging, context, [written[name]])
            except SinkConflict:
                outcomes[name] = None

        interrupted = Interrupted(staging, calls, lambda join=join, staging=staging: join("second", staging))
        join("first", interrupted)
        won = [name for name, outcome in outcomes.items() if outcome is not None]
        assert len(won) == 1
        assert [*place.visible().values()] == [b'{"job":"%s"}\n' % won[0].encode()]
        winners.update(won)
        if interrupted.left >= 0:
            break
    assert winners == {"first", "second"}


def test_the_price_of_a_sink_in_requests() -> None:
    """A small object costs two requests, the first of a process two more, and a commit one per object and nine."""
    place = Place(None)
    sink = sinks.jsonl(place.url)
    first = place.write(sink, 0, [{"n": 0}])
    assert [verb for verb, _ in place.store.log] == ["get", "list", "start_upload", "upload_part"]
    with place.step("process", 1):
        second = sink.write([{"n": 1}])
    assert len(place.store.log) == 6
    place.commit(sink, [first, second])
    assert len(place.store.log) == 6 + 2 + 2 + 7


@pytest.mark.parametrize("ends", ["commit", "removal", "remove_orphans"])
def test_the_note_of_an_object_with_a_name_of_its_own_goes_with_it(ends: str) -> None:
    """In a bucket such an object costs a third request, a note of its launch, which no reader sees and which ends."""
    place = Place(None)
    sink = sinks.objects(place.url)
    place.write(sink, 0, b"lost", name="cats/0.jpg")
    written = place.write(sink, 0, b"cat", name="cats/1.jpg")
    assert [verb for verb, _ in place.store.log][-3:] == ["start_upload", "put", "upload_part"]
    assert len(place.store.keys("words/_fanout/")) == 2
    place.store.put("words/_fanout/mine", b"of another program")
    assert place.visible() == {}
    with place.step("process", 0, launch="f" * 16):
        replace(sink).write(b"dog", name="cats/2.jpg")
    if ends == "commit":
        assert place.commit(sink, [written]).objects == 1
    elif ends == "removal":
        assert discard(place.url, None, place.access, job_id="job", launch_id=LAUNCH) == 2
    else:
        with place.step("join"):
            assert sinks.remove_orphans(place.url, older_than_s=-60) == 3
    others = 0 if ends == "remove_orphans" else 1
    assert place.staged() == others
    notes = [key for key in place.store.keys("words/_fanout/") if key != "words/_fanout/mine"]
    assert len(notes) == len(place.store.keys(f"words/_fanout/{'f' * 16}.")) == others
    assert place.store.keys("words/_fanout/mine")


def test_a_note_that_cannot_be_written_leaves_nothing() -> None:
    """If the store takes no note of an upload, the upload is given up, since nothing would tell its launch."""
    place = Place(None)
    sink = sinks.objects(place.url)
    place.write(sink, 0, b"first")
    with place.store.failing("put"), pytest.raises(StorageUnavailable):
        place.write(sink, 1, b"second", name="second")
    assert len(place.store.uploads) == 1


def test_two_joins_at_once_agree(place: Place) -> None:
    """Joins of one job that commit at the same time both succeed, and publish each object once."""
    sink = sinks.jsonl(place.url)
    written = [place.write(sink, item, [{"n": item}]) for item in range(20)]
    start = threading.Barrier(2)

    def join(_: int) -> Published:
        start.wait(timeout=10)
        return place.commit(sink, written)

    with ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(join, range(2)))) == 1
    assert len(place.visible()) == 20


def test_a_folder_belongs_to_one_job(place: Place) -> None:
    """Neither process nor join of another job changes a folder that holds data."""
    sink = sinks.jsonl(place.url)
    written = place.write(sink, 0, [{"n": 0}])
    other = replace(sink)
    with place.step("process", 0, launch="f" * 16):
        second = other.write([{"n": 1}])
    place.commit(sink, [written])
    before = place.visible()
    with pytest.raises(SinkConflict, match="it holds the data of job job: give each job its own folder"):
        place.commit(other, [second], launch="f" * 16)
    with place.step("process", 0, launch="e" * 16), pytest.raises(SinkConflict, match="job job"):
        replace(sink).write([{"n": 2}])
    with pytest.raises(SinkConflict, match="let join commit the same results each time"):
        place.commit(sink, [])
    assert place.visible() == before


def test_a_folder_that_holds_other_files_is_refused(place: Place) -> None:
    """Readers of a folder would take what is there for data of the job, so the first write refuses it."""
    if place.root is not None:
        place.root.mkdir()
        (place.root / "old.jsonl").write_text("{}")
    else:
        place.store.put("words/old.jsonl", b"{}")
    with pytest.raises(SinkConflict, match=r"it holds 'old\.jsonl' already"):
        place.write(sinks.jsonl(place.url), 0, [{"n": 0}])


def test_a_staged_object_that_is_gone_fails_the_commit_before_it_begins(place: Place) -> None:
    """If a rule of the bucket has removed an object, nothing appears, and the error names it."""
    sink = sinks.jsonl(place.url)
    written = [place.write(sink, item, [{"n": item}]) for item in range(2)]
    with place.step("join"):
        assert sinks.remove_orphans(place.url, older_than_s=-60) == 2
    with pytest.raises(UploadGone, match=r"2 of 2 objects .* first 'part-00000000-000"):
        place.commit(sink, written)
    assert place.visible() == {}
    assert not place.is_committed()
