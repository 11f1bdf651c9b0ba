"""What steps at work say to the watchers of their job, as one caller learns it from one request at a time."""

from __future__ import annotations

from collections.abc import Sequence

from ..external.context import clean_note
from ..records.ledger import Ledger

CANDIDATES = 8
"""Number of chunks, from the first one that is not done, whose notes a caller reads in turn."""


class NoteReader:
    """The note of a step at work. It asks one step after the other, and stays with one that says something.

    Attributes:
        text: What the step says, after its name; empty if no step is known to say anything.
    """

    def __init__(self) -> None:
        self.text = ""
        self._step = ""
        """The step whose note that is; empty for none."""
        self._turn = 0

    def look(self, ledger: Ledger, candidates: Sequence[tuple[str, str]]) -> None:
        """Ask one step for its note. One request; none without candidates.

        Args:
            ledger: The job's records.
            candidates: Name of each step that may be at work, for its key, and for people.
        """
        self.forget_unless(candidates)
        if not candidates:
            return
        known = next((each for each in candidates if each[0] == self._step), None)
        step, name = known or candidates[self._turn % len(candidates)]
        self._turn += 1
        text = clean_note(ledger.heartbeat_text(step))
        self._step, self.text = (step, f"{name}: {text}") if text else ("", "")

    def forget_unless(self, candidates: Sequence[tuple[str, str]]) -> None:
        """Forget the note of a step that is not among the candidates any more, because it has ended. No request."""
        if self._step not in (step for step, _ in candidates):
            self._step = self.text = ""
