"""Is this job complete?

Results lie in groups of 32. Whoever finishes a chunk lists its own group, at once or when it has finished others of
the group too; whoever sees a group full marks it; whoever sees every group marked starts the join. The manifest alone
says how many chunks there are. Listing after one's own write shows at least that write, so of several that finish
together the last one sees them all.

In a job whose task has a `combine`, a full group is not marked but combined into a node; nodes lie in groups of 32 on
their own level, and so on up to the first level of at most 32, whose values the join is given. So what looks at the
whole job tells which nodes are missing, and `stages.climb` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..records.keys import GROUP_WIDTH, combine_step, process_step
from ..records.ledger import Ledger
from ..records.models import Manifest, Note

NEAR_END = 4
"""Chunks at the end of a group, in the order in which they are sent."""


def groups_of(chunks: int) -> int:
    """Number of groups that hold `chunks` chunks, or so many nodes."""
    return -(-chunks // GROUP_WIDTH)


def width_of(group: int, chunks: int) -> int:
    """Number of chunks in a group, of `chunks` in all; or of nodes in a group of their level."""
    return min(GROUP_WIDTH, chunks - group * GROUP_WIDTH)


def is_near_end(chunk: int, chunks: int) -> bool:
    """Whether a chunk is among the last of its group, so that its group is probably full when it is done."""
    group = chunk // GROUP_WIDTH
    return chunk - group * GROUP_WIDTH >= width_of(group, chunks) - NEAR_END


def levels_of(chunks: int) -> list[int]:
    """How many entries each level of the tree has: the chunks, the nodes above them, and so on up to at most 32."""
    levels = [chunks]
    while levels[-1] > GROUP_WIDTH:
        levels.append(groups_of(levels[-1]))
    return levels


def complete_after(
    ledger: Ledger, setup_id: str, chunk: int, manifest: Callable[[], Manifest | None], *, by: str
) -> bool:
    """Whether the job is complete, as far as the worker that just finished `chunk` can tell.

    False while there is no manifest: whoever writes that looks at the whole job afterwards, and sees this chunk. Then
    one listing of the chunk's group, and where that is full and not the only one, a mark and a listing of the marks.

    Args:
        ledger: The job's records.
        setup_id: The setup attempt that the chunk belongs to.
        chunk: Index of the chunk whose result was just written.
        manifest: Gives the manifest, or None while there is none.
        by: Token of the caller, for the mark.
    """
    known = manifest()
    if known is None or known.setup_id != setup_id:
        return False
    group = chunk // GROUP_WIDTH
    if len(ledger.finished_chunks(setup_id, group)) < width_of(group, known.chunks):
        return False
    groups = groups_of(known.chunks)
    if groups == 1:
        return True
    ledger.write_group_complete(setup_id, group, Note(by=by))
    return len(ledger.complete_groups(setup_id)) >= groups


@dataclass(frozen=True, slots=True)
class Completion:
    """How far a job is.

    Attributes:
        landed: The chunks that have a result -> how many items of each failed.
        due: Chunks that must be sent to somebody, ascending, none of them if the job is complete -> the step that is
            missing: process on that chunk, or, where it has a result, a node above it.
        level: The level of the tree whose values join is given; 0 for the results of the chunks.
        top: The entries of that level that there are -> how many items below each failed.
    """

    landed: dict[int, int]
    due: dict[int, str]
    level: int
    top: dict[int, int]

    @property
    def missing(self) -> list[int]:
        """Chunks without a result."""
        return [chunk for chunk in self.due if chunk not in self.landed]

    @property
    def uncombined(self) -> list[int]:
        """One chunk, which has a result, below each node that is missing although all is there that it combines."""
        return [chunk for chunk in self.due if chunk in self.landed]


def completion_of(ledger: Ledger, manifest: Manifest, *, combines: bool, by: str) -> Completion:
    """How far the job is, in the ledger's round.

    One listing a 1,000 chunks, and where there are several groups one or two of marks, or one a 1,000 nodes. Marks the
    groups that are full but not marked: those that were finished before there was a manifest.

    Args:
        ledger: The job's records.
        manifest: What setup made.
        combines: Whether the job's task has a `combine`.
        by: Token of the caller, for the marks.
    """
    if not manifest.chunks:
        return Completion({}, {}, 0, {})
    if combines:
        return _completion_of_tree(ledger, manifest)
    landed = ledger.landed(manifest.setup_id)
    missing = [chunk for chunk in range(manifest.chunks) if chunk not in landed]
    groups = groups_of(manifest.chunks)
    if missing and groups > 1:
        full = (
            set(range(groups)) - {chunk // GROUP_WIDTH for chunk in missing} - ledger.complete_groups(manifest.setup_id)
        )
        for group in full:
            ledger.write_group_complete(manifest.setup_id, group, Note(by=by))
        # The others may have marked theirs between our listing and our marks; then nobody else would notice.
        if full and len(ledger.complete_groups(manifest.setup_id)) >= groups:
            landed, missing = ledger.landed(manifest.setup_id), []
    due = {chunk: process_step(manifest.setup_id, chunk) for chunk in missing}
    return Completion(landed, due, 0, landed)


def _completion_of_tree(ledger: Ledger, manifest: Manifest) -> Completion:
    setup_id, levels = manifest.setup_id, levels_of(manifest.chunks)
    # The nodes first: then whatever has failed by the listing of results is missing from them.
    nodes = ledger.tree(setup_id) if len(levels) > 1 else {}
    landed = ledger.landed(setup_id)
    due = {chunk: process_step(setup_id, chunk) for chunk in range(manifest.chunks) if chunk not in landed}
    below: Mapping[int, int] = landed
    for level in range(1, len(levels)):
        there = nodes.get(level, {})
        for node in range(levels[level]):
            first = node * GROUP_WIDTH
            if node not in there and all(
                entry in below for entry in range(first, first + width_of(node, levels[level - 1]))
            ):
                due[node * GROUP_WIDTH**level] = combine_step(setup_id, level, node)
        below = there
    top = len(levels) - 1
    return Completion(landed, dict(sorted(due.items())), top, nodes.get(top, {}) if top else landed)
