"""A delivery of a message to a stage."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Earlier messages for the same step, and earlier runs for this message, as far as the worker knows of them.

    Attributes:
        message: The message's own id, which all of its deliveries share; empty if the engine gives it none.
        redelivered: The broker has delivered this message before: an earlier run died, or never began.
        resent: A sweep sent the message, because it believes an earlier message, or the run for it, to be lost.
        resumed: An outage of the store or the broker interrupted an earlier run, which was not to blame.
        requeued: A worker that was told to shut down sent the message again.
        overran_s: The time limit at which an earlier run was stopped, in seconds; None if none was.
    """

    message: str = ""
    redelivered: bool = False
    resent: bool = False
    resumed: bool = False
    requeued: bool = False
    overran_s: float | None = None

    @property
    def is_first(self) -> bool:
        """Whether no earlier message for the step, and no earlier run for this one, is known."""
        return not (self.is_lost or self.goes_on or self.resent)

    @property
    def is_lost(self) -> bool:
        """Whether an earlier run for this message died, or was stopped at a time limit."""
        return self.redelivered or self.overran_s is not None

    @property
    def is_holder_gone(self) -> bool:
        """Whether the run that may hold the join's claim for this message is over."""
        return self.is_lost or self.requeued

    @property
    def goes_on(self) -> bool:
        """Whether an earlier run ended without being to blame, so that this one goes on as the same attempt."""
        return self.resumed or self.requeued

    def may_follow(self, message: str) -> bool:
        """Return whether a run for a message may have been an earlier run for this one.

        Args:
            message: The id of the other run's message; empty if unknown.
        """
        return not self.message or message in ("", self.message)


FIRST = Delivery()
"""The first delivery of the first message for a step."""
