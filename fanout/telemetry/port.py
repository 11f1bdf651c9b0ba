"""What stages tell an observer of this process: a stage that runs, a job that is launched or ends."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from storage import ObjectStore

from ..external.context import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One run of a stage, for one message.

    Attributes:
        job_id: The job.
        task: Name of its task.
        step: `setup`, `process`, `combine` or `join`.
        generation: The job's generation.
        attempt: Number of the attempt, from 1; for a batch, of the messages of its first chunk.
        trace: The trace that the job's intent carries; empty for the one of the job's id.
        chunk: Index of the first chunk, for process.
        chunks: Number of chunks of the message, for process.
        message: Id of the message; empty if the engine gives it none.
        arrivals: How the message came, if it is not the first one for its step: `redelivered`, `resent`, `resumed`,
            `requeued`.
    """

    job_id: str
    task: str
    step: str
    generation: int = 0
    attempt: int = 1
    trace: str = ""
    chunk: int | None = None
    chunks: int = 1
    message: str = ""
    arrivals: tuple[str, ...] = ()


class Telemetry(Protocol):
    """An observer of the jobs of this process. Each of its methods is quick, and raises nothing of its own."""

    def launching(self, job_id: str, task: str) -> AbstractContextManager[None]:
        """Observe the launch of a job within a block."""

    def current_trace(self, job_id: str) -> str:
        """Return the trace around this call in W3C's form, for the job's intent; empty for the one of the job's id."""

    def running(self, stage: Stage, tally: Tally) -> AbstractContextManager[None]:
        """Observe a stage that runs within a block. An error that leaves the block is noted.

        Args:
            stage: The run.
            tally: What the run has done; read at the end of the block.
        """

    def count_job(self, task: str, status: str) -> None:
        """Count a job that this process has ended."""

    def observe_store(self, store: ObjectStore) -> ObjectStore:
        """Return the store, with its requests and bytes observed."""


class NoTelemetry:
    """The telemetry of a process without OpenTelemetry."""

    def launching(self, job_id: str, task: str) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def current_trace(self, job_id: str) -> str:
        """Return the empty string."""
        return ""

    def running(self, stage: Stage, tally: Tally) -> AbstractContextManager[None]:
        """Do nothing."""
        return nullcontext()

    def count_job(self, task: str, status: str) -> None:
        """Do nothing."""

    def observe_store(self, store: ObjectStore) -> ObjectStore:
        """Return the store."""
        return store
