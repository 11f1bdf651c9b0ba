"""The attempts on record that gave no result: runs that raised, were lost, or were interrupted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from ..records.attempt import Attempt, AttemptState
from ..records.keys import split_generation
from ..records.ledger import Ledger
from ..results import read_ahead

LISTED = 200
"""Most attempts that a report reads. It counts them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """An attempt that gave no result.

    Attributes:
        step: `setup`, `process`, `combine` or `join`.
        chunk: Index of the chunk, for process; else None.
        generation: The generation that it belongs to.
        number: Its number, from 1.
        state: `lost`, `raised` or `interrupted`.
        at: When it was recorded, in seconds since the epoch; None if it was interrupted.
        error: Name of the exception's type; empty if none is on record.
        reason: Its message.
        traceback_text: The worker's traceback.
    """

    step: str
    chunk: int | None
    generation: int
    number: int
    state: str
    at: float | None = None
    error: str = ""
    reason: str = ""
    traceback_text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptList:
    """The attempts of a job that gave no result.

    Attributes:
        count: Number of all of them.
        interrupted: Number of those that an outage of store or broker interrupted.
        retried_chunks: Number of chunks that have any.
        listed: The first of them, by step and chunk; at most `LISTED`.
    """

    count: int = 0
    interrupted: int = 0
    retried_chunks: int = 0
    listed: Sequence[RecordedAttempt] = ()

    def by_state(self) -> Counter[str]:
        """Return the numbers of the listed attempts by state."""
        return Counter(attempt.state for attempt in self.listed)

    def by_error(self) -> Counter[str]:
        """Return the numbers of the listed attempts by type of exception, for those that have one."""
        return Counter(attempt.error for attempt in self.listed if attempt.error)


def read_attempts(ledger: Ledger, names: Iterable[str]) -> AttemptList:
    """Return the attempts of a job that gave no result, in all generations. One request for each, at most `LISTED`.

    Some attempts have a record of their start alone: those after another one, and all of combine. They may have given a
    result, or may be running. So they do not count, as far as they were read.

    Args:
        ledger: The job's records.
        names: Names of the objects of its launch.
    """
    recorded = sorted(name for name in names if "attempts/" in name)
    found = [name for name in recorded if not _is_first_of_node(name, recorded)]
    reads = [partial(_read, ledger, name) for name in found[:LISTED]]
    listed = [attempt for attempt in read_ahead(reads) if attempt is not None]
    ended = [attempt for attempt in listed if attempt.state != AttemptState.STARTED]
    chunks = {chunk for _, chunk in map(_parse, found[LISTED:])} | {attempt.chunk for attempt in ended}
    return AttemptList(
        count=len(found) - (len(listed) - len(ended)),
        interrupted=sum(name.endswith(".interrupted") for name in found),
        retried_chunks=len(chunks - {None}),
        listed=ended,
    )


def _is_first_of_node(name: str, recorded: Sequence[str]) -> bool:
    """Return whether a name is that of the only attempt of a node, which every node has."""
    if "attempts/combine/" not in name:
        return False
    position = bisect_left(recorded, name)
    around = recorded[max(0, position - 1) : position + 2]
    prefix = name.rpartition("/")[0]
    return sum(other.rpartition("/")[0] == prefix for other in around) == 1


def _parse(name: str) -> tuple[str, int | None]:
    """Return the step and the chunk of an attempt, from its name within the launch."""
    _, within = split_generation(name)
    _, *step, _ = within.split("/")
    if len(step) == 2:
        return "process", int(step[1])
    return step[0], None


def _read(ledger: Ledger, name: str) -> RecordedAttempt | None:
    generation, within = split_generation(name)
    step, chunk = _parse(name)
    path, _, last = within.rpartition("/")
    number = int(last.partition(".")[0])
    if last.endswith(".interrupted"):
        return RecordedAttempt(step=step, chunk=chunk, generation=generation, number=number, state="interrupted")
    of_generation = Ledger(ledger.store, ledger.job_id, ledger.launch_id, generation)
    attempt = of_generation.attempt(path.removeprefix("attempts/"), number)
    return _describe(attempt, step, chunk, generation, number) if attempt is not None else None


def _describe(attempt: Attempt, step: str, chunk: int | None, generation: int, number: int) -> RecordedAttempt:
    failure = attempt.failed
    return RecordedAttempt(
        step=failure.step if failure is not None else step,
        chunk=chunk,
        generation=generation,
        number=number,
        state=str(AttemptState(attempt.state)),
        at=attempt.at,
        error=failure.error if failure is not None else "",
        reason=failure.reason if failure is not None else "",
        traceback_text=failure.traceback_text if failure is not None else "",
    )
