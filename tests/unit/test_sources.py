"""Sources and their parts are values, and name objects one by one, by folder, by pattern and by manifest."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cerberus
import pytest

import fanout
from fanout import (
    Config,
    ConfigError,
    ForkJoinTask,
    InvalidInput,
    InvalidLocation,
    JobFailed,
    NotAllowed,
    SourceChanged,
    SourceDamaged,
    SourceMissing,
    sources,
)
from fanout.external.access import Access
from fanout.external.context import StepContext, running
from fanout.job import Job
from fanout.runtime import Runtime
from storage import InvalidKey, TaggedObject, UnknownType, decode, encode

from .buckets import MemoryBucket, in_memory, records_of, within
from .world import World

EVERY_FORMAT = [
    sources.lines("s3://bucket/2026/**/a b*.txt", encoding=None),
    sources.csv(["s3://bucket/a", "s3://bucket/b/"], header=("x", "y"), types={"x": "int64"}, endpoint="lake"),
    sources.jsonl("/data/*.jsonl.gz"),
    sources.records("s3://bucket/a%20b", size=8),
    sources.parquet("s3://bucket/", columns=["x"], filters=[("x", "<", 3)]),
    sources.objects(["s3://bucket/a", Path("/data/b")]),
    sources.manifest("s3://bucket/keys.csv", of=sources.lines, column="path", errors="replace"),
]


class CountWords(ForkJoinTask[Counter[str]]):
    """Count the words of a source."""

    input_schema = {"text": {"type": "source", "required": True}}

    @staticmethod
    def setup(text: sources.Source) -> Iterator[dict[str, Any]]:
        return ({"part": part} for part in text.parts(part_bytes=20))

    @staticmethod
    def process(part: sources.Part) -> Counter[str]:
        return Counter(word for line in part for word in line.split())

    @staticmethod
    def join(counters: Any) -> Counter[str]:
        return sum(counters, Counter())


class CountWithOwnValidator(CountWords):
    """The same, with a validator that knows nothing of sources."""

    name = "own_validator"
    validator = type("Own", (cerberus.Validator,), {"types_mapping": cerberus.Validator.types_mapping.copy()})


def context(*roots: str) -> StepContext:
    access = Access.of_worker(Config(store="memory://x", source_roots=roots))
    return StepContext(access=access, job_id="j", launch_id="l", generation=0, step="process")


@pytest.mark.parametrize("source", EVERY_FORMAT, ids=lambda source: source.format.name)
def test_a_source_is_a_value(source: sources.Source) -> None:
    """A source of every format travels in fanout's encoding and by pickle, and comes back equal."""
    assert decode(encode([source])) == [source]
    assert pickle.loads(pickle.dumps(source)) == source


def test_a_part_takes_about_200_bytes() -> None:
    """A part names its object, range, entity tag and format in about 200 bytes, and 64 small objects in a few kB."""
    key = "logs/2026/11/26/frontend-0017.example.com/access.log"
    large = next(within(sources.lines(f"s3://bucket/{key}"), MemoryBucket({key: b"x\n" * 1000})).parts(1000))
    assert decode(encode(large)) == large
    assert pickle.loads(pickle.dumps(large)) == large
    assert len(encode(large)) < 200
    many = MemoryBucket({f"images/2026/{number:08}.jpg": b"x" for number in range(64)})
    (small,) = within(sources.lines("s3://bucket/images/"), many).parts()
    assert len(encode(small)) < 64 * 60


def test_no_access_and_no_credentials_travel() -> None:
    """The bytes, the pickle and the repr of a source and a part are the same whatever this process may read."""
    for value in (
        within(EVERY_FORMAT[0], MemoryBucket({})),
        next(in_memory(sources.lines("s3://bucket/*"), a=b"1").parts()),
    ):
        bare = type(value).from_plain(value.to_plain())
        assert (encode(value), pickle.dumps(value), repr(value)) == (encode(bare), pickle.dumps(bare), repr(bare))


