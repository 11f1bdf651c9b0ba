"""Reads the records of a job for its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise

from ..records.batch import BatchResult, ResultEntry
from ..records.keys import ResultKey, launch_of, split_generation
from ..records.ledger import Ledger
from ..records.models import ChunkResult, Intent, Manifest, Outcome
from ..results import read_ahead
from .attempts import AttemptList, read_attempts
from .inputs import Inputs
from .runs import Run, make_run

OnProgress = Callable[[int, int], object]
"""Takes the number of objects that are read, and the number of all that will be."""

READ_BYTES = 2**30
"""Most bytes of results that a report reads, unless its caller says otherwise."""

SECOND_S = 1.0
"""Resolution of the times of objects in S3, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The records of a job, as far as a report needs them.

    Attributes:
        intent: The job's intent.
        began_at: When the latest generation began: at the launch, or at its retry.
        manifest: The manifest, if setup has written it.
        outcome: The outcome, if the job has ended.
        earlier: The outcomes of the generations before, oldest first.
        setup: The run of setup that counts.
        runs: The runs of process whose results count, in chunk order.
        nodes: The runs of combine above the chunks.
        join: The run that wrote the outcome.
        unread: Number of result objects that were left out, because they are too large to read.
        attempts: The attempts on record.
        objects: Number of objects of the job.
        stored_bytes: Their size.
        result_bytes: The size of those with results.
        resends: Number of times that a sweep sent messages again.
        batches: Number of messages in which setup sent the chunks.
        early_parts: Number of messages for parts of batches that were shared out before they had a result.
    """

    intent: Intent
    began_at: float
    manifest: Manifest | None = None
    outcome: Outcome | None = None
    earlier: Sequence[Outcome] = ()
    setup: Run | None = None
    runs: Sequence[Run] = ()
    nodes: Sequence[Run] = ()
    join: Run | None = None
    unread: int = 0
    attempts: AttemptList = field(default_factory=AttemptList)
    objects: int = 0
    stored_bytes: int = 0
    result_bytes: int = 0
    resends: int = 0
    batches: int = 0
    early_parts: int = 0


def read_records(
    ledger: Ledger, intent: Intent, *, read_bytes: int = READ_BYTES, on_progress: OnProgress | None = None
) -> Recorded:
    """Read the records of a job. Reads ahead, and holds eight results at a time.

    Two listings of the job; a request for each object of a batch or with results, each node, and each 1,024 chunks; one
    for each recorded attempt, at most `attempts.LISTED` of them; a few more.

    Args:
        ledger: The job's records, in its latest generation.
        intent: Its intent.
        read_bytes: Most bytes of results to read. If there are more, every n-th object is read.
        on_progress: Called with the number of objects read and of all.
    """
    manifest, outcome = ledger.manifest(), ledger.outcome()
    names, written_at, sizes = _list_objects(ledger)
    start = ledger.generation_start()
    found = Recorded(
        intent=intent,
        began_at=start.at if start is not None else intent.created_at,
        manifest=manifest,
        outcome=outcome,
        earlier=_read_earlier(ledger),
        join=_read_join(ledger, outcome, sizes) if outcome is not None else None,
        attempts=read_attempts(ledger, names),
        objects=len(sizes),
        stored_bytes=sum(sizes.values()),
        resends=sum("resends/" in name for name in names),
    )
    if manifest is None:
        return found
    inputs = Inputs(ledger, manifest, written_at)
    entries = list(ledger.result_entries(manifest.setup_id))
    bytes_of = {entry.index: sizes.get(_key_of(ledger, manifest.setup_id, entry), 0) for entry in entries}
    result_bytes = sum(bytes_of.values())
    stride = -(-result_bytes // read_bytes) if result_bytes > read_bytes else 1
    chosen = entries[::stride]
    reads: list[Callable[[], tuple[Run, float | None] | None]] = [
        partial(_read_result, ledger, manifest.setup_id, entry, inputs, bytes_of[entry.index]) for entry in chosen
    ]
    reads += [
        partial(_read_node, ledger, manifest.setup_id, level, entry, sizes)
        for level, nodes in ledger.tree(manifest.setup_id).items()
        for entry in nodes.entries
    ]
    setup = make_run("setup", manifest.stats, object_bytes=sizes.get(ledger.keys.manifest, 0))[0]
    runs = _attach_writes(_follow(read_ahead(reads), len(reads), on_progress))
    return replace(
        found,
        setup=setup,
        runs=[run for run in runs if run.step == "process"],
        nodes=[run for run in runs if run.step == "combine"],
        unread=len(entries) - len(chosen),
        result_bytes=result_bytes,
        batches=len(inputs),
        early_parts=_count_early_parts(ledger, manifest.setup_id, sizes, entries),
    )


def _list_objects(ledger: Ledger) -> tuple[list[str], dict[str, float], dict[str, int]]:
    """Return the names of a job's objects within its launch, key -> when written, and key -> size."""
    names: list[str] = []
    written_at: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for info in ledger.objects():
        sizes[info.key] = info.size
        _, name = launch_of(info.key)
        _, within = split_generation(name)
        if within.startswith("input/"):
            written_at[info.key] = info.modified.timestamp()
        elif not within.startswith("results/"):
            names.append(name)
    return names, written_at, sizes


