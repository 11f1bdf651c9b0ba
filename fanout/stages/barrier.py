"""The barrier before the join: whether all chunks of a job have results.

Results lie in groups of 32. A worker that finishes a chunk lists the results of the chunk's group, at once or once for
several chunks. If the group is full, it writes the group-complete marker and lists the markers. If all groups have one,
it starts the join. The manifest alone says how many chunks there are. A listing after a write shows at least that
write, so of several workers that finish at once the last one sees all results.

If the task has a `combine`, the worker combines a full group into a node instead of writing a marker. Nodes lie in
groups of 32 on their own level, up to the first level of at most 32 nodes, whose values the join is given. A check of
the whole job tells which nodes are missing, and `stages.combine` makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..records.keys import GROUP_WIDTH, combine_step, process_step
from ..records.ledger import Ledger
from ..records.models import Manifest, Note

NEAR_END = 4
"""Number of chunks at the end of a group, in the order of sending, after which a worker checks the group at once."""


def groups_of(chunks: int) -> int:
    """Return the number of groups of `chunks` chunks, or of so many nodes."""
    return -(-chunks // GROUP_WIDTH)


def width_of(group: int, chunks: int) -> int:
    """Return the number of chunks in a group, of `chunks` in all; or of nodes in a group of their level."""
    return min(GROUP_WIDTH, chunks - group * GROUP_WIDTH)


def is_near_end(chunk: int, chunks: int) -> bool:
    """Return whether a chunk is among the last of its group, so that the group is probably full when it is done."""
    group = chunk // GROUP_WIDTH
    return chunk - group * GROUP_WIDTH >= width_of(group, chunks) - NEAR_END


def levels_of(chunks: int) -> list[int]:
    """Return the number of entries per level of the tree: chunks, the nodes above them, and so on, to at most 32."""
    levels = [chunks]
    while levels[-1] > GROUP_WIDTH:
        levels.append(groups_of(levels[-1]))
    return levels


def complete_after(
    ledger: Ledger, setup_id: str, chunk: int, manifest: Callable[[], Manifest | None], *, by: str
) -> bool:
    """Return whether the job is complete after a chunk, and write the group-complete marker if its group is full.

    False while there is no manifest: setup checks the whole job after it has written the manifest, and sees this chunk.
    Idempotent. One listing of the chunk's group. If the group is full and not the only one, one request to write the
    marker and one listing of the markers.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunk.
        chunk: Index of the chunk whose result was just written.
        manifest: Returns the manifest, or None while there is none.
        by: Token of the worker, for the marker.
    """
    current = manifest()
    if current is None or current.setup_id != setup_id:
        return False
    group = chunk // GROUP_WIDTH
    if len(ledger.finished_chunks(setup_id, group)) < width_of(group, current.chunks):
        return False
    groups = groups_of(current.chunks)
    if groups == 1:
        return True
    ledger.write_group_complete(setup_id, group, Note(by=by))
    return len(ledger.complete_groups(setup_id)) >= groups


@dataclass(frozen=True, slots=True)
class Completion:
    """The results that a job has, and those that it lacks.

    Attributes:
        landed: Index of each chunk that has a result -> number of its items that failed.
        due: Index of each chunk that must be sent, ascending -> the missing step: process of that chunk or, if it has a
            result, combine of a node above it. Empty if the job is complete.
        level: The level of the tree whose values the join is given; 0 for the results of the chunks.
        top: Index of each existing entry of that level -> number of items below it that failed.
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
        """One chunk, which has a result, below each missing node that could be combined."""
        return [chunk for chunk in self.due if chunk in self.landed]


def completion_of(ledger: Ledger, manifest: Manifest, *, combines: bool, by: str) -> Completion:
    """Return which results the job has in the ledger's generation, and write missing group-complete markers.

    A full group lacks its marker if it was finished before there was a manifest. Idempotent. One listing per 1,000
    chunks. If there are several groups, one or two listings of markers and one request for each marker; with `combine`,
    one listing per 1,000 nodes instead.

    Args:
        ledger: The job's records.
        manifest: The job's manifest.
        combines: Whether the job's task has a `combine`.
        by: Token of the worker, for the markers.
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
        # Workers may have marked the other groups after this listing. Then no worker would notice the end.
        if full and len(ledger.complete_groups(manifest.setup_id)) >= groups:
            landed, missing = ledger.landed(manifest.setup_id), []
    due = {chunk: process_step(manifest.setup_id, chunk) for chunk in missing}
    return Completion(landed, due, 0, landed)


def _completion_of_tree(ledger: Ledger, manifest: Manifest) -> Completion:
    setup_id, levels = manifest.setup_id, levels_of(manifest.chunks)
    # Nodes before results, so that items which the results show as failed are missing from the nodes, too.
    nodes = ledger.tree(setup_id) if len(levels) > 1 else {}
    landed = ledger.landed(setup_id)
    due = {chunk: process_step(setup_id, chunk) for chunk in range(manifest.chunks) if chunk not in landed}
    below: Mapping[int, int] = landed
    for level in range(1, len(levels)):
        existing = nodes.get(level, {})
        for node in range(levels[level]):
            first = node * GROUP_WIDTH
            if node not in existing and all(
                entry in below for entry in range(first, first + width_of(node, levels[level - 1]))
            ):
                due[node * GROUP_WIDTH**level] = combine_step(setup_id, level, node)
        below = existing
    top = len(levels) - 1
    return Completion(landed, dict(sorted(due.items())), top, nodes.get(top, {}) if top else landed)