def test_a_forged_part_reads_nothing_outside_the_roots(tmp_path: Path) -> None:
    """A value from a message names what it likes; the worker reads below its own roots, in other threads too."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_bytes(b"fine")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    forged = [next(sources.lines(tmp_path / name).parts()) for name in ("in/a", "secret", "in/link")]
    with running(context(str(tmp_path / "in"))):
        good, secret, link = decode(encode(forged))
        source = decode(encode(sources.lines(tmp_path / "secret")))
    # Outside the step, as in a thread that the step has started.
    assert list(good) == ["fine"]
    for part in (secret, link):
        with pytest.raises(NotAllowed, match="source_roots is file://"):
            list(part)
    with pytest.raises(NotAllowed):
        list(source.parts())
    plain = good.to_plain()
    plain[2] = plain[2] + "/../secret"
    with pytest.raises(ValueError, match=r"the segment '\.\.'"):
        sources.Part.from_plain(plain)


@pytest.mark.parametrize(
    "damage", [lambda plain: plain[:3], lambda plain: [*plain[:4], -1, 0, 0], lambda plain: ["new", *plain[1:]]]
)
def test_a_malformed_part_is_refused_as_it_is_decoded(damage: Any) -> None:
    """What no part of this version can be is refused before anything is read."""
    part = next(in_memory(sources.lines("s3://bucket/*"), a=b"1").parts())
    with pytest.raises((ValueError, UnknownType)):
        sources.Part.from_plain(damage(part.to_plain()))


def test_a_job_reads_its_input_in_place(tmp_path: Path) -> None:
    """A task declares a source in its schema, setup yields parts, and process reads them, in every local engine."""
    (tmp_path / "a.txt").write_text("to be or not to be\nthat is the question\n" * 3)
    (tmp_path / "b.txt").write_text("to be")
    text = sources.lines(tmp_path / "*.txt")
    expected = Counter(["to", "be", "or", "not", "to", "be", "that", "is", "the", "question"] * 3) + Counter(
        ["to", "be"]
    )
    assert CountWords.run({"text": text}) == expected
    assert CountWords.run({"text": text}, executor="threads", workers=2) == expected
    assert CountWithOwnValidator.run({"text": text}) == expected
    with pytest.raises(InvalidInput, match="text: must be of source type"):
        CountWords.run({"text": "a.txt"})


def test_a_setting_limits_the_callers_own_process_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local run reads what it names, unless the environment has a root."""
    (tmp_path / "a.txt").write_text("word")
    monkeypatch.setenv("FANOUT_SOURCE_ROOTS", str(tmp_path / "other"))
    with pytest.raises(JobFailed, match="FANOUT_SOURCE_ROOTS") as caught:
        CountWords.run({"text": sources.lines(tmp_path / "a.txt")})
    assert isinstance(caught.value.__cause__, NotAllowed)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda path: path.write_text("other\n" * 10), SourceChanged),
        (lambda path: path.write_text("short"), SourceChanged),
        (lambda path: path.unlink(), SourceMissing),
        (lambda path: os.replace(path.with_name("b.md"), path), SourceChanged),
    ],
    ids=["written", "cut short", "deleted", "replaced"],
)
def test_an_input_that_changed_fails_the_job_by_its_key(tmp_path: Path, change: Any, error: type[Exception]) -> None:
    """Setup pins what it saw, so a job never mixes two states of an object."""
    path = tmp_path / "a.txt"
    path.write_text("words\n" * 10)
    (tmp_path / "b.md").write_text("w0rds\n" * 10)
    os.utime(path, ns=(1, 1))

    class Changing(CountWords):
        name = f"changing_{error.__name__}_{id(change)}"

        @staticmethod
        def setup(text: sources.Source) -> Iterator[dict[str, Any]]:
            parts = [{"part": part} for part in text.parts(part_bytes=20)]
            change(path)
            return iter(parts)

    with pytest.raises(JobFailed, match=r"a\.txt") as caught:
        Changing.run({"text": sources.lines(tmp_path / "*.txt")}, max_attempts=1)
    assert isinstance(caught.value.__cause__, error)
    assert getattr(caught.value.__cause__, "url") == path.as_uri()  # noqa: B009


