"""A dispatcher without a broker: it keeps messages until a test runs them, in any order, once or several times."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from fanout.records.chunk_ref import ChunkRef
from fanout.records.keys import new_token
from fanout.records.models import Intent, Note, Outcome
from fanout.runtime import Runtime
from fanout.stages import run_join, run_process, run_setup
from fanout.stages.delivery import Delivery


class WorkerDied(BaseException):
    """Raised by a step to simulate a killed worker; `except Exception` does not catch it."""


@dataclass(frozen=True, slots=True)
class Setup:
    """A message that asks for the setup of a job."""

    job_id: str
    launch_id: str | None = None
    resent: bool = False
    redelivered: bool = False
    generation: int = 0

    def run(self, runtime: Runtime) -> None:
        run_setup(
            runtime,
            self.job_id,
            launch_id=self.launch_id,
            generation=self.generation,
            delivery=Delivery(redelivered=self.redelivered, resent=self.resent),
        )


@dataclass(frozen=True, slots=True)
class Chunk:
    """A message that asks for the processing of a chunk."""

    task: str
    ref: ChunkRef
    redelivered: bool = False

    @property
    def job_id(self) -> str:
        return self.ref.job_id

    @property
    def launch_id(self) -> str:
        return self.ref.launch_id

    @property
    def generation(self) -> int:
        return self.ref.generation

    def run(self, runtime: Runtime) -> None:
        run_process(runtime, self.ref, Delivery(redelivered=self.redelivered))


@dataclass(frozen=True, slots=True)
class Join:
    """A message that asks for the join of a job."""

    job_id: str
    launch_id: str | None
    task: str
    continuation: str | None = None
    resent: bool = False
    redelivered: bool = False
    generation: int = 0

    def run(self, runtime: Runtime) -> Outcome | None:
        return run_join(
            runtime,
            self.job_id,
            launch_id=self.launch_id,
            generation=self.generation,
            delivery=Delivery(redelivered=self.redelivered, resent=self.resent),
        )


Message = Setup | Chunk | Join


class RecordingDispatcher:
    """A dispatcher that keeps every message until a test runs it.

    A chunk's ref is encoded as JSON and decoded again, as in a broker.

    Args:
        copies: Number of times that each message arrives.
        batch_chunks: Most chunks of a batch.

    Attributes:
        sent: All messages so far, in the order in which they were sent.
        waiting: Messages that no worker has taken yet.
        deliveries: The outcomes that joins returned for delivery.
    """

    def __init__(self, *, copies: int = 1, batch_chunks: int = 1) -> None:
        self.copies = copies
        self.batch_chunks = batch_chunks
        self.sent: list[Message] = []
        self.waiting: list[Message] = []
        self.deliveries: list[Outcome] = []

    @property
    def setups(self) -> list[Setup]:
        return [message for message in self.sent if isinstance(message, Setup)]

    @property
    def chunks(self) -> list[Chunk]:
        return [message for message in self.sent if isinstance(message, Chunk)]

    @property
    def joins(self) -> list[Join]:
        return [message for message in self.sent if isinstance(message, Join)]

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        self._send(Setup(job_id, intent.launch_id, generation=generation, resent=resent))

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        for ref in refs:
            self._send(Chunk(intent.task, ChunkRef.from_row(json.loads(json.dumps(ref.to_row())))))

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        self._send(Join(job_id, intent.launch_id, intent.task, continuation, resent, generation=generation))

    def lose(self, kind: type[Message] | None = None) -> None:
        """Drop all waiting messages, or those of one type."""
        self.waiting = [message for message in self.waiting if kind is not None and not isinstance(message, kind)]

    def deliver(self, runtime: Runtime, at: int = 0) -> Outcome | None:
        """Run one waiting message. If its worker dies, or the store fails, it waits again as a redelivered message.

        Raises:
            Exception: The error that the stage raised.
        """
        message = self.waiting.pop(at)
        try:
            outcome = message.run(runtime)
        except BaseException as error:
            self.waiting.append(replace(message, redelivered=True))
            if isinstance(error, WorkerDied):
                return None
            raise
        if outcome is not None:
            self.deliveries.append(outcome)
            runtime.job(message.job_id, message.launch_id, message.generation).ledger.write_delivered(
                Note(by=new_token())
            )
        return outcome

    def drain(
        self,
        runtime: Runtime,
        *,
        order: random.Random | None = None,
        until: Callable[[], bool] = lambda: False,
    ) -> None:
        """Run the waiting messages, and those that they cause, until none waits.

        Args:
            runtime: The worker's runtime.
            order: Picks the next message; without it, the oldest message runs next.
            until: Stops the loop when it returns True.
        """
        while self.waiting and not until():
            self.deliver(runtime, order.randrange(len(self.waiting)) if order else 0)

    def _send(self, message: Message) -> None:
        self.sent.append(message)
        self.waiting.extend([message] * self.copies)
