"""The comparisons: which contenders do which workloads, and what is measured and shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from . import figures
from .contenders import PROCESSES, THREADS
from .figures import Figure
from .servers import Workers
from .workloads import Workload

MB = 1_000_000
SIZES = (1 * MB, 10 * MB, 40 * MB, 100 * MB, 256 * MB)
CHUNKS = (8, 32, 128, 512)
SIZES_CHUNKS = 32
"""Number of chunks of the sizes of `memory`."""
CHUNKS_SIZE = 10 * MB
"""Size of the input of the numbers of chunks of `memory`."""
SCALE_SIZES = (100 * MB, 1000 * MB, 10_000 * MB)
SCALE_DOCUMENTS = 4
"""Documents in a chunk of `scale`."""
WORDS = Workload("words", chunks=32, size_bytes=40 * MB)
ONE = Workload("empty", chunks=1)

ONE_WORKER = Workers({"worker": None}, PROCESSES)
STEP_WORKERS = Workers({"setup": "setup", "process-1": "process", "process-2": "process", "join": "join"}, 1)
"""A queue and a worker for each step, so that the memory of each can be told apart."""

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
        workers: The Celery workers.
        watched: Roles whose memory over time is kept; if there are any, memory and the broker's traffic are measured,
            and each case has a session of its own.
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
    workers: Workers = ONE_WORKER
    watched: tuple[str, ...] = ()
    warm_up: Workload | None = None
    on_disk: bool = False

    def select(self, contenders: Sequence[str]) -> Comparison:
        """Return the comparison of these contenders; of all if none is given."""
        cases = tuple(case for case in self.cases if case[0] in contenders)
        return replace(self, cases=cases) if contenders else self

    @property
    def sessions(self) -> list[tuple[str, list[Workload]]]:
        """The sessions of a repetition: contender and workloads."""
        if self.watched:
            return [(contender, [workload]) for contender, workload in self.cases]
        found: dict[str, list[Workload]] = {}
        for contender, workload in self.cases:
            found.setdefault(contender, []).append(workload)
        return list(found.items())


def compare_jobs(*, quick: bool) -> Comparison:
    """A job of one empty chunk on warm workers, and a word count of 40 MB: wall time, and CPU time by process."""
    cases = _cross(["fanout", "streamed"], [ONE, WORDS])
    return _timed("job", cases, figures.MILLISECONDS, quick, 3 if quick else 5, lambda one: 20 if one == ONE else 1)


def compare_overhead(*, quick: bool) -> Comparison:
    """What an empty chunk costs: fanout, a Celery group, a Celery chord on Redis, Dask, Ray, Lithops."""
    numbers = (1, 100, 1000) if quick else (1, 10, 100, 1000, 3000, 10_000)
    workloads = [Workload("empty", chunks=number) for number in numbers]
    cases = _cross(["fanout", "group", "chord", "dask", "ray", "lithops"], workloads)
    runs, times = (1 if quick else 2), lambda workload: 5 if workload.chunks <= 10 else 1
    return replace(_timed("overhead", cases, figures.CHUNK_MS, quick, runs, times), budget_s=5.0)


def compare_wordcounts(*, quick: bool) -> Comparison:
    """40 MB of text in 32 parts: plain Python, a pool, Ray, Dask, Lithops, Canvas, fanout."""
    names = ["serial", "pool", "ray", "dask", "fanout", "streamed", "presliced", "lithops", "canvas"]
    return _timed("wordcount", _cross(names, [WORDS]), figures.SECONDS, quick, 3 if quick else 5)


def compare_stores(*, quick: bool) -> Comparison:
    """fanout's encoding, packing and checking of bytes against the same client alone, up and down."""
    size_bytes = 200 * MB if quick else 1000 * MB
    workloads = [Workload(work, size_bytes=size_bytes) for work in ("upload", "download")]
    cases = _cross(["packs", "raw-obstore", "packs-boto3", "raw-boto3"], workloads)
    return replace(_timed("store", cases, figures.THROUGHPUT, quick, 3), budget_s=60.0)


def compare_shapes(*, quick: bool) -> Comparison:
    """600 steps that wait, on 32 threads: the speed-up over a serial run."""
    cases = _cross(["fanout", "group", "threads"], [Workload("wait", chunks=600, items=600)])
    made = _timed("shape", cases, figures.SPEED_UP, quick, 1 if quick else 3)
    return replace(made, budget_s=90.0, workers=Workers({"worker": None}, THREADS, "threads"))