KEYS = ["a.txt", "a/b.txt", "a/c.md", "a/d/e.txt", "a/d/f", "ab.txt", "b*.txt", "b/_x.txt", "c d.txt"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("s3://bucket/a.txt", ["a.txt"]),
        ("s3://bucket/*.txt", ["a.txt", "ab.txt", "b*.txt", "c d.txt"]),
        ("s3://bucket/a/*.txt", ["a/b.txt"]),
        ("s3://bucket/a*", ["a.txt", "ab.txt"]),
        ("s3://bucket/a/**/*.txt", ["a/b.txt", "a/d/e.txt"]),
        ("s3://bucket/**.txt", ["a.txt", "a/b.txt", "a/d/e.txt", "ab.txt", "b*.txt", "b/_x.txt", "c d.txt"]),
        ("s3://bucket/*/*.txt", ["a/b.txt", "b/_x.txt"]),
        ("s3://bucket/a/", ["a/b.txt", "a/c.md", "a/d/e.txt", "a/d/f"]),
        ("s3://bucket", KEYS),
        ("s3://bucket/b%2A.txt", ["b*.txt"]),
        ("s3://bucket/c%20*.txt", ["c d.txt"]),
        (
            ["s3://bucket/c d.txt", "s3://bucket/a/", "s3://bucket/a.txt"],
            ["c d.txt", "a/b.txt", "a/c.md", "a/d/e.txt", "a/d/f", "a.txt"],
        ),
    ],
)
def test_objects_are_chosen_in_the_order_of_keys(where: Any, expected: list[str]) -> None:
    """A name, a folder and a pattern choose objects in the order of keys, and a list keeps its own order."""
    bucket = MemoryBucket({key: key.encode() for key in KEYS})
    source = within(sources.objects(where), bucket)
    assert [data.decode() for _, data in source] == expected
    local = within(sources.objects(where), bucket)
    assert [record.url for part in local.parts(10_000) for record in part] == [part.location for part in source.parts()]


def test_files_are_chosen_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths and file:// URLs choose files as keys are chosen; a path to a folder is the folder."""
    for key in KEYS:
        (tmp_path / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / key).write_text(key)
    monkeypatch.chdir(tmp_path)
    for where, expected in (
        ("a/**/*.txt", ["a/b.txt", "a/d/e.txt"]),
        (tmp_path / "a", ["a/b.txt", "a/c.md", "a/d/e.txt", "a/d/f"]),
        ("*.txt", ["a.txt", "ab.txt", "b*.txt", "c d.txt"]),
        ((tmp_path / "c d.txt").as_uri(), ["c d.txt"]),
        (f"{tmp_path.as_uri()}/c%20*", ["c d.txt"]),
    ):
        assert [data.decode() for _, data in sources.objects(where)] == expected


@pytest.mark.parametrize("where", ["s3://bucket/none.txt", "s3://bucket/none*", "s3://bucket/none/"])
def test_a_name_that_fits_nothing_is_an_error(where: str) -> None:
    """A misspelt name or pattern does not pass for an empty input."""
    with pytest.raises(SourceMissing, match=where.replace("*", r"\*")):
        list(in_memory(sources.lines(where), a=b"1").parts())


@pytest.mark.parametrize("where", ["x" * 300, f"{'x' * 300}/*"])
def test_a_name_that_no_file_can_have_is_not_tried_again(where: str, tmp_path: Path) -> None:
    """A name that is too long for a file system is an error of the name and no outage."""
    with pytest.raises(InvalidKey, match="allows 255 bytes for a file or folder") as caught:
        list(sources.lines(tmp_path / where).parts())
    assert not caught.value.transient


@pytest.mark.parametrize("where", ["s3://bucket/../x*", "gs://bucket/*", "s3://bucket/a*?x", "../*.txt", 7])
def test_a_wrong_name_is_refused_where_it_is_written(where: Any) -> None:
    """A source refuses a location in the caller, before a job exists."""
    with pytest.raises((InvalidLocation, TypeError)):
        sources.lines(where)


def test_small_objects_share_a_part_and_large_ones_are_split() -> None:
    """Parts have the asked size: small objects are gathered in order, empty ones left out, large ones cut evenly."""
    sizes = {"a": 10, "b": 0, "c": 10, "d": 95, "e": 10, "f": 25}
    source = within(sources.lines("s3://bucket/*"), MemoryBucket({key: b"x" * size for key, size in sizes.items()}))
    parts = list(source.parts(30))
    assert [(len(part.locations), part.start, part.end, part.len_bytes) for part in parts] == [
        (2, 0, 0, 20),
        (1, 0, 23, 23),
        (1, 23, 47, 24),
        (1, 47, 71, 24),
        (1, 71, 95, 24),
        (1, 0, 0, 10),
        (1, 0, 0, 25),
    ]
    many = within(sources.lines("s3://bucket/*"), MemoryBucket({f"{number:03}": b"x" for number in range(130)}))
    assert [len(part.locations) for part in many.parts()] == [64, 64, 2]
    with pytest.raises(ConfigError, match="part_bytes must be a whole number from 1, not 0"):
        source.parts(0)


