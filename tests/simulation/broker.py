"""Messages and workers, with Celery's delivery: at least once, with late acknowledgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fanout.errors import BrokerUnavailable
from fanout.records.chunk_ref import ChunkRef
from fanout.records.ids import new_token
from fanout.records.models import Intent
from fanout.runtime import Runtime

from .loop import Fiber, Process
from .shape import STALL_S

if TYPE_CHECKING:
    from .world import World

RETURNS_S = 3.0
"""The message of a dead worker is redelivered within this time."""

LATE_S = 4 * STALL_S
"""The longest delay of a late message."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        step: `setup`, `process` or `join`.
        job_id: The job.
        launch_id: The launch of the job id.
        generation: The job's generation.
        ref: The chunk ref, for process.
        continuation: The callbacks of the join.
        resent: Whether an earlier join, or an earlier run of setup, is considered lost.
        redelivered: Whether an earlier delivery took place.
        retries: Number of times that a storage failure deferred it.
        held: Tokens of the interrupted runs.
        expires_at: Time after which the message has expired.
        id: The message's own, which all of its deliveries and reschedules share.
    """

    step: str
    job_id: str
    launch_id: str | None = None
    generation: int = 0
    ref: ChunkRef | None = None
    continuation: str | None = None
    resent: bool = False
    redelivered: bool = False
    retries: int = 0
    held: tuple[str, ...] = ()
    expires_at: float | None = None
    id: str = ""

    def __str__(self) -> str:
        about = "" if self.ref is None else f" {self.ref.setup_id[:4]}/{self.ref.chunk}"
        if self.is_batch:
            assert self.ref is not None
            about += f"+{self.ref.count}"
        resent = self.resent or (self.ref is not None and self.ref.resent)
        failures = (
            ("!" if resent else "") + ("r" if self.redelivered else "") + (f"+{self.retries}" if self.retries else "")
        )
        number = f"#{self.generation}" if self.generation else ""
        return f"{self.step}{number}{about}{failures}"

    @property
    def is_batch(self) -> bool:
        """Whether it carries several chunks."""
        return self.ref is not None and self.ref.count > 1

    @property
    def works(self) -> list[tuple[str, ...]]:
        """The job id, the generation, and either the step, or a setup id and a chunk for each chunk."""
        if self.ref is None:
            return [(self.job_id, str(self.generation), self.step)]
        return [(self.job_id, str(self.generation), self.ref.setup_id, str(chunk)) for chunk in self.ref.chunks]

    @property
    def leaves_no_record(self) -> bool:
        """Whether a step may run this message without a record of the attempt."""
        if self.redelivered:
            return False
        if self.step == "join":
            return bool(self.held)
        if self.step == "setup" and self.resent:
            return bool(self.retries)
        return bool(self.retries) or self.ref is None or not self.ref.resent


class WorldDispatcher:
    """The dispatcher of a process."""

    def __init__(self, world: World) -> None:
        self.batch_chunks = world.shape.batch_chunks
        self._world = world

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        self._send(Message("setup", job_id, intent.launch_id, generation, resent=resent))

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        for ref in refs:
            read = ChunkRef.from_row(ref.to_row())
            self._send(Message("process", ref.job_id, ref.launch_id, ref.generation, read))

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        self._send(Message("join", job_id, intent.launch_id, generation, continuation=continuation, resent=resent))

    def _send(self, message: Message) -> None:
        message = replace(message, id=new_token())
        self._world.invariants.on_send(self._world.loop.current().process, message)
        self._world.broker.send(message)


class Worker(Process):
    """A process that takes one message at a time."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        super().__init__(name)
        self.runtime = runtime
        self.message: Message | None = None
        self.sent = 0
        """Number of messages that the worker has sent since it took the current one."""
        self.acknowledges = True
        """Whether the broker would still accept an acknowledgement of the current message."""
        self.taken_at = 0.0
        self.serving: Fiber | None = None
        """The fiber that serves the current message. Other fibers run deferred work."""
        self.served: set[str] = set()
        """Jobs of which the worker has taken messages."""
        self.has_begun = False
        """Whether the worker has requested a record of its attempt at the current message."""
        self.has_recorded_interruption = False
        """Whether a record says that the current run was interrupted."""
        self.chunk: int | None = None
        """The chunk that it last began since it took the current message."""
        self.refusals = 0
        """Number of storage requests without a response since the worker took the current message."""


class Broker:
    """The queue."""

    def __init__(self, world: World) -> None:
        self.waiting: list[Message] = []
        self.on_the_way = 0
        self.idle: list[Worker] = []
        self._world = world

    @property
    def is_empty(self) -> bool:
        return not self.waiting and not self.on_the_way

    def post(self, message: Message, *, after_s: float) -> None:
        """Accept a message, and deliver it after that time at the earliest."""
        self.on_the_way += 1
        self._world.loop.at(self._world.loop.now + after_s, lambda: self._arrive(message))

    def purge(self) -> None:
        self.waiting.clear()

    def return_message(self, worker: Worker) -> None:
        """Redeliver the message of a worker that the broker takes for dead."""
        message, world = worker.message, self._world
        if message is None or not worker.acknowledges:
            return
        worker.acknowledges = False
        if worker.dead and world.faults.occurs("message lost with its worker"):
            world.faults.record("message lost with its worker")
            world.note("lost", str(message), "with its worker")
            return
        self.post(replace(message, redelivered=True), after_s=world.rng.random() * RETURNS_S)

    def offer(self, worker: Worker) -> None:
        """Register an idle worker."""
        worker.message = None
        worker.acknowledges = True
        self.idle.append(worker)
        self._dispatch()

    def send(self, message: Message, *, after_s: float = 0.0) -> None:
        """Publish a message, from a fiber, to be delivered after some time at the earliest.

        Raises:
            BrokerUnavailable: The broker refused the message, or its confirm was lost.
        """
        world = self._world
        world.loop.sleep(world.latency() / 10)
        fault = world.faults.draw_at_send()
        world.note("send", str(message), fault or "")
        if fault is not None:
            world.faults.record(fault)
        if fault == "killed before a send":
            world.die()
        if fault == "send refused":
            raise BrokerUnavailable("refused")
        if fault != "message lost":
            copies = world.rng.choice((2, 2, 3, 5)) if fault == "message duplicated" else 1
            world.invariants.on_post(message, copies)
            for _ in range(copies):
                longest_s = LATE_S if fault == "message late" else world.shape.message_s
                self.post(message, after_s=after_s + world.rng.random() * longest_s)
        if fault == "killed after a send":
            world.die()
        if fault == "confirmation lost":
            raise BrokerUnavailable("not confirmed")

    def sends_callbacks(self) -> bool:
        """Return whether the broker takes the callbacks of a task that ends on this fiber's worker."""
        world = self._world
        fault = world.faults.draw_at_send()
        if fault not in ("killed before a send", "send refused"):
            return True
        world.faults.record(fault)
        world.note("callbacks", "", fault)
        if fault == "killed before a send":
            world.die()
        return False

    def _arrive(self, message: Message) -> None:
        self.on_the_way -= 1
        self.waiting.append(message)
        self._dispatch()

    def _dispatch(self) -> None:
        rng = self._world.rng
        while self.waiting and self.idle:
            worker = self.idle.pop(rng.randrange(len(self.idle)))
            message = self.waiting.pop(rng.randrange(len(self.waiting)))
            self._world.serve(worker, message)
