"""The comparisons: which contenders do which workloads, and what is measured and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from . import figures
from .contenders import CHUNK_ITEMS, THREADS
from .figures import Figure
from .workloads import Workload

MB = 1_000_000
SIZES = (1 * MB, 10 * MB, 40 * MB, 100 * MB, 256 * MB)
CHUNKS = (8, 32, 128, 512)
SIZES_CHUNKS = 32
"""Number of chunks of the sizes of `memory`."""
CHUNKS_SIZE = 10 * MB
"""Size of the input of the numbers of chunks of `memory`."""
SCALE_SIZES = (100 * MB, 1000 * MB, 10_000 * MB)
SOURCE_SIZES = (100 * MB, 1000 * MB)
IN_MEMORY_BYTES = 2000 * MB
"""Size of a text up to which the store has its objects in memory."""
MILLIONS = (10_000, 100_000, 1_000_000)
"""Numbers of chunks of `million`."""
OBJECTS = (1000, 10_000, 100_000)
"""Numbers of objects of `objects`."""
SCALE_DOCUMENTS = 4
"""Documents in a chunk of `scale`."""
CANVASES = ("canvas", "canvas-zstd", "canvas-keys", "canvas-16mib", "canvas-redis")
TAIL_THREADS = (2, 8, 32)
HAND_CHOSEN = tuple(f"items-{items}" for items in CHUNK_ITEMS)
"""Contenders of `tail` whose sizes of chunks are chosen by hand."""
WORDS = Workload("words", chunks=32, size_bytes=40 * MB)
ONE = Workload("empty", chunks=1)

Table = tuple[str, Sequence[Figure]]
"""Title and columns."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A benchmark in which contenders take part.

    Attributes:
        name: Its name, and its command's.
        cases: Contender and workload, in their order within a repetition.
        figure: The figure that it is about.
        tables: Titles and figures of its tables.
        repeat: Repetitions.
        runs: Runs of a case in a session, at most.
        times: Times that the work is done in one run: milliseconds are not timed once.
        budget_s: A case that has taken so long in a session is not run again in it.
        timeout_s: A longer run is stopped.
        limit_bytes: A run whose broker has grown to this size is stopped.
        watched: Roles whose memory over time is kept; if there are any, memory and the broker's traffic are measured,
            each case has a session of its own, and each step a worker.
        warm_up: The tiny workload that comes first; that of the work if not given.
        on_disk: Whether the store's objects lie on disk.
    """

    name: str
    cases: tuple[tuple[str, Workload], ...]
    figure: Figure
    tables: tuple[Table, ...]
    repeat: int = 3
    runs: int = 3
    times: Callable[[Workload], int] = lambda workload: 1
    budget_s: float = 10.0
    timeout_s: float = 120.0
    limit_bytes: int = 8_000_000_000
    watched: tuple[str, ...] = ()
    warm_up: Workload | None = None
    on_disk: bool = False

    def select(self, contenders: Sequence[str]) -> Comparison:
        """Return the comparison of these contenders in all of its workloads; itself if none is given."""
        workloads = dict.fromkeys(workload for _, workload in self.cases)
        cases = tuple((contender, workload) for workload in workloads for contender in contenders)
        return replace(self, cases=cases) if contenders else self

    @property
    def sessions(self) -> list[tuple[str, list[Workload]]]:
        """The sessions of a repetition: contender, and workloads on the same number of threads."""
        if self.watched:
            return [(contender, [workload]) for contender, workload in self.cases]
        found: dict[tuple[str, int], list[Workload]] = {}
        for contender, workload in self.cases:
            found.setdefault((contender, workload.threads), []).append(workload)
        return [(contender, workloads) for (contender, _), workloads in found.items()]


def compare_jobs(*, quick: bool) -> Comparison:
    """Time a warm job of one empty chunk and a word count of 40 MB; count CPU seconds by process."""
    made = _time("job", "fanout streamed", [ONE, WORDS], figures.MILLISECONDS, quick)
    return replace(made, runs=3 if quick else 5, times=lambda workload: 20 if workload == ONE else 1)


def compare_overhead(*, quick: bool) -> Comparison:
    """Time 1 to 100,000 empty chunks: fanout over Celery, Dask and Ray; these alone; Celery's chord, Lithops.

    Over Celery, fanout runs with signed messages and with encrypted objects, too.
    """
    numbers = (1, 100, 1000) if quick else (1, 10, 100, 1000, 10_000, 100_000)
    workloads = [Workload("empty", chunks=number) for number in numbers]
    names = "fanout fanout-signed fanout-sealed fanout-file group chord fanout-dask dask fanout-ray ray lithops"
    made = _time("overhead", names, workloads, figures.CHUNK_MS, quick)
    return replace(made, runs=1 if quick else 2, times=lambda one: 5 if one.chunks <= 10 else 1, budget_s=5.0)


def compare_wordcounts(*, quick: bool) -> Comparison:
    """Count the words of 40 MB in 32 parts: plain Python, a pool, Ray, Dask, Lithops, Canvas, fanout."""
    names = (
        "serial pool ray dask fanout fanout-signed fanout-sealed fanout-file streamed streamed-file presliced lithops "
        "canvas"
    )
    return replace(_time("wordcount", names, [WORDS], figures.SECONDS, quick), runs=3 if quick else 5)


def compare_stores(*, quick: bool) -> Comparison:
    """Encode and upload 1 GB and read it back, against the same S3 client alone."""
    workloads = [Workload(work, size_bytes=(200 if quick else 1000) * MB) for work in ("upload", "download")]
    made = _time("store", "packs raw-obstore packs-boto3 raw-boto3", workloads, figures.THROUGHPUT, quick)
    return replace(made, budget_s=60.0)


def compare_shapes(*, quick: bool) -> Comparison:
    """Run 600 steps that wait, on 32 threads: the speed-up over a serial run."""
    workload = Workload("wait", 600, 600, threads=THREADS)
    made = _time("shape", "fanout group threads", [workload], figures.SPEED_UP, quick)
    return replace(made, runs=1 if quick else 3, budget_s=90.0)


def compare_tiny_items(*, quick: bool) -> Comparison:
    """Sum a million items of 20 bytes, cut as each contender chooses."""
    workload = Workload("digits", items=200_000 if quick else 1_000_000)
    made = _time("tiny", "serial pool ray dask fanout fanout-file streamed chunks", [workload], figures.ITEM_US, quick)
    return replace(made, runs=2, budget_s=30.0)


def compare_tails(*, quick: bool) -> Comparison:
    """Wait 1 ms for 99 of a hundred items and 1 s for the other one, 3,000 items in all, in chunks of several sizes."""
    workloads = [Workload("tail", items=1000 if quick else 3000, threads=threads) for threads in TAIL_THREADS]
    made = _time("tail", f"fanout {' '.join(HAND_CHOSEN)}", workloads, figures.SECONDS, quick)
    # The sizes follow each other on each number of threads. An empty chunk wakes up threads whatever the size.
    cases = tuple(sorted(made.cases, key=lambda case: case[1].threads))
    return replace(made, cases=cases, runs=1 if quick else 3, repeat=1, warm_up=Workload("empty", chunks=128))


def compare_memory(*, quick: bool, sizes: Sequence[int] = SIZES, chunks: Sequence[int] = CHUNKS) -> Comparison:
    """Count words over Canvas and over fanout: memory, bytes, time. Sizes are at 32 chunks, chunks at 10 MB."""
    names = [*CANVASES, "presliced", "fanout", "streamed", "here"]
    points = [(SIZES_CHUNKS, size) for size in sizes] + [(number, CHUNKS_SIZE) for number in chunks]
    workloads = [Workload("words", number, size_bytes=size) for number, size in dict.fromkeys(points)]
    cases = [(name, workload) for workload in workloads for name in names]
    if quick:
        small = Workload("words", SIZES_CHUNKS, size_bytes=CHUNKS_SIZE)
        cases = [(name, small) for name in ("canvas", "presliced", "fanout")] + [(name, WORDS) for name in names]
        cases += [("fanout", replace(small, chunks=number)) for number in (8, 128)]
    tables = (
        ("In the broker", [figures.BROKER_GROWTH, figures.PUBLISHED, figures.MESSAGES, figures.SECONDS]),
        ("Peak memory of process trees", [*figures.PEAKS.values(), figures.RESULTS_PEAK]),
        ("In the store", [figures.REQUESTS, figures.UPLOADED, figures.DOWNLOADED]),
    )
    return replace(_weigh("memory", cases, tables, ("broker",)), repeat=1 if quick else 3, timeout_s=600.0)


def compare_scales(*, quick: bool, sizes: Sequence[int] = SCALE_SIZES, chunks: int = 256) -> Comparison:
    """Count the words of text that is never there as a whole, in so many equal chunks for each GB."""
    chunk_bytes = 1000 * MB // chunks
    document_bytes = max(1, chunk_bytes // SCALE_DOCUMENTS)
    cases = [
        (name, Workload("words", max(1, round(size / chunk_bytes)), size_bytes=size, document_bytes=document_bytes))
        for size in sorted(sizes)[: 1 if quick else None]
        for name in ("stream-caller", "stream-worker")
    ]
    tables = (
        ("Peak memory of process trees", list(figures.PEAKS.values())),
        ("Peak memory of a single process", figures.LARGEST),
        ("Broker and time", [figures.CHUNK_BYTES, figures.SECONDS]),
    )
    made = _weigh("scale", cases, tables, ("broker", "caller", "setup", "join"))
    return replace(made, repeat=1, timeout_s=3600.0, on_disk=True)


def compare_sources(*, quick: bool, sizes: Sequence[int] = SOURCE_SIZES) -> Comparison:
    """Count the words of text that lies in the bucket, with two processes: fanout, Dask, Ray Data, Lithops, obstore."""
    names = ("raw-lines", "lines", "dask-bag", "dask-frame", "ray-data", "lithops-text")
    chosen = sorted(sizes)[: 1 if quick else None]
    cases = [(name, Workload("text", size_bytes=size)) for size in chosen for name in names]
    tables = (
        ("Time", [figures.SECONDS, figures.THROUGHPUT, figures.FIRST_CHUNK]),
        ("Peak memory of a single process", [figures.LARGEST_SETUP, figures.LARGEST_WORKER]),
        ("In the store and the broker", [figures.SETUP_BYTES, figures.REQUESTS, figures.DOWNLOADED, figures.PUBLISHED]),
    )
    made = _weigh("sources", cases, tables, ("setup",))
    return replace(
        made,
        warm_up=None,
        repeat=1 if quick else 3,
        timeout_s=3600.0,
        on_disk=max(chosen) > IN_MEMORY_BYTES,
    )


def compare_millions(*, quick: bool) -> Comparison:
    """Run up to a million empty chunks end to end: time, memory of each step, requests and their price."""
    cases = [("fanout", Workload("empty", chunks=number)) for number in MILLIONS[: 1 if quick else None]]
    tables = (
        ("Time and requests", [figures.CHUNK_MS, figures.WALL, figures.REQUESTS, figures.PRICE, figures.MESSAGES]),
        ("Peak memory of a single process", figures.LARGEST),
    )
    made = _weigh("million", cases, tables, ("broker", "caller", "setup", "join"))
    return replace(made, figure=figures.CHUNK_MS, repeat=1, timeout_s=3600.0)


def compare_objects(*, quick: bool) -> Comparison:
    """Read up to 100,000 objects of 1 kB that lie in the bucket: fanout, Celery, Ray Data, and obstore alone."""
    workloads = [Workload("objects", items=number) for number in OBJECTS[: 1 if quick else None]]
    names = "raw-objects objects objects-gathered group-of-keys ray-objects"
    made = _time("objects", names, workloads, figures.ITEM_MS, quick)
    tables = (("objects", [figures.ITEM_MS, figures.WALL, figures.REQUESTS, figures.PRICE]), *made.tables[1:])
    return replace(made, tables=tables, runs=1, repeat=1, timeout_s=900.0)


COMPARISONS: dict[str, Callable[..., Comparison]] = {
    "memory": compare_memory,
    "scale": compare_scales,
    "job": compare_jobs,
    "overhead": compare_overhead,
    "wordcount": compare_wordcounts,
    "store": compare_stores,
    "shape": compare_shapes,
    "tiny": compare_tiny_items,
    "tail": compare_tails,
    "sources": compare_sources,
    "objects": compare_objects,
    "million": compare_millions,
}
"""By the name of the command."""


def _time(name: str, contenders: str, workloads: Sequence[Workload], figure: Figure, quick: bool) -> Comparison:
    """Make a comparison of times: each contender has one session in a repetition."""
    cases = tuple((contender, workload) for contender in contenders.split() for workload in workloads)
    wall = [] if figure in (figures.SECONDS, figures.MILLISECONDS) else [figures.WALL]
    tables = ((name, [figure, *wall, figures.REQUESTS]), ("CPU seconds of a run", figures.CPU))
    return Comparison(name, cases, figure, tables, repeat=1 if quick else 3)


def _weigh(
    name: str, cases: Sequence[tuple[str, Workload]], tables: tuple[Table, ...], watched: tuple[str, ...]
) -> Comparison:
    """Make a comparison of memory: each case has a session, which begins with a tiny word count."""
    tiny = Workload("words", 16, size_bytes=1600, document_bytes=100)
    return Comparison(name, tuple(cases), figures.SECONDS, tables, runs=1, watched=watched, warm_up=tiny)