def test_setup_lists_as_it_goes_and_reads_no_data() -> None:
    """The first part comes after one page of the listing, and no body is read."""
    bucket = MemoryBucket({f"{number:03}": b"x" * 10 for number in range(100)})
    parts = within(sources.lines("s3://bucket/*"), bucket).parts(part_bytes=10)
    next(parts)
    assert bucket.requests == [("list", "")]
    list(parts)
    assert {verb for verb, _ in bucket.requests} == {"list"}


def test_the_mark_of_a_folder_is_no_object() -> None:
    """A listing shows "name/" as an empty object "name", which does not exist or is another; empty objects count."""

    class Marked(MemoryBucket):
        def list(self, folder: str = "", *, after: str = "") -> Iterator[Any]:
            for page in super().list(folder, after=after):
                yield [*page, TaggedObject("a", 0, "of a/"), TaggedObject("zz", 0, "")]

    bucket = Marked({"a": b"1", "b": b""})
    assert [part.location for part in within(sources.objects("s3://bucket/*"), bucket).parts()] == [
        "s3://bucket/a",
        "s3://bucket/b",
    ]


INVENTORY = {"fileFormat": "CSV", "fileSchema": "Bucket, Key, Size, ETag", "files": [{"key": "inv/1.csv.gz"}]}


@pytest.mark.parametrize(
    ("name", "body", "options"),
    [
        ("keys.csv", b"b\na b\n", {}),
        ("keys.csv", b'size,path\n1,b\n1,"a b"\n', {"column": "path"}),
        ("keys.jsonl", b'"b"\n{"key": "a b"}\n', {}),
        ("keys.jsonl", b'{"path": "s3://bucket/b"}\n{"path": "s3://bucket/a%20b"}\n', {"column": "path"}),
        ("keys.csv.gz", gzip.compress(b"b\na b\n", mtime=0), {}),
        ("inv/manifest.json", json.dumps(INVENTORY).encode(), {}),
        (
            "inv/manifest.json",
            json.dumps({**INVENTORY, "fileSchema": "Bucket, Key, IsLatest, IsDeleteMarker"}).encode(),
            {},
        ),
    ],
)
def test_a_manifest_lists_objects_of_any_format(name: str, body: bytes, options: dict[str, Any]) -> None:
    """Lists of keys and inventories of S3 name objects, in their order, for the format that is asked for."""
    bucket = MemoryBucket({"b": b"1\n2", "a b": b"3", name: body})
    tags = {key: bucket.head(key).tag.strip('"') for key in ("b", "a b")}
    rows = [f'"bucket","b","3","{tags["b"]}"', f'"bucket","a+b","1","{tags["a b"]}"']
    if "IsLatest" in body.decode(errors="replace"):
        rows = [
            '"bucket","b","true","false"',
            '"bucket","b","false","false"',
            '"bucket","a+b","true","false"',
            '"bucket","c","true","true"',
        ]
    bucket.bodies["inv/1.csv.gz"] = gzip.compress("\n".join(rows).encode())
    source = within(sources.manifest(f"s3://bucket/{name}", of=sources.lines, **options), bucket)
    assert records_of(source) == ["1", "2", "3"]
    plain = within(sources.manifest(f"s3://bucket/{name}", **options), bucket)
    assert [data for _, data in plain] == [b"1\n2", b"3"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ('"bucket","marked/","0","d41d8"', None),
        ('"bucket","b","","d41d8"', r"inv/1\.csv\.gz: it says no Size or no ETag of s3://bucket/b"),
        ('"bucket","b","3",""', "it says no Size or no ETag of s3://bucket/b"),
        ('"bucket","x%2F..%2Fb","3","d41d8"', r"entry 1 names no object: .*the segment '\.\.'"),
    ],
)
def test_a_row_of_an_inventory_is_an_object_a_folder_or_an_error(row: str, error: str | None) -> None:
    """An inventory lists the marks of folders, too, which are no input; an object without size or tag is never lost."""
    bodies = {"inv/manifest.json": json.dumps(INVENTORY).encode(), "inv/1.csv.gz": gzip.compress(row.encode())}
    source = within(sources.manifest("s3://bucket/inv/manifest.json"), MemoryBucket(bodies))
    with pytest.raises(SourceDamaged, match=error) if error else contextlib.nullcontext():
        assert list(source.parts()) == []


