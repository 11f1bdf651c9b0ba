"""A store, a dispatcher and a runtime, with which a job runs without an engine."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fanout import Config, ForkJoinTask
from fanout.engines.stub import StubDispatcher, WorkerDied
from fanout.engines.submission import Submission
from fanout.job import Job
from fanout.records.chunk_ref import ChunkRef
from fanout.records.ids import new_id
from fanout.records.ledger import Ledger
from fanout.records.models import Outcome
from fanout.runtime import Runtime
from fanout.stages import run_setup
from tests.stores import ScriptedStore

from .sharing import ManualTimers


class World:
    """One store, one dispatcher, and the runtime of one process.

    Args:
        copies: Number of times that each message arrives.
        batch_chunks: Most chunks of a batch.
        **settings: Fields of `Config`.
    """

    def __init__(self, *, copies: int = 1, batch_chunks: int = 1, **settings: Any) -> None:
        self.store = ScriptedStore()
        self.timers = ManualTimers()
        self.config = Config(store=self.store.url, **settings)
        self.dispatcher = StubDispatcher(copies=copies, batch_chunks=batch_chunks)
        self.errors: list[BaseException] = []
        self.runtime = self.process()

    def process(self) -> Runtime:
        """Return the runtime of another process, which has cached nothing.

        A batch is shared out when a test says so, if it lasts; see `ManualTimers`.
        """
        runtime = Runtime(
            self.store,
            self.config,
            self.dispatcher,
            on_error=self.errors.append,
            is_stop=lambda error: isinstance(error, KeyboardInterrupt | WorkerDied),
        )
        runtime.timers = self.timers
        return runtime

    def submission(
        self,
        task: type[ForkJoinTask],
        values: Mapping[str, Any],
        *,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Submission:
        return Submission.of(
            task.declaration,
            values,
            store=self.store,
            inline_bytes=self.config.inline_bytes,
            options=options,
            tags=tags,
        )

    def launch(
        self,
        task: type[ForkJoinTask],
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        not_before: float | None = None,
        expires_at: float | None = None,
        **options: Any,
    ) -> Ledger:
        """Write a job's intent and ask for its setup; run the setup at once if its input is a stream."""
        submission = self.submission(task, values, **options)
        job = self.runtime.launch(job_id or new_id(), submission.intent(not_before=not_before, expires_at=expires_at))
        if submission.caller_parameters:
            run_setup(self.runtime, job.id, caller_parameters=submission.caller_parameters)
        else:
            self.dispatcher.send_setup(job.id, job.intent)
        return job.ledger

    def prepare(self, task: type[ForkJoinTask], values: Mapping[str, Any], **options: Any) -> Ledger:
        """Launch a job and run its setup, so that its chunks wait."""
        ledger = self.launch(task, values, **options)
        self.dispatcher.deliver(self.runtime)
        return ledger

    def run(self, task: type[ForkJoinTask], values: Mapping[str, Any], **options: Any) -> Outcome:
        """Run a job to its end."""
        ledger = self.launch(task, values, **options)
        self.dispatcher.drain(self.runtime)
        outcome = ledger.outcome()
        assert outcome is not None
        return outcome

    def job(self, ledger: Ledger) -> Job:
        return Job(ledger.job_id, self.runtime, launch_id=ledger.launch_id)

    @property
    def refs(self) -> list[ChunkRef]:
        """Refs of all chunks sent so far."""
        return [message.ref for message in self.dispatcher.chunks]


@contextmanager
def worker(world: World) -> Iterator[None]:
    """Run waiting messages in a thread until the block ends."""
    ended = threading.Event()

    def work() -> None:
        runtime = world.process()
        while not ended.is_set():
            if world.dispatcher.waiting:
                world.dispatcher.deliver(runtime)
            else:
                ended.wait(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(30)
        assert not thread.is_alive()
