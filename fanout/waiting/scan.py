"""Which chunks of a job are done, as one caller learns it from one page of a listing at a time."""

from __future__ import annotations

from ..records.batch import ResultEntry
from ..records.ledger import Ledger
from ..records.models import Manifest


class ResultScan:
    """The chunks of a job that one caller has seen done. It passes over those when it lists.

    Its pages go round: from the first chunk that is not done to the last result, and again. Memory: a byte per chunk.

    Args:
        manifest: The job's manifest.
        read_shares: Whether each chunk that is done must be seen, at the price of a request for some batches; see
            `ResultLedger.result_page`.

    Attributes:
        done: Number of chunks seen done.
        items_failed: Number of their items that failed.
        at_end: Whether the last page ended a round, so that the next one begins anew.
        has_gone_round: Whether a round has ended, so that no result of before it was missed.
    """

    def __init__(self, manifest: Manifest, *, read_shares: bool) -> None:
        self._setup_id = manifest.setup_id
        self._read_shares = read_shares
        self._seen = bytearray(manifest.chunks)
        self._next = 0
        self.done = 0
        self.items_failed = 0
        self.at_end = self.has_gone_round = False

    @property
    def is_complete(self) -> bool:
        """Whether all chunks were seen done."""
        return self.done == len(self._seen)

    @property
    def setup_id(self) -> str:
        """Setup id of the chunks."""
        return self._setup_id

    def find_missing(self, count: int) -> list[int]:
        """Return the indices of the first chunks that were not seen done, at most so many. No request."""
        missing: list[int] = []
        while len(missing) < count and (chunk := self._seen.find(0, missing[-1] + 1 if missing else 0)) >= 0:
            missing.append(chunk)
        return missing

    def advance(self, ledger: Ledger) -> list[ResultEntry]:
        """Return the objects in the next page that were not seen before. One request; see `ResultLedger.result_page`.

        Args:
            ledger: The job's records.
        """
        page = ledger.result_page(self._setup_id, first_chunk=self._next, read_shares=self._read_shares)
        new = [entry for entry in page.entries if not self._seen[entry.index]]
        for entry in new:
            self._seen[entry.index : entry.index + entry.count] = b"\1" * entry.count
            self.done += entry.count
            self.items_failed += entry.failed
        following = -1 if page.next_chunk is None else self._seen.find(0, page.next_chunk)
        self.at_end = following < 0
        self.has_gone_round |= self.at_end
        self._next = max(self._seen.find(0), 0) if self.at_end else following
        return new
