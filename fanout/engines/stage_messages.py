"""Messages as values, for engines that carry Python objects: each calls the stage that it asks for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from ..abc import Delivery
from ..records.chunk_ref import ChunkRef
from ..records.ids import new_token
from ..records.models import Outcome
from ..runtime import Runtime
from ..stages import run_join, run_process, run_setup


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Earlier deliveries of a message, as far as its engine knows of them.

    Attributes:
        message_id: Id of the message, the same at each delivery; empty if the engine gives it none.
        redelivered: Whether an earlier run for the message died, or never began.
        resumed: Whether an outage of store or engine interrupted an earlier run.
    """

    message_id: str = ""
    redelivered: bool = False
    resumed: bool = False

    def redeliver(self) -> Self:
        """Return the message as it arrives after the death of a worker."""
        return replace(self, redelivered=True)

    def resume(self) -> Self:
        """Return the message as it runs again after an outage."""
        return replace(self, resumed=True)

    def describe(self, *, resent: bool = False) -> Delivery:
        """Return what a stage needs to know of the earlier deliveries.

        Args:
            resent: Whether a sweep sent the message.
        """
        return Delivery(message=self.message_id, redelivered=self.redelivered, resumed=self.resumed, resent=resent)


@dataclass(frozen=True, slots=True)
class Setup(Received):
    """A message that asks for the setup of a job."""

    job_id: str
    launch_id: str | None = None
    resent: bool = False
    generation: int = 0
    step = "setup"

    def run(self, runtime: Runtime) -> None:
        """Run setup, as a worker that receives the message does."""
        run_setup(
            runtime,
            self.job_id,
            launch_id=self.launch_id,
            generation=self.generation,
            delivery=self.describe(resent=self.resent),
        )


@dataclass(frozen=True, slots=True)
class Chunk(Received):
    """A message that asks for the processing of a chunk or a batch."""

    task: str
    ref: ChunkRef
    step = "process"

    @property
    def job_id(self) -> str:
        """The job."""
        return self.ref.job_id

    @property
    def launch_id(self) -> str:
        """Its launch."""
        return self.ref.launch_id

    @property
    def generation(self) -> int:
        """Its generation."""
        return self.ref.generation

    def run(self, runtime: Runtime) -> None:
        """Run process on the chunks, as a worker that receives the message does."""
        run_process(runtime, self.ref, self.describe())


@dataclass(frozen=True, slots=True)
class Join(Received):
    """A message that asks for the join of a job."""

    job_id: str
    launch_id: str | None
    task: str
    continuation: str | None = None
    resent: bool = False
    generation: int = 0
    token: str | None = None
    held: tuple[str, ...] = ()
    step = "join"

    def take(self) -> Join:
        """Return the message with a token for the run that begins, so that `resume` can take over its claim."""
        return replace(self, token=new_token())

    def resume(self) -> Join:
        """Return the message as it runs again after an outage; it takes over the claims of its earlier runs."""
        held = (*self.held, self.token) if self.token is not None else self.held
        return replace(self, resumed=True, token=new_token(), held=held)

    def run(self, runtime: Runtime) -> Outcome | None:
        """Run join, as a worker that receives the message does; return the outcome that is to be delivered."""
        return run_join(
            runtime,
            self.job_id,
            launch_id=self.launch_id,
            generation=self.generation,
            delivery=self.describe(resent=self.resent),
            token=self.token,
            held=self.held,
        )


Message = Setup | Chunk | Join
