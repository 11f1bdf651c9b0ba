"""An engine that handles messages as `fanout.engines.celery.tasks` does, without Celery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from fanout.abc import Delivery
from fanout.errors import BrokerUnavailable, is_transient
from fanout.records.ids import new_token
from fanout.records.ledger import Ledger
from fanout.records.models import Continuation, Note, Outcome
from fanout.stages import run_join, run_process, run_setup
from storage import StorageError

from .broker import Message, Worker

if TYPE_CHECKING:
    from .world import World

STORE_RETRIES = 10
CALLBACKS = "callbacks of the join"


class Engine:
    """The engine, which runs a message's stage in a fiber of the worker that took the message."""

    def __init__(self, world: World) -> None:
        self._world = world

    def serve(self, worker: Worker, message: Message) -> None:
        """Run the message's stage, then acknowledge the message."""
        world = self._world
        stages: dict[str, Callable[[Worker, Message], None]] = {
            "setup": self._setup,
            "process": self._process,
            "join": self._join,
        }
        if message.expires_at is None or world.loop.clock() <= message.expires_at:
            stages[message.step](worker, message)
        # A kill at this moment requeues the message although its work is done.
        world.loop.sleep(world.latency() / 10)
        world.invariants.on_done(worker, message)
        world.broker.offer(worker)

    @contextmanager
    def _handle_outages(self, worker: Worker, message: Message, *, held: tuple[str, ...] = ()) -> Iterator[None]:
        """Reschedule the stage if the store does not respond, and requeue its message if the broker does not."""
        world = self._world
        try:
            yield
        except BrokerUnavailable:
            world.note("reject", str(message))
            world.invariants.on_requeue(worker, message)
            if worker.acknowledges:
                world.broker.post(replace(message, redelivered=True), after_s=world.rng.random())
        except StorageError as error:
            if not is_transient(error):
                raise
            self._reschedule(worker, replace(message, held=held))

    def _reschedule(self, worker: Worker, message: Message) -> None:
        """Send a message for later, as `Task.retry` does. If the broker refuses it, the stage is dropped."""
        world = self._world
        world.invariants.on_reschedule(worker, message)
        if message.retries >= STORE_RETRIES:
            world.note("given up", str(message))
            return
        later = replace(message, redelivered=False, retries=message.retries + 1)
        try:
            world.broker.send(later, after_s=min(2**message.retries, 60))
        except BrokerUnavailable:
            world.note("dropped", str(later))

    def _setup(self, worker: Worker, message: Message) -> None:
        with self._handle_outages(worker, message):
            assert message.launch_id is not None
            ledger = Ledger(worker.runtime.store, message.job_id, message.launch_id)
            ledger.write_continuation(Continuation(message=CALLBACKS))
            run_setup(
                worker.runtime,
                message.job_id,
                launch_id=message.launch_id,
                generation=message.generation,
                delivery=_delivery(message),
            )

    def _process(self, worker: Worker, message: Message) -> None:
        assert message.ref is not None
        with self._handle_outages(worker, message):
            run_process(worker.runtime, message.ref, _delivery(message))

    def _join(self, worker: Worker, message: Message) -> None:
        ready: Outcome | None = None
        token = new_token()
        with self._handle_outages(worker, message, held=(*message.held, token)):
            outcome = run_join(
                worker.runtime,
                message.job_id,
                launch_id=message.launch_id,
                generation=message.generation,
                delivery=_delivery(message),
                token=token,
                held=message.held,
            )
            if outcome is not None and outcome.failure is None:
                worker.runtime.job(message.job_id, message.launch_id, message.generation).ledger.value(outcome)
            ready = outcome
        if ready is not None:
            self._deliver(worker, message, ready)

    def _deliver(self, worker: Worker, message: Message, outcome: Outcome) -> None:
        """Send callbacks and store the result, as Celery does after a task, then act as `JoinTask.after_return`."""
        world = self._world
        world.loop.sleep(world.latency())
        if not world.broker.sends_callbacks():
            return
        world.invariants.on_delivery(worker, message, outcome)
        try:
            job = worker.runtime.job(message.job_id, message.launch_id, message.generation)
            job.ledger.write_delivered(Note(by=new_token()))
        except StorageError:
            world.invariants.on_interruption(worker)


def _delivery(message: Message) -> Delivery:
    return Delivery(
        message=message.id, redelivered=message.redelivered, resent=message.resent, resumed=bool(message.retries)
    )
