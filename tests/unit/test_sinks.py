"""Readers of a sink see all of a job's data or none, whatever runs are repeated, killed or late."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fanout import Config, ForkJoinTask, InvalidInput, Job, JobFailed, NotAllowed, NotInStep, SinkConflict, sinks
from fanout.errors import FanoutError
from fanout.external.access import Access
from fanout.external.context import StepContext, current_step, running
from fanout.sinks import ObjectSink, Published, RowSink
from storage import ChangedType, InvalidKey, UploadGone, decode, encode

from .sinks import Place
from .world import World


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
    """Without a commit readers see nothing of a job that failed, and a job that nothing can retry leaves nothing."""
    with pytest.raises(JobFailed):
        Words.run({"numbers": [0, 1], "out": sinks.jsonl(tmp_path / "out"), "bad": [1]}, max_attempts=1)
    assert [*(tmp_path / "out").rglob("*")] == []


class WordsByItem(ForkJoinTask[int]):
    """Write numbers to a sink that is part of an item, in an object with a name of its own, and fail."""

    input_schema = {"numbers": {"type": "list", "required": True}, "url": {"type": "string"}}
    chunk_items = 1

    def setup(numbers, url):  # type: ignore[no-untyped-def]
        return [{"number": number, "out": sinks.objects(url)} for number in numbers]

    def process(number, out):  # type: ignore[no-untyped-def]
        out.write(b"%d" % number, name=f"numbers/{number}.txt")
        raise ValueError("no")

    def join(results):  # type: ignore[no-untyped-def]
        return len(results)


class WordsByHand(WordsByItem):
    """The same with a sink that process makes."""

    def setup(numbers, url):  # type: ignore[no-untyped-def]
        return [{"number": number, "url": url} for number in numbers]

    def process(number, url):  # type: ignore[no-untyped-def]
        sinks.jsonl(url).write([{"n": number}])
        raise ValueError("no")


@pytest.mark.parametrize(
    ("task", "values"),
    [
        (Words, lambda url: {"out": sinks.jsonl(url), "bad": [0, 1, 2]}),
        (WordsByItem, lambda url: {"url": url}),
        (WordsByHand, lambda url: {"url": url}),
    ],
    ids=["parameter", "item", "made by process"],
)
def test_a_removed_job_leaves_nothing_staged(place: Place, task: Any, values: Callable[[str], dict[str, Any]]) -> None:
    """What a failed job has staged stays while it may be retried, and goes with the job, and no other job's with it."""
    world = World()
    world.runtime.access = place.access
    outcome = world.run(task, {"numbers": [0, 1, 2], **values(place.url)}, job_id="failed", max_attempts=2)
    assert outcome.failure is not None
    assert place.staged() >= 2
    # Of another job, one of them with the name that an object of the first one has.
    place.write(sinks.jsonl(place.url), 0, [{"n": 0}])
    place.write(sinks.objects(place.url), 0, b"0", name="numbers/0.txt")
    assert Job("failed", world.runtime).remove() > 0
    assert place.staged() == 2


def test_a_process_without_the_right_leaves_what_is_staged(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A sweep outside the roots of its settings removes the job, leaves what it staged, and logs the setting."""
    world = World()
    world.runtime.access = place.access
    world.run(Words, {"numbers": [0], "out": sinks.jsonl(place.url), "bad": [0]}, job_id="failed", max_attempts=1)
    world.runtime.access = Access.of_worker(world.config)
    assert world.runtime.remove("failed") > 0
    assert place.staged() == 1
    assert "sink_roots is empty" in caplog.text


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
    """What a directory can't hold, a name that is also a folder's or is too long, fails the commit before it begins."""
    place = Place(tmp_path / "words")
    sink = sinks.objects(place.url)
    for names, error in (
        (["a/b", "a"], "Give no object the name of a folder"),
        (["b", "é" * 200], "allows 255 bytes for a file"),
    ):
        written = [place.write(sink, item, b"x", name=name) for item, name in enumerate(names)]
        with pytest.raises(InvalidKey, match=error) as caught:
            place.commit(sink, written)
        assert not caught.value.transient
        assert place.visible() == {}
        assert not (tmp_path / "words" / "_manifest.json").exists()


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


@pytest.mark.parametrize("name", [None, "cats/1.jpg"])
def test_what_another_job_has_written_is_not_committed(place: Place, name: str | None) -> None:
    """Its job may remove it at any time, so the commit fails before anything is published."""
    sink = sinks.objects(place.url)
    own = place.write(sink, 0, b"x", name=name and "cats/0.jpg")
    with place.step("process", 1, launch="f" * 16):
        other = replace(sink).write(b"y", name=name)
    with pytest.raises(SinkConflict, match=r"another job has written '.*'"):
        place.commit(sink, [own, other])
    assert place.visible() == {}
    assert place.commit(sink, [own]).objects == 1


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
