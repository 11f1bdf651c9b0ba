"""The barrier before the join: whether all chunks of a job have results.

Results lie in the order of chunks. A worker that has finished a chunk looks from the first chunk on that it has not yet
seen done: if that has no result, the job is not complete, whatever comes after it. The manifest alone says how many
chunks there are. A listing after a write shows at least that write, so of several workers that finish at once the last
one sees all results, and starts the join.

If the task has a `combine`, results lie in groups of 32, and the worker combines a full group into a node. Nodes lie in
groups of 32 on their own level, up to the first level of at most 32 nodes, whose values the join is given. A check of
the whole job tells which nodes are missing, and `stages.combine` makes them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge

from ..records.batch import Landed, ResultEntry
from ..records.keys import GROUP_WIDTH, combine_step
from ..records.ledger import Ledger
from ..records.models import Manifest

NEAR_END = 4
"""Number of chunks at the end of a job, in the order of sending, after which a worker checks at once."""


def groups_of(chunks: int) -> int:
    """Return the number of groups of `chunks` chunks, or of so many nodes."""
    return -(-chunks // GROUP_WIDTH)


def width_of(group: int, chunks: int) -> int:
    """Return the number of chunks in a group, of `chunks` in all; or of nodes in a group of their level."""
    return min(GROUP_WIDTH, chunks - group * GROUP_WIDTH)


def is_near_end(chunk: int, chunks: int) -> bool:
    """Return whether a chunk is among the last of a job, so that the job is probably complete when it is done."""
    return chunk >= chunks - NEAR_END


def levels_of(chunks: int) -> list[int]:
    """Return the number of entries per level of the tree: chunks, the nodes above them, and so on, to at most 32."""
    levels = [chunks]
    while levels[-1] > GROUP_WIDTH:
        levels.append(groups_of(levels[-1]))
    return levels


def find_first_missing(ledger: Ledger, setup_id: str, chunks: int, *, done: int) -> int:
    """Return the index of the first chunk without a result; `chunks` if there is none.

    One listing of the group of chunk `done`. If that group is full, one more listing for every 1,000 objects from there
    up to the first missing chunk.

    Args:
        ledger: The job's records.
        setup_id: Setup id of the chunks.
        chunks: Number of chunks of the job.
        done: A chunk before which every chunk is known to have a result.
    """
    group = done // GROUP_WIDTH
    missing = _follow(ledger.result_entries(setup_id, group=group), done)
    if missing < min((group + 1) * GROUP_WIDTH, chunks):
        return missing
    return _follow(ledger.result_entries(setup_id, first_chunk=missing), missing) if missing < chunks else chunks


def _follow(entries: Iterable[ResultEntry], done: int) -> int:
    """Return the first chunk from `done` on that none of the entries holds."""
    for entry in entries:
        if entry.index > done:
            break
        done = max(done, entry.index + entry.count)
    return done


@dataclass(frozen=True, slots=True)
class Completion:
    """The results that a job has, and those that it lacks.

    Memory: see `Landed`, four bytes for each missing chunk, and about 200 bytes for each uncombined node.

    Attributes:
        landed: The chunks that have a result.
        missing: The chunks without a result, ascending.
        uncombined: One chunk, which has a result, below each missing node that could be combined, ascending -> the step
            that combines it.
        level: The level of the tree whose values the join is given; 0 for the results of the chunks.
        top: The existing entries of that level.
    """

    landed: Landed
    missing: Sequence[int]
    uncombined: Mapping[int, str]
    level: int
    top: Landed

    @property
    def due(self) -> Sequence[int]:
        """Chunks that must be sent, ascending: the missing ones, and those below uncombined nodes. None if complete."""
        return array("I", merge(self.missing, self.uncombined)) if self.uncombined else self.missing


def completion_of(ledger: Ledger, manifest: Manifest, *, combines: bool) -> Completion:
    """Return which results the job has in the ledger's generation.

    One listing per 1,000 objects that hold results; with `combine`, one more per 1,000 nodes.

    Args:
        ledger: The job's records.
        manifest: The job's manifest.
        combines: Whether the job's task has a `combine`.
    """
    if not manifest.chunks:
        return Completion(Landed(), (), {}, 0, Landed())
    if combines:
        return _completion_of_tree(ledger, manifest)
    landed = ledger.landed(manifest.setup_id)
    return Completion(landed, landed.missing(manifest.chunks), {}, 0, landed)


def _completion_of_tree(ledger: Ledger, manifest: Manifest) -> Completion:
    setup_id, levels = manifest.setup_id, levels_of(manifest.chunks)
    # Nodes before results, so that items which the results show as failed are missing from the nodes, too.
    nodes = ledger.tree(setup_id) if len(levels) > 1 else {}
    landed = ledger.landed(setup_id)
    uncombined: dict[int, str] = {}
    below = landed
    for level in range(1, len(levels)):
        existing = nodes.get(level, Landed())
        for node in range(levels[level]):
            first = node * GROUP_WIDTH
            if node not in existing and all(
                entry in below for entry in range(first, first + width_of(node, levels[level - 1]))
            ):
                uncombined[node * GROUP_WIDTH**level] = combine_step(setup_id, level, node)
        below = existing
    top = len(levels) - 1
    missing, uncombined = landed.missing(manifest.chunks), dict(sorted(uncombined.items()))
    return Completion(landed, missing, uncombined, top, nodes.get(top, Landed()) if top else landed)