def _read_earlier(ledger: Ledger) -> list[Outcome]:
    """Return the outcomes of earlier generations. One request each."""
    earlier = (
        Ledger(ledger.store, ledger.job_id, ledger.launch_id, number).outcome() for number in range(ledger.generation)
    )
    return [outcome for outcome in earlier if outcome is not None]


def _key_of(ledger: Ledger, setup_id: str, entry: ResultEntry) -> str:
    if entry.width > 1:
        return ledger.keys.batch_result(setup_id, entry.index, entry.width)
    if entry.failed:
        return ledger.keys.bad_result(setup_id, entry.index, entry.failed)
    return ledger.keys.result(setup_id, entry.index)


def _count_early_parts(ledger: Ledger, setup_id: str, sizes: Iterable[str], entries: Sequence[ResultEntry]) -> int:
    """Return the number of messages for parts of batches whose object holds no result. One request for each batch."""
    with_results = {entry.index for entry in entries if entry.width > 1}
    found = (ResultKey.read(key) for key in sizes if key.startswith(ledger.keys.results(setup_id)))
    reads = [
        partial(ledger.batch_result, setup_id, key.index, key.count)
        for key in found
        if key.count > 1 and key.shared is None and key.index not in with_results
    ]
    return sum(len(batch.parts) - batch.begun for batch in read_ahead(reads) if batch is not None)


def _read_result(
    ledger: Ledger, setup_id: str, entry: ResultEntry, inputs: Inputs, object_bytes: int
) -> tuple[Run, float | None] | None:
    result: ChunkResult | BatchResult | None
    parts, writes = 0, 1
    if entry.width > 1:
        result = batch = ledger.batch_result(setup_id, entry.index, entry.width)
        if batch is not None and batch.parts:
            # A share marker comes before the object.
            parts, writes = len(batch.parts) - batch.begun, 2
    else:
        result = ledger.result(setup_id, entry.index, entry.failed)
    if result is None:
        return None
    return make_run(
        "process",
        result.stats,
        chunk=entry.index,
        chunks=entry.count,
        failed=entry.failed,
        object_bytes=object_bytes,
        input_bytes=inputs.bytes_of(entry),
        ready_at=inputs.ready_at(entry),
        parts=parts,
        writes=writes,
    )


def _read_node(
    ledger: Ledger, setup_id: str, level: int, entry: ResultEntry, sizes: dict[str, int]
) -> tuple[Run, float | None] | None:
    node = ledger.node(setup_id, level, entry.index, entry.failed)
    keys = ledger.keys
    key = keys.node(setup_id, level, entry.index)
    if entry.failed:
        key = keys.bad_node(setup_id, level, entry.index, entry.failed)
    return make_run("combine", node.stats, object_bytes=sizes.get(key, 0)) if node is not None else None


def _read_join(ledger: Ledger, outcome: Outcome, sizes: dict[str, int]) -> Run:
    written = sizes.get(ledger.keys.outcome, 0)
    if outcome.value_digest is None:
        return make_run("join", outcome.stats, object_bytes=written)[0]
    written += sizes.get(ledger.keys.value(outcome.value_digest), 0)
    return make_run("join", outcome.stats, object_bytes=written, writes=2)[0]


def _follow(
    reads: Iterator[tuple[Run, float | None] | None], count: int, on_progress: OnProgress | None
) -> Iterator[tuple[Run, float | None]]:
    for done, read in enumerate(reads, start=1):
        if on_progress is not None:
            on_progress(done, count)
        # None for an object that was removed since the listing.
        if read is not None:
            yield read


def _attach_writes(recorded: Iterator[tuple[Run, float | None]]) -> list[Run]:
    """Return the runs, each with the seconds of its write, which the process's next run has recorded."""
    runs = list(recorded)
    by_worker: dict[str, list[int]] = {}
    for position, (run, _) in enumerate(runs):
        by_worker.setdefault(run.worker, []).append(position)
    wrote: dict[int, float] = {}
    for positions in by_worker.values():
        positions.sort(key=lambda position: runs[position][0].ended_at)
        for before, after in pairwise(positions):
            stored_s = runs[after][1]
            gap_s = runs[after][0].started_at - runs[before][0].ended_at
            if stored_s is not None and runs[before][0].step == "process":
                wrote[before] = min(stored_s, max(gap_s, 0.0))
    return [replace(run, stored_s=wrote.get(position)) for position, (run, _) in enumerate(runs)]