def compare_tiny_items(*, quick: bool) -> Comparison:
    """A million items of 20 bytes, cut as each contender chooses."""
    names = ["serial", "pool", "ray", "dask", "fanout", "streamed", "chunks"]
    cases = _cross(names, [Workload("digits", items=200_000 if quick else 1_000_000)])
    return replace(_timed("tiny", cases, figures.ITEM_US, quick, 2), budget_s=30.0)


def compare_memory(*, quick: bool, sizes: Sequence[int] = SIZES, chunks: Sequence[int] = CHUNKS) -> Comparison:
    """The same word count over Canvas and over fanout: memory, bytes, time. Sizes at 32 chunks, chunks at 10 MB."""
    names = ["canvas", "canvas-zstd", "canvas-keys", "canvas-16mib", "canvas-redis"]
    names += ["presliced", "fanout", "streamed", "here"]
    points = [(size, SIZES_CHUNKS) for size in sizes] + [(CHUNKS_SIZE, number) for number in chunks]
    workloads = [Workload("words", chunks=count, size_bytes=size) for size, count in dict.fromkeys(points)]
    cases = [(name, workload) for workload in workloads for name in names]
    if quick:
        small = Workload("words", chunks=SIZES_CHUNKS, size_bytes=CHUNKS_SIZE)
        cases = [(name, small) for name in ("canvas", "presliced", "fanout")] + [(name, WORDS) for name in names]
        cases += [("fanout", replace(small, chunks=number)) for number in (8, 128)]
    tables = (
        ("In the broker", [figures.BROKER_GROWTH, figures.PUBLISHED, figures.MESSAGES, figures.SECONDS]),
        ("Peak memory of process trees", [*figures.PEAKS.values(), figures.RESULTS_PEAK]),
        ("In the store", [figures.REQUESTS, figures.UPLOADED, figures.DOWNLOADED]),
    )
    return _measured("memory", cases, tables, repeat=1 if quick else 3, timeout_s=600.0, watched=("broker",))


def compare_scales(*, quick: bool, sizes: Sequence[int] = SCALE_SIZES, chunks: int = 256) -> Comparison:
    """A word count over text that is never there as a whole, in chunks of the same size: so many for each GB."""
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
    made = _measured("scale", cases, tables, repeat=1, timeout_s=3600.0, watched=("broker", "caller", "setup", "join"))
    return replace(made, on_disk=True)


COMPARISONS: dict[str, Callable[..., Comparison]] = {
    "memory": compare_memory,
    "scale": compare_scales,
    "job": compare_jobs,
    "overhead": compare_overhead,
    "wordcount": compare_wordcounts,
    "store": compare_stores,
    "shape": compare_shapes,
    "tiny": compare_tiny_items,
}
"""By the name of the command."""


def _cross(contenders: Sequence[str], workloads: Sequence[Workload]) -> list[tuple[str, Workload]]:
    return [(contender, workload) for contender in contenders for workload in workloads]


def _timed(
    name: str,
    cases: Sequence[tuple[str, Workload]],
    figure: Figure,
    quick: bool,
    runs: int,
    times: Callable[[Workload], int] = lambda workload: 1,
) -> Comparison:
    """Make a comparison of times: each contender has one session in a repetition."""
    wall = [] if figure in (figures.SECONDS, figures.MILLISECONDS) else [figures.WALL]
    tables = ((name, [figure, *wall, figures.REQUESTS]), ("CPU seconds of a run", figures.CPU))
    return Comparison(name, tuple(cases), figure, tables, 1 if quick else 3, runs, times)


def _measured(
    name: str,
    cases: Sequence[tuple[str, Workload]],
    tables: tuple[Table, ...],
    *,
    repeat: int,
    timeout_s: float,
    watched: tuple[str, ...],
) -> Comparison:
    """Make a comparison of memory: each case has a session, and a tiny word count before it."""
    return Comparison(
        name,
        tuple(cases),
        figures.SECONDS,
        tables,
        repeat=repeat,
        runs=1,
        timeout_s=timeout_s,
        workers=STEP_WORKERS,
        watched=watched,
        warm_up=Workload("words", chunks=16, size_bytes=1600, document_bytes=100),
    )
