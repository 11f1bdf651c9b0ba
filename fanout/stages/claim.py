"""The right to run the join, or to deliver an outcome that stands: one worker at a time has it.

Claims are numbered and write-once. Whoever takes over from a holder that is gone makes the next one, so that of
several who try one succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass

from ..ledger import Ledger
from ..records import Note


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to bring the job to its outcome.

    Attributes:
        number: How many claims were made before.
        lost: Whether an earlier holder is believed dead; then it may have run the join.
    """

    number: int
    lost: bool = False


def claim_join(
    ledger: Ledger, *, token: str, again: bool, redelivered: bool, held: Collection[str], stall_s: float
) -> Claim | None:
    """Claim the join, if nobody has or if its holder is gone; None if it is somebody else's.

    One request where nobody has claimed it before.

    Args:
        ledger: The job's records.
        token: Who claims; another for each run.
        again: Whether a sweep believes the holder dead. Believed if it gave no sign of life for `stall_s`, since
            what the sweep saw may be long ago.
        redelivered: Whether the broker has delivered the message before; then its first receiver is gone.
        held: Tokens of earlier runs for this message that the store failed: their claim is ours.
        stall_s: Seconds without a sign of life after which a holder may be believed dead.
    """
    if ledger.claim(0, Note(by=token)):
        return Claim(0)
    if not (again or redelivered or held):
        return None
    last = ledger.last_claim()
    if last is None:
        # The job has just been removed.
        return None
    number, note, claimed_at = last
    ours = note.by in held
    if not ours and not redelivered:
        alive_at = max(claimed_at, ledger.last_beat("join") or 0.0)
        if not again or time.time() - alive_at < stall_s:
            return None
    return Claim(number + 1, lost=not ours) if ledger.claim(number + 1, Note(by=token)) else None
