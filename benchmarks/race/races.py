"""Who runs what: the races."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .works import Load

MB = 1_000_000

EMPTY_CHUNKS = (1, 10, 100, 1000, 3000, 10_000)
WORDS = Load("words", chunks=32, size_bytes=40 * MB)
ONE = Load("empty", chunks=1)


@dataclass(frozen=True, slots=True)
class Course:
    """A load, and how often it is run in a lap: what takes milliseconds is not measured once.

    Attributes:
        load: The load.
        times: Runs in a lap, one after the other.
    """

    load: Load
    times: int = 1


@dataclass(frozen=True, slots=True)
class Race:
    """A benchmark in which entries take turns.

    Attributes:
        name: Its name, and its command's.
        entries: Who takes part, in the order of their turns.
        courses: What each of them does in a turn, in this order.
        laps: How often it does that in a turn, at most.
        budget_s: An entry that has spent so long on a load does not repeat it.
        threads: Whether workers are 32 threads of one process, and not 2 processes.
    """

    name: str
    entries: tuple[str, ...]
    courses: tuple[Course, ...]
    laps: int = 3
    budget_s: float = 10.0
    threads: bool = False

    def only(self, entries: tuple[str, ...]) -> Race:
        """The race among these entries; all if there are none."""
        return replace(self, entries=entries) if entries else self


def job(*, quick: bool) -> Race:
    """A warm job of one empty chunk, and the word count."""
    return Race("job", ("fanout", "streamed"), (Course(ONE, times=20), Course(WORDS)), laps=3 if quick else 5)


def overhead(*, quick: bool) -> Race:
    """Empty chunks."""
    numbers = (1, 100, 1000) if quick else EMPTY_CHUNKS
    courses = tuple(Course(Load("empty", chunks=number), times=5 if number <= 10 else 1) for number in numbers)
    entries = ("fanout", "group", "chord", "dask", "ray", "lithops")
    return Race("overhead", entries, courses, laps=1 if quick else 2, budget_s=5.0)


def wordcount(*, quick: bool) -> Race:
    """40 MB of text in 32 parts."""
    entries = ("serial", "pool", "ray", "dask", "fanout", "streamed", "presliced", "lithops", "canvas")
    return Race("wordcount", entries, (Course(WORDS),), laps=3 if quick else 5)


def store(*, quick: bool) -> Race:
    """Bytes up and down."""
    size_bytes = 200 * MB if quick else 1000 * MB
    courses = (Course(Load("upload", size_bytes=size_bytes)), Course(Load("download", size_bytes=size_bytes)))
    return Race("store", ("packs", "raw-obstore", "packs-boto3", "raw-boto3"), courses, laps=3, budget_s=60.0)


def shape(*, quick: bool) -> Race:
    """600 steps that wait half a second to a second each, for 32 threads."""
    steps = 600
    course = Course(Load("wait", chunks=steps, items=steps))
    return Race("shape", ("fanout", "group", "threads"), (course,), laps=1 if quick else 3, budget_s=90.0, threads=True)


def tiny(*, quick: bool) -> Race:
    """A million items of 20 bytes."""
    course = Course(Load("digits", items=200_000 if quick else 1_000_000))
    entries = ("serial", "pool", "ray", "dask", "fanout", "streamed", "chunks")
    return Race("tiny", entries, (course,), laps=2, budget_s=30.0)


RACES = {make.__name__: make for make in (job, overhead, wordcount, store, shape, tiny)}
"""By name."""