@pytest.mark.parametrize(
    ("name", "body", "error"),
    [
        ("keys.csv", b"missing\n", "s3://bucket/missing does not exist"),
        ("keys.csv", b"../x\n", r"the segment '\.\.'"),
        ("keys.jsonl", b'{"other": 1}\n', "entry 1 has no key"),
        ("keys.csv", b"a\nmarked/\n", r"keys\.csv: entry 1 names no object|keys\.csv: entry 2 is a folder"),
        ("keys.csv", b"/a\n", r"keys\.csv: entry 1 names no object: '/a': it has an empty segment"),
        ("manifest.json", b"{}", "no manifest of an S3 inventory"),
        ("manifest.json", json.dumps({**INVENTORY, "fileSchema": "Key, Size"}).encode(), "has no column Bucket"),
        ("manifest.json", json.dumps({**INVENTORY, "fileFormat": "ORC"}).encode(), "only inventories in CSV"),
    ],
)
def test_a_wrong_manifest_is_named(name: str, body: bytes, error: str) -> None:
    """An entry that is no object, and a manifest that is none, fail with what is wrong."""
    with pytest.raises(fanout.FanoutError, match=error):
        list(within(sources.manifest(f"s3://bucket/{name}"), MemoryBucket({name: body})).parts())


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: sources.records("s3://bucket/a", size=0), "size must be a whole number from 1, not 0"),
        (lambda: sources.lines("s3://bucket/a", compression="bz2"), "compression must be one of"),
        (lambda: sources.csv("s3://bucket/a", delimiter="::"), "delimiter must be one character"),
        (lambda: sources.csv("s3://bucket/a", delimiter='"'), "delimiter and quote are both"),
        (lambda: sources.csv("s3://bucket/a", header="ab"), "header must be a list of names, not 'ab'"),
        (lambda: sources.csv("s3://bucket/a", header=["a", "a"]), "header must name each column once"),
        (lambda: sources.csv("s3://bucket/a", header=[]), "header must name each column once"),
        (lambda: sources.parquet("s3://bucket/a", columns="ab"), "columns must be a list of names, not 'ab'"),
        (lambda: sources.lines("s3://bucket/a", errors="never"), "errors: unknown error handler name 'never'"),
        (lambda: sources.lines("s3://bucket/a", endpoint=7), "endpoint must be text"),  # type: ignore[arg-type]
        (lambda: sources.manifest("s3://bucket/a", of=print), "of must be a function of fanout.sources"),
    ],
)
def test_a_wrong_option_is_named(make: Any, named: str) -> None:
    """An option is checked where the source is made."""
    with pytest.raises(ConfigError, match=named):
        make()


def test_what_makes_no_sense_is_refused_in_words() -> None:
    """Lines are no table, and Parquet has no bytes of records."""
    part = next(in_memory(sources.lines("s3://bucket/*"), a=b"1").parts())
    with pytest.raises(TypeError, match=r"sources\.lines: a part is no table"):
        part.arrow()
    with pytest.raises(TypeError, match=r"sources\.lines: only parts of Parquet have batches"):
        next(part.batches())


def test_a_value_that_a_caller_receives_is_limited_by_the_apps_settings(tmp_path: Path) -> None:
    """A part in a job's value may be read where the settings of the caller allow it; without any, everywhere."""

    class FirstPart(CountWords):
        name = "first_part"

        @staticmethod
        def process(part: sources.Part) -> Any:
            return part

        @staticmethod
        def join(counters: Any) -> Any:
            return counters[0]

    (tmp_path / "a.txt").write_text("word")
    text = sources.lines(tmp_path / "a.txt")
    for roots, allowed in (((str(tmp_path),), True), ((str(tmp_path / "other"),), False)):
        world = World(source_roots=(str(tmp_path),))
        ledger = world.launch(FirstPart, {"text": text})
        world.dispatcher.drain(world.runtime)
        caller = Runtime(world.store, Config(store=world.store.url, source_roots=roots), world.dispatcher)
        part = Job(ledger.job_id, caller).get(timeout=10)
        if allowed:
            assert list(part) == ["word"]
        else:
            with pytest.raises(NotAllowed, match="other"):
                list(part)
