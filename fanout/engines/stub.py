"""The stub engine: it keeps messages in a list until a test delivers them, in any order, once or several times.

Use it to test what a task does when messages are lost or doubled, or when workers die; or as a model of an engine.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from storage import MemoryStore, ObjectStore

from ..config.encryption import encrypt_store
from ..config.settings import Config
from ..declaration.definition import Declaration
from ..job import Job
from ..records.chunk_ref import ChunkRef
from ..records.ids import new_id, new_token
from ..records.keys import GROUP_WIDTH
from ..records.models import Intent, Note, Outcome
from ..runtime import Runtime
from ..stages import run_setup
from ..sweep import Move, sweep
from ..telemetry import Telemetry
from .job_creation import create_job, has_begun
from .stage_messages import Chunk, Join, Message, Setup
from .submission import Submission

__all__ = ["Chunk", "Join", "Message", "Setup", "StubDispatcher", "StubEngine", "WorkerDied"]

IMPATIENT_S = 1e-9
"""The `stall_s` of `StubEngine.sweep`: less than the time between a write and the sweep."""


class WorkerDied(BaseException):
    """The death of a worker, for a step to raise. `except Exception` does not catch it."""


class StubDispatcher:
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

    def __init__(self, *, copies: int = 1, batch_chunks: int = GROUP_WIDTH) -> None:
        self.copies = copies
        self.batch_chunks = batch_chunks
        self.sent: list[Message] = []
        self.waiting: list[Message] = []
        self.deliveries: list[Outcome] = []

    @property
    def setups(self) -> list[Setup]:
        """The messages for setup so far."""
        return [message for message in self.sent if isinstance(message, Setup)]

    @property
    def chunks(self) -> list[Chunk]:
        """The messages for process so far."""
        return [message for message in self.sent if isinstance(message, Chunk)]

    @property
    def joins(self) -> list[Join]:
        """The messages for join so far."""
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

        Args:
            runtime: The worker's runtime.
            at: The message's place among those that wait.

        Returns:
            The outcome, if this was a join that delivers one.

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


class StubEngine:
    """An engine for tests, with a store in memory and without workers: `drain` and `deliver` run the messages.

    Args:
        store: The store of the jobs; a new one in memory if not given.
        copies: Number of times that each message arrives.
        batch_chunks: Most chunks that one message carries.
        telemetry: The observer of stages; that of this process if not given.
        **settings: Fields of `Config`.

    Attributes:
        dispatcher: The messages so far.
    """

    def __init__(
        self,
        *,
        store: ObjectStore | None = None,
        copies: int = 1,
        batch_chunks: int = GROUP_WIDTH,
        telemetry: Telemetry | None = None,
        **settings: Any,
    ) -> None:
        self._telemetry = telemetry
        opened = store if store is not None else MemoryStore()
        self._config = Config(store=opened.url, **settings)
        self._store = encrypt_store(opened, self._config)
        self.dispatcher = StubDispatcher(copies=copies, batch_chunks=batch_chunks)
        self._caller = self.start_process()

    def start_process(self) -> Runtime:
        """Return the runtime of a new process, which has cached nothing."""
        return Runtime(
            self._store,
            self._config,
            self.dispatcher,
            is_stop=lambda error: isinstance(error, KeyboardInterrupt | WorkerDied),
            telemetry=self._telemetry,
        )

    def submit(
        self,
        task: Declaration,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Job[Any]:
        """Launch a job: write its intent and send the message of setup, or run setup here if a value is a stream.

        Args:
            task: The task: `WordCount.declaration`.
            values: Its input by name.
            job_id: Its id; a new one if not given. A second submission under it gives the same job.
            setup_in_caller: Whether to run setup here in any case.
            tags: Names and texts by which the job is found again.
            **options: See `Options`.

        Raises:
            InvalidInput: The input does not fit the schema.
            JobConflict: Another job has this id.
            JobFailed: The input is a stream, and setup raised.
        """
        submission = Submission.of(
            task,
            values,
            store=self._store,
            inline_bytes=self._config.inline_bytes,
            options=options,
            setup_in_caller=setup_in_caller,
            tags=tags,
        )
        job_id = job_id or new_id()
        with self._caller.telemetry.launching(job_id, task.name):
            job, is_new = create_job(self._caller, job_id, submission.intent(now=self._caller.now))
        if submission.caller_parameters or setup_in_caller:
            run_setup(
                self._caller,
                job.id,
                launch_id=job.launch_id,
                caller_parameters=submission.caller_parameters,
                fresh=is_new,
            )
        elif is_new or not has_begun(job.ledger):
            self.dispatcher.send_setup(job.id, job.intent)
        return Job(job.id, self._caller, launch_id=job.launch_id)

    def deliver(self, at: int = 0) -> None:
        """Have a new worker run the message in this place among those that wait."""
        self.dispatcher.deliver(self.start_process(), at)

    def drain(self, *, order: random.Random | None = None) -> None:
        """Have one worker run all messages, and those that they cause. `order` picks the next one each time."""
        self.dispatcher.drain(self.start_process(), order=order)

    def sweep(self) -> dict[str, Move]:
        """Sweep all jobs as if their last sign of progress were long ago; return what was done, by job id."""
        impatient = replace(self._config, stall_s=IMPATIENT_S)
        return dict(sweep(Runtime(self._store, impatient, self.dispatcher), everything=True))
