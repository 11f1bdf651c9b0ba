"""The claim of a join: the right to run it, or to deliver an existing outcome. One worker at a time has it.

Claims are numbered and write-once. A worker that takes over from a lost holder makes the next claim, so that of several
workers that try one succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from storage import StorageError

from ..abc import Delivery
from ..errors import is_transient
from ..records.ledger import Ledger
from ..records.models import Note


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to bring the job to its outcome.

    Attributes:
        number: How many claims were made before.
        lost: Whether an earlier holder is believed dead without a record of that. It may have run the join.
    """

    number: int
    lost: bool = False

    @contextmanager
    def record_if_interrupted(self, ledger: Ledger, *, by: str) -> Iterator[None]:
        """Record that the holder was interrupted if store or broker fail within the block.

        Args:
            ledger: The job's records.
            by: Token of the holder.
        """
        try:
            yield
        except Exception as error:
            if is_transient(error):
                self.record_interruption(ledger, by=by)
            raise

    def record_interruption(self, ledger: Ledger, *, by: str) -> None:
        """Record that the holder was interrupted, so that the next one does not believe it dead.

        Nothing is recorded after a `lost` holder, for the next one would not learn of that. A store that takes no
        record is ignored.
        """
        if self.lost:
            return
        with suppress(StorageError):
            ledger.write_claim_interrupted(self.number, Note(by=by))


def claim_join(
    ledger: Ledger,
    *,
    token: str,
    delivery: Delivery,
    held: Collection[str],
    stall_s: float,
    now: Callable[[], float],
) -> Claim | None:
    """Claim the join if it is unclaimed, or if its holder is gone. Returns None if another worker has it.

    One request for the first claim of a job.

    Args:
        ledger: The job's records.
        token: Token of this run.
        delivery: Earlier runs for the message, as far as they are known. If a sweep sent it, it believes the holder
            dead. That counts only if the holder wrote no heartbeat for `stall_s`, for the message may be old.
        held: Tokens of interrupted runs for this message. This run takes over their claim.
        stall_s: Seconds without a heartbeat after which a holder may be believed dead.
        now: Returns the store's time, in seconds since the epoch.
    """
    note = Note(by=token, message=delivery.message)
    if _make_claim(ledger, Claim(0), note):
        return Claim(0)
    if not (delivery.resent or delivery.is_holder_gone or held):
        return None
    last = ledger.last_claim()
    if last is None:
        # The job has just been removed.
        return None
    is_ours = last.by in held
    # A run for another message may be alive, although the run for this one is gone.
    is_gone = delivery.is_holder_gone and delivery.may_follow(last.message)
    if not (is_ours or is_gone):
        alive_at = max(last.made_at, ledger.last_heartbeat("join") or 0.0)
        if not delivery.resent or now() - alive_at < stall_s:
            return None
    claim = Claim(last.number + 1, lost=not is_ours and not last.interrupted)
    return claim if _make_claim(ledger, claim, note) else None


def _make_claim(ledger: Ledger, claim: Claim, note: Note) -> bool:
    """Write the claim. Returns False if another worker has made it."""
    try:
        return ledger.claim(claim.number, note)
    except StorageError:
        with suppress(StorageError):
            # The store may have written the claim although its answer was lost.
            if ledger.claim(claim.number, note):
                claim.record_interruption(ledger, by=note.by)
        raise
