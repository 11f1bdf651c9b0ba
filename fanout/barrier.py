"""Is this job complete?

Results lie in groups of 32. Whoever finishes a chunk lists its own group; whoever sees a group full marks it; whoever
sees every group marked starts the join. The manifest alone says how many chunks there are. Listing after one's own
write shows at least that write, so of several that finish together the last one sees them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .keys import GROUP_WIDTH
from .ledger import Ledger
from .records import Manifest, Note


def groups_of(chunks: int) -> int:
    """Number of groups that hold `chunks` chunks."""
    return -(-chunks // GROUP_WIDTH)


def width_of(group: int, chunks: int) -> int:
    """Number of chunks in a group, of `chunks` in all."""
    return min(GROUP_WIDTH, chunks - group * GROUP_WIDTH)


def complete_after(
    ledger: Ledger, attempt: str, chunk: int, manifest: Callable[[], Manifest | None], *, by: str
) -> bool:
    """Whether the job is complete, as far as the worker that just finished `chunk` can tell.

    False while there is no manifest: whoever writes that looks at the whole job afterwards, and sees this chunk. Then
    one listing of the chunk's group, and where that is full and not the only one, a mark and a listing of the marks.

    Args:
        ledger: The job's records.
        attempt: The setup attempt that the chunk belongs to.
        chunk: Index of the chunk whose result was just written.
        manifest: Gives the manifest, or None while there is none.
        by: Token of the caller, for the mark.
    """
    known = manifest()
    if known is None or known.attempt != attempt:
        return False
    group = chunk // GROUP_WIDTH
    if len(ledger.finished(attempt, group)) < width_of(group, known.chunks):
        return False
    groups = groups_of(known.chunks)
    if groups == 1:
        return True
    ledger.write_mark(attempt, group, Note(by=by))
    return len(ledger.marked(attempt)) >= groups


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a job is.

    Attributes:
        missing: Chunks without a result, ascending; none of them means that the job is complete.
        landed: The other chunks -> how many items of each failed.
    """

    missing: list[int]
    landed: dict[int, int]


def missing_chunks(ledger: Ledger, manifest: Manifest, *, by: str) -> list[int]:
    """Chunks without a result, ascending; see `standing_of`."""
    return standing_of(ledger, manifest, by=by).missing


def standing_of(ledger: Ledger, manifest: Manifest, *, by: str) -> Standing:
    """How far the job is, in the ledger's round.

    Marks the groups that are full but not marked: those that were finished before there was a manifest. One listing a
    1,000 chunks, and where there are several groups one or two of marks.
    """
    if not manifest.chunks:
        return Standing([], {})
    landed = ledger.landed(manifest.attempt)
    missing = [chunk for chunk in range(manifest.chunks) if chunk not in landed]
    groups = groups_of(manifest.chunks)
    if not missing or groups == 1:
        return Standing(missing, landed)
    full = set(range(groups)) - {chunk // GROUP_WIDTH for chunk in missing} - ledger.marked(manifest.attempt)
    for group in full:
        ledger.write_mark(manifest.attempt, group, Note(by=by))
    # The others may have marked theirs between our listing and our marks; then nobody else would notice.
    if full and len(ledger.marked(manifest.attempt)) >= groups:
        return Standing([], ledger.landed(manifest.attempt))
    return Standing(missing, landed)
