"""The right to run the join, or to deliver an outcome that stands: one worker at a time has it.

Claims are numbered and write-once. Whoever takes over from a holder that is gone makes the next one, so that of
several who try one succeeds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from storage import StorageError

from ..errors import is_transient
from ..records.ledger import Ledger
from ..records.models import Note


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to bring the job to its outcome.

    Attributes:
        number: How many claims were made before.
        lost: Whether an earlier holder is believed dead, and that is not on record; then it may have run the join.
    """

    number: int
    lost: bool = False

    @contextmanager
    def held(self, ledger: Ledger, *, by: str) -> Iterator[None]:
        """Within it, a holder that the store fails is put on record as put off, if the store takes that.

        Args:
            ledger: The job's records.
            by: Token of the holder.
        """
        try:
            yield
        except Exception as error:
            if is_transient(error):
                self.interrupted(ledger, by=by)
            raise

    def interrupted(self, ledger: Ledger, *, by: str) -> None:
        """Put on record that the store failed the holder, so that whoever takes over does not believe it dead."""
        if self.lost:
            # The next one would not learn that an earlier holder died.
            return
        with suppress(StorageError):
            ledger.write_claim_interrupted(self.number, Note(by=by))


def claim_join(
    ledger: Ledger,
    *,
    token: str,
    resent: bool,
    gone: bool,
    held: Collection[str],
    stall_s: float,
    now: Callable[[], float],
) -> Claim | None:
    """Claim the join, if nobody has or if its holder is gone; None if it is somebody else's.

    One request where nobody has claimed it before.

    Args:
        ledger: The job's records.
        token: Who claims; another for each run.
        resent: Whether a sweep believes the holder dead. Believed if it gave no sign of life for `stall_s`, since
            what the sweep saw may be long ago.
        gone: Whether the one that had the message before is gone.
        held: Tokens of earlier runs for this message that the store failed: their claim is ours.
        stall_s: Seconds without a sign of life after which a holder may be believed dead.
        now: Gives the store's time.
    """
    if _taken(ledger, Claim(0), token):
        return Claim(0)
    if not (resent or gone or held):
        return None
    last = ledger.last_claim()
    if last is None:
        # The job has just been removed.
        return None
    ours = last.by in held
    if not ours and not gone:
        alive_at = max(last.made_at, ledger.last_heartbeat("join") or 0.0)
        if not resent or now() - alive_at < stall_s:
            return None
    claim = Claim(last.number + 1, lost=not ours and not last.interrupted)
    return claim if _taken(ledger, claim, token) else None


def _taken(ledger: Ledger, claim: Claim, token: str) -> bool:
    """Make the claim; False if somebody else has."""
    note = Note(by=token)
    try:
        return ledger.claim(claim.number, note)
    except StorageError:
        with suppress(StorageError):
            # The answer may have been lost, and the claim may stand.
            if ledger.claim(claim.number, note):
                claim.interrupted(ledger, by=token)
        raise
