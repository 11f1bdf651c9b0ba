"""The ports of an engine: what it must provide, and what it tells a stage about a message.

An engine carries messages and calls stages; see `docs/how-to/engine.md`, and `fanout.engines.stub` for a small one.

- It provides a `Dispatcher`, which sends messages for the steps.
- For each message that arrives it calls `run_setup`, `run_process` or `run_join` of `fanout.stages`, with a `Delivery`.
- It may provide a `CompletionListener`, so that a waiting caller need not poll.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .records.chunk_ref import ChunkRef
from .records.models import Intent


class Dispatcher(Protocol):
    """The sender of messages to workers, which an engine provides.

    Each method may be called again with the same arguments after a crash, because the receivers are idempotent. Each
    raises `BrokerUnavailable` if it can't send the message.

    Attributes:
        batch_chunks: Most chunks that one message carries, if they are small.
    """

    batch_chunks: int

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        """Send the message of setup again.

        Args:
            job_id: The job.
            intent: Its intent.
            generation: Its generation. The message must carry it.
            resent: Whether a worker has received an earlier message. The message must carry it.
        """

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        """Send the messages of chunks to process. Returns once the broker has them.

        Args:
            intent: The intent of their job.
            refs: The chunks.
        """

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        """Send the message of join. If the job has an outcome, join only delivers it.

        Args:
            job_id: The job.
            intent: Its intent. The message must carry its launch id.
            continuation: The engine's message after the join, if setup has written it.
            resent: Whether an earlier join seems dead, so that its claim does not count.
            generation: The job's generation. The message must carry it.
        """


class CompletionListener(Protocol):
    """The wait of a caller for the end of a job.

    Attributes:
        notifies: Whether the engine notifies it, so that the caller need not poll the store often.
    """

    notifies: bool

    def wait(self, timeout_s: float) -> None:
        """Wait until the job may have ended, at most `timeout_s`."""


class PollingOnly:
    """The completion listener of an engine without notifications."""

    notifies = False

    def wait(self, timeout_s: float) -> None:
        """Sleep for `timeout_s`."""
        time.sleep(timeout_s)


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
