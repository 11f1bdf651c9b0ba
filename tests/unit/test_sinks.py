"""Readers of a sink see all of a job's data or none, whatever runs are repeated, killed or late."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from fanout import Config, FailedItem, ForkJoinTask, InvalidInput, JobFailed, NotAllowed, NotInStep, SinkConflict, sinks
from fanout.errors import FanoutError
from fanout.external.access import Access
from fanout.external.context import StepContext, current_step, running
from fanout.external.location import parse_location
from fanout.sinks import ObjectSink, Published, RowSink, Written
from fanout.sinks.commit import publish
from fanout.sinks.sink import open_staging
from storage import ChangedType, InvalidKey, UploadGone, decode, encode

from .uploads import ScriptedUploads

LAUNCH = "0123456789abcdef"
LAUNCHES = {"first": LAUNCH, "second": "f" * 16}


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
        context.position.move(item)
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


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty folder, in a directory and in a bucket in turn."""
    return Place(tmp_path / "words" if request.param == "directory" else None)


def test_readers_see_nothing_until_the_commit(place: Place) -> None:
    """Objects appear with the commit, in full, and the manifest names them in the order of the items."""
    sink = sinks.jsonl(place.url)
    written = [place.write(sink, item, [{"n": item}]) for item in (1, 0)]
    assert place.visible() == {}
    assert not place.is_committed()
    published = place.commit(sink, iter(written))
    assert published == Published(place.url, objects=2, rows=2, size_bytes=16)
    assert [*place.visible().values()] == [b'{"n":0}\n', b'{"n":1}\n']
    with place.step("process"):
        listed = sinks.published(place.url)
    assert listed is not None
    assert [entry.name for entry in listed] == [name for each in written for name in each.names]
    assert place.staged() == 0


def test_of_runs_that_are_repeated_one_is_seen(place: Place) -> None:
    """Runs of one item write the same name; readers see the run that results name, and no late one."""
    sink = sinks.objects(place.url, suffix=".bin")
    first, second = (place.write(sink, 7, body) for body in (b"first", b"second"))
    assert first.names == second.names
    with place.step("process", 7):
        late = sink._begin(".bin")
        stream = late.open("")
        stream.write(b"late")
        assert place.commit(sink, [second]).objects == 1
        assert place.visible() == {second.names[0]: b"second"}
        assert place.staged() == 0
    # The store has lost the upload, or the process still has its file open.
    for finish in (stream.finish, lambda: place.write(sink, 7, b"later")):
        try:
            finish()
        except UploadGone:
            continue
    assert place.visible() == {second.names[0]: b"second"}


def test_several_writes_of_an_item_have_names_of_their_own(place: Place) -> None:
    """An item may write several objects, in an order that is the same in each run."""
    sink = sinks.objects(place.url)
    with place.step("process", 3):
        written = [sink.write(body) for body in (b"a", [b"b", b"c"])]
    with place.step("process", 3):
        assert sink.write(b"a").names == written[0].names
    place.commit(sink, [written])
    assert [*place.visible().values()] == [b"a", b"bc"]


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
    """A small object costs two requests, the first of a process two more, and a commit one per object and eight."""
    place = Place(None)
    sink = sinks.jsonl(place.url)
    first = place.write(sink, 0, [{"n": 0}])
    assert [verb for verb, _ in place.store.log] == ["get", "list", "start_upload", "upload_part"]
    with place.step("process", 1):
        second = sink.write([{"n": 1}])
    assert len(place.store.log) == 6
    place.commit(sink, [first, second])
    assert len(place.store.log) == 6 + 2 + 2 + 6


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


def test_orphans_are_removed_by_their_age(place: Place) -> None:
    """What jobs that never commit have staged stays until it is older than the age that is asked for."""
    place.write(sinks.jsonl(place.url), 0, [{"n": 0}])
    with place.step("join"):
        assert sinks.remove_orphans(place.url, older_than_s=3600) == 0
        place.store.upload_age = timedelta(hours=2)
        for path in (place.root or Path("/nowhere")).rglob("_fanout/*"):
            os.utime(path, (0, 0))
        assert sinks.remove_orphans(place.url, older_than_s=3600) == 1
    assert place.staged() == 0


