"""The protocol without one of its parts: what a simulation worth its name must notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from fanout import clock as clock_module
from fanout.background.debouncer import Debouncer
from fanout.clock import StoreClock
from fanout.records.ledger import Ledger
from fanout.records.models import Attempt, ChunkResult, Manifest
from fanout.records.run_ledger import LastClaim
from fanout.runtime import CachedJob, Runtime
from fanout.stages import barrier, join, outcome, process, setup
from fanout.stages.attempts import Admission, Attempts
from fanout.stages.delivery import Delivery
from fanout.stages.heartbeat import Heartbeat
from fanout.sweep import Move
from storage import Body, ObjectExists, ObjectStore

from . import engine
from .shape import STALL_S
from .store import TimedStore


@dataclass(frozen=True, slots=True)
class Mutation:
    """A part taken out.

    Attributes:
        made: Within it, the part is missing.
        where: Fields of `Shape` in which its absence shows soonest.
    """

    made: Callable[[], AbstractContextManager[Any]]
    where: dict[str, Any]


MUTATIONS: dict[str, Mutation] = {}


def mutation(**where: Any) -> Callable[[Callable[[], Any]], None]:
    def put(make: Callable[[], Any]) -> None:
        MUTATIONS[make.__name__] = Mutation(make, where)

    return put


@mutation()
def conditional_put() -> Any:
    """The store ignores that a write is conditional: the last one wins."""
    put = TimedStore.put
    return patch.object(TimedStore, "put", lambda self, key, body, *, if_absent=False: put(self, key, body))


@mutation()
def read_and_compare() -> Any:
    """Whoever finds a record in its place believes that it is its own."""

    def put_once(store: ObjectStore, key: str, body: Body) -> None:
        try:
            store.put(key, body, if_absent=True)
        except ObjectExists:
            return

    return patch("fanout.records.record_io.put_once", put_once)


@mutation(setup="fickle", items=("well",) * 2, workers=3, rates={"message doubled": 0.6})
def adoption() -> Any:
    """A setup that was not the first to finish believes in its own manifest, and so does its process."""
    write, read = Ledger.write_manifest, Ledger.manifest

    def write_manifest(self: Ledger, manifest: Manifest) -> Manifest:
        write(self, manifest)
        self.own_manifest = manifest  # type: ignore[attr-defined]
        return manifest

    def manifest(self: Ledger) -> Manifest | None:
        return getattr(self, "own_manifest", None) or read(self)

    return _all(patch.object(Ledger, "write_manifest", write_manifest), patch.object(Ledger, "manifest", manifest))


@mutation()
def sweeps() -> Any:
    """Nobody moves what is stuck."""

    def idle(runtime: Runtime, job_id: str) -> Move:
        return Move.NONE

    return _all(
        patch("fanout.sweep.sweep_job", idle),
        patch("tests.simulation.world.sweep_job", idle),
        patch("tests.simulation.world.sweep", lambda runtime: iter(())),
    )


@mutation()
def claims() -> Any:
    """Whoever is asked to join does."""
    return patch.object(Ledger, "claim", lambda self, number, note: True)


@mutation(join="slow", rates={"message late": 0.5, "message doubled": 0.3})
def signs_of_life() -> Any:
    """A join that a sweep sent takes over without asking whether the holder of the claim lives."""
    last_claim = Ledger.last_claim

    def long_ago(self: Ledger) -> LastClaim | None:
        found = last_claim(self)
        return found and replace(found, made_at=0.0)

    return _all(
        patch.object(Ledger, "last_claim", long_ago), patch.object(Ledger, "last_heartbeat", lambda self, step: None)
    )


@mutation(join="slow")
def beats() -> Any:
    """A step that takes long does not say that it is at work."""
    return patch.object(Heartbeat, "_write", lambda self: None)


@mutation(rates={})
def look_after_the_manifest() -> Any:
    """Setup does not look whether everyone has finished before it."""
    blind = barrier.Completion(landed={}, due={0: "unseen"}, level=0, top={})
    return patch.object(setup, "completion_of", lambda *_, **__: blind)


@mutation(rates={}, items=("well",) * 6, chunk_items=1)
def looks_that_wait() -> Any:
    """Whoever puts off its look at a group never looks."""
    return patch.object(Debouncer, "defer", lambda self, name, action: None)


@mutation(rates={}, items=("well",) * 5, chunk_items=1)
def marks_of_early_groups() -> Any:
    """Nobody marks the groups that were full before there was a manifest."""

    def completion_of(ledger: Ledger, manifest: Manifest, **_: Any) -> barrier.Completion:
        landed = ledger.landed(manifest.setup_id)
        due = {chunk: "process" for chunk in range(manifest.chunks) if chunk not in landed}
        return barrier.Completion(landed, due, 0, landed)

    return patch.object(setup, "completion_of", completion_of)


@mutation()
def completeness() -> Any:
    """Join takes what there is."""
    completion_of = barrier.completion_of

    def complete(ledger: Ledger, manifest: Manifest, **said: Any) -> barrier.Completion:
        all_of_them = dict.fromkeys(range(manifest.chunks), 0) | completion_of(ledger, manifest, **said).landed
        return barrier.Completion(all_of_them, {}, 0, all_of_them)

    return _all(
        patch.object(join, "completion_of", complete), patch.object(barrier, "width_of", lambda group, chunks: 1)
    )


@mutation(rates={}, items=("well",) * 5, chunk_items=1, combines="lists")
def whole_groups() -> Any:
    """Whoever finishes a chunk combines what there is."""
    return patch.object(barrier, "width_of", lambda group, chunks: 1)


@mutation(rates={}, items=("well",) * 5, chunk_items=1, combines="pairs")
def right_edge_of_the_tree() -> Any:
    """Nobody combines the narrow groups that were full before there was a manifest."""
    return patch.object(barrier.Completion, "uncombined", property(lambda self: []))


@mutation(items=("well",) * 5, chunk_items=1, combines="lists", rates={"killed after a call": 0.1})
def climbing_on() -> Any:
    """Whoever gets a message again, and finds that its result stands, does not go on from it."""
    follow = process._Run._follow

    def stay(self: Any, completion: ChunkResult) -> None:
        if not self._delivery.redelivered and not self._ref.resent:
            follow(self, completion)

    return patch.object(process._Run, "_follow", stay)


@mutation(items=("well",) * 3, chunk_items=1, combines="pairs", combine="poison")
def counting_of_lost_combines() -> Any:
    """A combine whose workers die is begun as if for the first time."""
    return patch.object(Attempts, "begin", lambda self: True)


@mutation()
def counting_of_lost_tries() -> Any:
    """A step whose workers die is run again and again."""
    return patch.object(Attempts, "admit", lambda self, **_: Admission.RUN)


@mutation(items=("slow",) * 4 + ("well",) * 3, workers=1, rates={"call refused": 0.15})
def put_off_is_no_try() -> Any:
    """A run that the store failed counts as one that died."""
    admit = Attempts.admit

    def counting(self: Attempts, delivery: Delivery, **said: Any) -> Admission:
        resent = delivery.resent or delivery.goes_on
        return admit(self, replace(delivery, resent=resent, resumed=False, requeued=False), **{**said, "stall_s": 0.0})

    return patch.object(Attempts, "admit", counting)


@mutation(
    max_attempts=1,
    items=("well",),
    cancel_s=None,
    rates={"answer lost": 0.12, "call refused": 0.1, "message late": 0.2},
)
def records_of_what_was_put_off() -> Any:
    """Nobody puts on record that the store failed a run: others take its silence for a death."""
    return _all(
        patch.object(Ledger, "write_interrupted", lambda self, step, number, note: None),
        patch.object(Ledger, "write_claim_interrupted", lambda self, number, note: None),
    )


@mutation(items=("poison",), workers=4, latency_s=1.0, rates={"cut off": 0.1, "message doubled": 0.6})
def starts_are_written_once() -> Any:
    """Several who are sent to the same step at once all start."""

    def begin_attempt(self: Ledger, step: str, number: int, record: Attempt) -> Attempt:
        self.write_attempt(step, number, record)
        return record

    return patch.object(Ledger, "begin_attempt", begin_attempt)


@mutation()
def attempts_apart() -> Any:
    """Two runs of setup write to the same place."""
    return patch.object(setup, "new_token", lambda: "setup_id")


@mutation(rates={}, items=("broken", "well"))
def delivery_of_failures() -> Any:
    """Whoever ends a job without a join leaves it at that."""
    return patch.object(outcome, "start_join", lambda *_, **__: None)


@mutation(cancel_s=0.3, message_s=3.0, launched=True)
def waiting_for_setup() -> Any:
    """A job that ended before its setup began is delivered without what follows."""
    return patch.object(outcome, "awaits_setup", lambda runtime, job: False)


@mutation()
def delivered() -> Any:
    """Nobody puts on record that an outcome was delivered."""
    return patch.object(Ledger, "write_delivered", lambda self, note: None)


@mutation()
def notice_of_the_end() -> Any:
    """A worker does not look whether the job has ended."""
    return patch.object(CachedJob, "ended", lambda self: False)


@mutation(skew_s=100 * STALL_S, setup="slow", items=("slow", "well"), rates={})
def one_clock() -> Any:
    """Ages and deadlines are told by the clock of whoever asks."""
    return patch.object(StoreClock, "now", lambda self: clock_module.time.time())


@mutation(max_attempts=3, setup="poison", rates={"message lost with its worker": 1.0})
def counting_of_lost_setups() -> Any:
    """A setup that a sweep sends is begun as if for the first time."""
    run_setup = engine.run_setup
    return patch.object(
        engine,
        "run_setup",
        lambda *args, delivery, **said: run_setup(*args, delivery=replace(delivery, resent=False), **said),
    )


@contextmanager
def _all(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for each in patches:
            stack.enter_context(each)
        yield