def test_a_failed_write_leaves_nothing(place: Place) -> None:
    """If the rows raise in the middle, their error passes through and what was staged is removed."""

    def rows() -> Iterator[dict[str, int]]:
        yield {"n": 0}
        raise ValueError("the user's own")

    with pytest.raises(ValueError, match="the user's own"):
        place.write(sinks.jsonl(place.url), 0, rows())
    assert place.staged() == 0


def test_a_large_object_is_written_in_blocks(place: Place) -> None:
    """A body goes to the place in blocks of 8 MiB as it comes, and its digest is that of the whole."""
    sink = sinks.objects(place.url)
    blocks = [bytes([value]) * 3_000_000 for value in range(6)]
    written = place.write(sink, 0, iter(blocks))
    assert written.size_bytes == 18_000_000
    if place.root is None:
        parts = next(iter(place.store.uploads.values())).parts
        assert [len(parts[number]) for number in sorted(parts)] == [2**23, 2**23, 18_000_000 - 2**24]
    place.commit(sink, [written])
    assert [*place.visible().values()] == [b"".join(blocks)]


class Words(ForkJoinTask):
    """A task that writes a row per number, and fails at first, or for good, for some."""

    input_schema = {
        "numbers": {"type": "list", "default": []},
        "out": {"type": "sink", "required": True},
        "bad": {"type": "list", "default": []},
        "trace": {"type": "string", "default": ""},
    }

    def setup(numbers):
        return [{"number": number} for number in numbers]

    def process(number, out, bad, trace):
        written = out.write([{"number": number}])
        if number in bad:
            raise ValueError("told to fail")
        if trace:
            mark = Path(trace, str(number))
            if not mark.exists():
                mark.touch()
                raise ValueError("told to fail once")
        return written

    def join(results, out):
        return out.commit(results)


@pytest.mark.parametrize("executor", ["inline", "threads"])
def test_a_job_writes_and_commits(executor: Any, tmp_path: Path) -> None:
    """In a whole job each number is seen once, though every first attempt failed after it had written."""
    (tmp_path / "trace").mkdir()
    out = sinks.jsonl(tmp_path / "out")
    inputs = {"numbers": list(range(9)), "out": out, "trace": str(tmp_path / "trace")}
    assert Words.run(inputs, executor=executor).rows == 9
    place = Place(tmp_path / "out")
    assert b"".join(place.visible().values()) == b"".join(b'{"number":%d}\n' % number for number in range(9))
    assert place.staged() == 0
    assert not (tmp_path / "out/_fanout").exists()


def test_failed_items_are_listed_beside_the_data(tmp_path: Path) -> None:
    """A tolerant job publishes what succeeded, and lists what failed."""
    out = sinks.jsonl(tmp_path / "out")
    published = Words.run({"numbers": [0, 1, 2], "out": out, "bad": [1]}, tolerate=1, max_attempts=1)
    assert (published.rows, published.failed) == (2, 1)
    failed = (tmp_path / "out/_failed.jsonl").read_text()
    assert failed.count("\n") == 1
    assert '"item": 1' in failed
    assert "told to fail" in failed


def test_a_sink_is_a_type_of_the_schema() -> None:
    """The schema's type `sink` takes sinks alone, and the input is refused by its field."""
    with pytest.raises(InvalidInput, match="out: must be of sink type"):
        Words.run({"numbers": [], "out": "s3://lake/words"})


def test_a_job_that_fails_publishes_nothing(tmp_path: Path) -> None:
    """Without a commit readers see nothing of a job that failed."""
    with pytest.raises(JobFailed):
        Words.run({"numbers": [0, 1], "out": sinks.jsonl(tmp_path / "out"), "bad": [1]}, max_attempts=1)
    assert Place(tmp_path / "out").visible() == {}


@pytest.mark.parametrize(
    "sink",
    [
        sinks.parquet("s3://lake/words", endpoint="lake", partition_by=["day"], row_group_rows=9),
        sinks.csv("s3://lake/words", columns=["a", "b"], delimiter=";"),
        sinks.jsonl("s3://lake/words", compression="zstd"),
        sinks.objects("s3://lake/words", suffix=".jpg"),
    ],
)
def test_a_sink_travels(sink: RowSink | ObjectSink) -> None:
    """A sink is a small value, equal after its journey, which carries nothing of what its process may do."""
    with running(StepContext(access=Access(None, None), job_id="j", launch_id="l", generation=0, step="setup")):
        body = bytes(encode(sink))
        received = decode(body)
        assert received == sink
        assert received._access is current_step().access  # type: ignore[union-attr]
        assert bytes(encode(received)) == body
    assert len(body) < 250
    assert "Access" not in repr(received)


def test_a_worker_writes_below_its_roots_alone(tmp_path: Path) -> None:
    """A sink that a message names is refused by the setting, also through a link that leads out of the root."""
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "link").symlink_to(elsewhere)
    place = Place(root)
    place.access = Access.of_worker(Config(store="memory://x", sink_roots=(str(root),)))
    for url in (elsewhere, root / "link", "s3://lake/words"):
        with pytest.raises(NotAllowed, match="sink_roots is file://"):
            place.write(sinks.jsonl(url), 0, [{"n": 0}])
    inside = sinks.jsonl(root / "in")
    written = place.write(inside, 0, [{"n": 0}])
    place.commit(inside, [written])
    assert not [*elsewhere.iterdir()]


@pytest.mark.parametrize("name", ["../x", "/x", "a//b", "_x", "a/.x", "", "x" * 601, "a\nb"])
def test_a_name_that_leads_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    """Neither a step nor a forged result can name an object outside the sink, or one that readers overlook."""
    place = Place(tmp_path / "words")
    sink = sinks.objects(place.url)
    with pytest.raises(ValueError, match="the name"):
        place.write(sink, 0, b"x", name=name)
    written = place.write(sink, 0, b"x", name="a/b.jpg")
    assert written.names == ["a/b.jpg"]
    forged = replace(written, objects=(replace(written.objects[0], name=name),))
    with pytest.raises(ChangedType, match="the name"):
        decode(encode(forged))


def test_a_name_that_is_also_a_folder_is_refused(tmp_path: Path) -> None:
    """In a directory one object can't have the name of another one's folder, and the error is not tried again."""
    place = Place(tmp_path / "words")
    sink = sinks.objects(place.url)
    written = [place.write(sink, item, b"x", name=name) for item, name in enumerate(["a/b", "a"])]
    with pytest.raises(InvalidKey, match="Give no object the name of a folder") as caught:
        place.commit(sink, written)
    assert not caught.value.transient


def test_results_that_are_not_written_are_refused(place: Place) -> None:
    """A commit takes what write returned, of this sink, with one object of each name."""
    sink = sinks.objects(place.url)
    same = [place.write(sink, item, b"x", name="same") for item in range(2)]
    other = replace(same[0], url="s3://other/place")
    cases: list[tuple[Any, type[Exception], str]] = [
        ([same[0], 1], TypeError, "not int"),
        (same, ValueError, "two results have the name 'same'"),
        ([other], FanoutError, "no part of the sink"),
    ]
    for results, error, text in cases:
        with pytest.raises(error, match=text):
            place.commit(sink, results)
    assert place.visible() == {}


@pytest.mark.parametrize(
    ("act", "text"),
    [
        (lambda place, sink: sink.write(b"x"), "write of the sink .* outside them: call it in process or join"),
        (lambda place, sink: place.commit(sink, [place.write(sink, 0, b"x")]), ""),
        (lambda place, sink: within(place, "setup", lambda: sink.write(b"x")), "was called in setup"),
        (lambda place, sink: within(place, "process", lambda: sink.write(b"x")), "outside them"),
        (lambda place, sink: within(place, "process", lambda: sink.commit([])), "in process: call it in join"),
    ],
)
def test_sinks_are_used_in_steps(act: Callable[[Place, ObjectSink], Any], text: str, tmp_path: Path) -> None:
    """Objects are named by their item, so write needs one, and commit belongs to join."""
    place = Place(tmp_path / "words")
    if not text:
        assert act(place, sinks.objects(place.url)).objects == 1
        return
    with pytest.raises(NotInStep, match=text):
        act(place, sinks.objects(place.url))


def within(place: Place, step: str, act: Callable[[], Any]) -> Any:
    with place.step(step):
        return act()
