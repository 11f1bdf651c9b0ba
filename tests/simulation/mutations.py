"""Mutations: the protocol without one of its parts. The simulation must detect each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from fanout import clock as clock_module
from fanout.abc import Delivery
from fanout.background.debouncer import Debouncer
from fanout.cached_job import CachedJob
from fanout.clock import StoreClock
from fanout.records import index
from fanout.records.attempt import Attempt
from fanout.records.batch import BatchResult, Landed
from fanout.records.ledger import Ledger
from fanout.records.models import ChunkResult, Generation, Manifest, Note, Outcome
from fanout.records.record_io import write_record
from fanout.records.run_ledger import LastClaim
from fanout.runtime import Runtime
from fanout.stages import barrier, join, outcome, run_setup, setup
from fanout.stages.attempts import Admission, Attempts
from fanout.stages.batch_run import BatchRun
from fanout.stages.chunk_run import ChunkRun
from fanout.stages.heartbeat import Heartbeat
from fanout.sweep import Move
from storage import Body, ObjectExists, ObjectStore

from . import engine
from .shape import STALL_S
from .store import TimedStore


@dataclass(frozen=True, slots=True)
class Mutation:
    """A patch that disables a part of the protocol.

    Attributes:
        apply: Returns a context in which the part is disabled.
        shape: Fields of `Shape` with which the absence shows soonest.
    """

    apply: Callable[[], AbstractContextManager[Any]]
    shape: dict[str, Any]


MUTATIONS: dict[str, Mutation] = {}

ENDED: dict[str, Any] = {"rates": {}, "cancel_s": None, "expires_s": None, "retry_s": None, "deadline_s": 100.0}
"""A job that ends at its deadline, though one of its steps would run for ever."""

RESENT_JOINS: dict[str, Any] = {
    "items": ("good",),
    "setup": "good",
    "join": "slow",
    "workers": 4,
    "sweepers": 2,
    "faults_s": 200.0,
    "rates": {"message late": 0.8, "message duplicated": 0.5},
    "cancel_s": None,
    "deadline_s": None,
    "expires_s": None,
}
"""A job whose sweeps send several messages for one join."""


def mutation(**shape: Any) -> Callable[[Callable[[], Any]], None]:
    """Register a mutation under its function's name."""

    def register(apply: Callable[[], Any]) -> None:
        MUTATIONS[apply.__name__] = Mutation(apply, shape)

    return register


@mutation()
def conditional_puts() -> Any:
    """Let the store ignore conditions, so that the last write wins."""
    put = TimedStore.put
    return patch.object(TimedStore, "put", lambda self, key, body, *, if_absent=False: put(self, key, body))


@mutation()
def comparison_with_existing_records() -> Any:
    """Let a writer that finds a record take it for its own."""

    def put_once(store: ObjectStore, key: str, body: Body) -> None:
        try:
            store.put(key, body, if_absent=True)
        except ObjectExists:
            return

    return patch("fanout.records.record_io.put_once", put_once)


@mutation(setup="varying", items=("good",) * 2, workers=3, rates={"message duplicated": 0.6})
def first_manifest_counts() -> Any:
    """Let a setup that did not finish first, and its process, use its own manifest."""
    write, read = Ledger.write_manifest, Ledger.manifest

    def write_manifest(self: Ledger, manifest: Manifest) -> Manifest:
        write(self, manifest)
        self.own_manifest = manifest  # type: ignore[attr-defined]
        return manifest

    def manifest(self: Ledger) -> Manifest | None:
        return getattr(self, "own_manifest", None) or read(self)

    return combine_patches(
        patch.object(Ledger, "write_manifest", write_manifest), patch.object(Ledger, "manifest", manifest)
    )


@mutation()
def sweeps() -> Any:
    """Disable sweeps."""

    def idle(runtime: Runtime, job_id: str) -> Move:
        return Move.NONE

    return combine_patches(
        patch("fanout.sweep.sweep_job", idle),
        patch("tests.simulation.world.sweep_job", idle),
        patch("tests.simulation.world.sweep", lambda runtime, **_: iter(())),
    )


@mutation()
def claims() -> Any:
    """Let each join run without a claim."""
    return patch.object(Ledger, "claim", lambda self, number, note: True)


@mutation(**RESENT_JOINS)
def heartbeat_check_before_takeover() -> Any:
    """Let a resent join take over without a check of the claim holder's heartbeat."""
    last_claim = Ledger.last_claim

    def make_old(self: Ledger) -> LastClaim | None:
        claim = last_claim(self)
        return claim and replace(claim, made_at=0.0)

    return combine_patches(
        patch.object(Ledger, "last_claim", make_old), patch.object(Ledger, "last_heartbeat", lambda self, step: None)
    )


@mutation(join="slow")
def heartbeats() -> Any:
    """Let slow steps write no heartbeats."""
    return patch.object(Heartbeat, "_write", lambda self: None)


@mutation(rates={})
def completion_check_after_manifest() -> Any:
    """Let setup skip the check whether all chunks have finished before the manifest."""
    incomplete = barrier.Completion(landed=Landed(), missing=[0], uncombined={}, level=0, top=Landed())
    return patch.object(setup, "completion_of", lambda *_, **__: incomplete)


@mutation(rates={}, items=("good",) * 6, chunk_items=1)
def deferred_completion_checks() -> Any:
    """Drop deferred completion checks."""
    return patch.object(Debouncer, "defer", lambda self, name, action: None)


@mutation()
def completeness_check_in_join() -> Any:
    """Let join take an incomplete set of results."""
    completion_of = barrier.completion_of

    def complete(ledger: Ledger, manifest: Manifest, **options: Any) -> barrier.Completion:
        landed = completion_of(ledger, manifest, **options).landed
        return barrier.Completion(landed, (), {}, 0, landed)

    return combine_patches(
        patch.object(join, "completion_of", complete),
        patch.object(barrier, "find_first_missing", lambda ledger, setup_id, chunks, done: chunks),
        patch.object(barrier, "width_of", lambda group, chunks: 1),
    )


@mutation(rates={}, items=("good",) * 5, chunk_items=1, combines="lists")
def combine_of_complete_groups_only() -> Any:
    """Let process combine an incomplete group."""
    return patch.object(barrier, "width_of", lambda group, chunks: 1)


@mutation(rates={}, items=("good",) * 5, chunk_items=1, combines="pairs")
def combine_of_narrow_groups() -> Any:
    """Leave out narrow groups, at the right edge of the tree, that were complete before the manifest."""
    return patch.object(setup, "send_again", lambda *_, **__: True)


@mutation(items=("good",) * 5, chunk_items=1, combines="lists", rates={"killed after a call": 0.1})
def combine_after_redelivery() -> Any:
    """Let a run stop, instead of combine, when its chunk has a result from an earlier delivery."""
    follow = ChunkRun._follow

    def follow_first_delivery(self: Any, completion: ChunkResult) -> None:
        if not self._delivery.redelivered and not self._ref.resent:
            follow(self, completion)

    return patch.object(ChunkRun, "_follow", follow_first_delivery)


@mutation(**ENDED, items=("good",) * 3, chunk_items=1, combines="pairs", combine="poison")
def count_of_combine_attempts() -> Any:
    """Do not count the attempts of a combine whose workers die."""
    return patch.object(Attempts, "begin", lambda self: True)


@mutation(**ENDED, items=("poison",), setup="good", join="good", combine="good")
def count_of_step_attempts() -> Any:
    """Do not count the attempts of a step whose workers die."""
    return patch.object(Attempts, "admit", lambda self, *_, **__: Admission.RUN)


@mutation(items=("slow",) * 4 + ("good",) * 3, workers=1, rates={"call refused": 0.15})
def interrupted_runs_do_not_count() -> Any:
    """Count runs that a storage failure interrupted as lost."""
    admit = Attempts.admit

    def counting(self: Attempts, delivery: Delivery, **options: Any) -> Admission:
        resent = delivery.resent or delivery.goes_on
        return admit(
            self, replace(delivery, resent=resent, resumed=False, requeued=False), **{**options, "stall_s": 0.0}
        )

    return patch.object(Attempts, "admit", counting)


@mutation(
    max_attempts=1,
    items=("good",),
    cancel_s=None,
    rates={"response lost": 0.12, "call refused": 0.1, "message late": 0.2},
)
def records_of_interruptions() -> Any:
    """Write no records of interrupted runs, so that other workers count them as lost."""
    return combine_patches(
        patch.object(Ledger, "write_interrupted", lambda self, step, number, note: None),
        patch.object(Ledger, "write_claim_interrupted", lambda self, number, note: None),
    )


@mutation(items=("poison",), workers=4, latency_s=1.0, rates={"cut off": 0.1, "message duplicated": 0.6})
def exclusive_attempt_records() -> Any:
    """Let simultaneous runs of the same step all start."""

    def begin_attempt(self: Ledger, step: str, number: int, record: Attempt) -> Attempt:
        self.write_attempt(step, number, record)
        return record

    return patch.object(Ledger, "begin_attempt", begin_attempt)


@mutation()
def distinct_setup_ids() -> Any:
    """Let two runs of setup write to the same keys."""
    return patch.object(setup, "new_token", lambda: "setup_id")


@mutation(rates={}, items=("broken", "good"))
def delivery_of_failures() -> Any:
    """Send no join to deliver the failure of a job."""
    return patch.object(outcome, "start_join", lambda *_, **__: None)


@mutation(cancel_s=0.3, message_s=3.0, launched=True)
def waiting_for_setup() -> Any:
    """Deliver a job that ended before setup without its callbacks."""
    return patch.object(outcome, "awaits_setup", lambda runtime, job: False)


@mutation()
def record_of_delivery() -> Any:
    """Write no record of a delivery."""
    return patch.object(Ledger, "write_delivered", lambda self, note: None)


@mutation()
def check_for_ended_job() -> Any:
    """Let workers skip the check whether the job has ended."""
    return patch.object(CachedJob, "has_ended", lambda self: False)


@mutation(skew_s=100 * STALL_S, setup="slow", items=("slow", "good"), rates={})
def store_clock() -> Any:
    """Measure ages and deadlines with each process's own clock."""
    # The schedule replaces the name `time` in the library's modules.
    return patch.object(StoreClock, "now", lambda self: vars(clock_module)["time"].time())


@mutation(max_attempts=3, setup="poison", rates={"message lost with its worker": 1.0})
def count_of_resent_setups() -> Any:
    """Do not count the attempts of a resent setup."""
    return patch.object(
        engine,
        "run_setup",
        lambda *args, delivery, **options: run_setup(*args, delivery=replace(delivery, resent=False), **options),
    )


@mutation(callers=0)
def entry_until_delivery() -> Any:
    """Take a job out of the index of open jobs when it has an outcome, before that is delivered."""
    write_outcome = Ledger.write_outcome

    def write_and_close(self: Ledger, made: Outcome) -> Outcome:
        current = write_outcome(self, made)
        self.store.delete([index.open_key(self.job_id, self.launch_id, self.generation)])
        return current

    return patch.object(Ledger, "write_outcome", write_and_close)


@mutation(callers=0, retry_s=0.5, items=("broken", "good"))
def entry_of_a_retry() -> Any:
    """Write no entry for a retry."""

    def write_generation(self: Ledger, number: int, record: Generation) -> bool:
        return write_record(self.store, self.keys.start_of(number), record).by == record.by

    return patch.object(Ledger, "write_generation", write_generation)


@mutation(callers=0, rates={"killed after a call": 0.1})
def removal_of_entries_by_sweeps() -> Any:
    """Let sweeps leave the entries of jobs whose worker died after the delivery."""
    return patch("fanout.index_upkeep.removal.remove_entries", lambda store, entries: None)


BATCHES: dict[str, Any] = {"batch_chunks": 5, "group_width": 5, "items": ("good",) * 5, "chunk_items": 1}
"""A job of one batch."""


@mutation(**BATCHES)
def parts_for_all_chunks() -> Any:
    """Forget a chunk when a batch is shared out."""
    cut = BatchRun._cut
    return patch.object(BatchRun, "_cut", lambda self, chunks: cut(self, chunks)[1:])


@mutation(
    **BATCHES,
    share_s=0.3,
    latency_s=0.01,
    message_s=0.02,
    workers=4,
    cancel_s=None,
    max_attempts=3,
    # Without a deadline, one schedule in fifty sends the same messages for hours.
    deadline_s=20.0,
    rates={"killed after a send": 0.3},
)
def fate_before_messages() -> Any:
    """Send the messages of a batch's parts before its fate is decided."""
    decide = BatchRun._decide

    def send_first(self: Any, parts: Sequence[int], *, begun: bool = False) -> BatchResult:
        messages = list(self._ref.parts(parts, start=len(self._values)))[begun:]
        if messages:
            self._runtime.dispatcher.send_chunks(self._job.intent, messages)
        return decide(self, parts, begun=begun)

    return combine_patches(
        patch.object(BatchRun, "_decide", send_first), patch.object(BatchRun, "_send_parts", lambda self: None)
    )


@mutation(**BATCHES, rates={"message duplicated": 0.5})
def fate_written_once() -> Any:
    """Overwrite the fate of a batch."""

    def write_batch_result(self: Ledger, setup_id: str, count: int, result: BatchResult) -> BatchResult:
        self.store.put(self.keys.batch_result(setup_id, result.chunk, count), result.to_bytes())
        return result

    return patch.object(Ledger, "write_batch_result", write_batch_result)


@mutation(**BATCHES, rates={"message duplicated": 0.5})
def following_of_fate() -> Any:
    """Let a worker go on as if its fate of a batch counted, although another one was written first."""
    write = Ledger.write_batch_result

    def write_batch_result(self: Ledger, setup_id: str, count: int, result: BatchResult) -> BatchResult:
        write(self, setup_id, count, result)
        return result

    return patch.object(Ledger, "write_batch_result", write_batch_result)


@mutation(**BATCHES)
def share_markers() -> Any:
    """Do not announce that a batch may be shared out, so that listings take it for whole."""
    return patch.object(Ledger, "mark_shared", lambda self, setup_id, chunk, count, done, note: None)


@mutation(**BATCHES, latency_s=1.0, rates={"killed after a call": 0.1})
def share_markers_before_fate() -> Any:
    """Announce that a batch may be shared out only after it was."""
    mark, write = Ledger.mark_shared, Ledger.write_batch_result

    def write_batch_result(self: Ledger, setup_id: str, count: int, result: BatchResult) -> BatchResult:
        current = write(self, setup_id, count, result)
        mark(self, setup_id, result.chunk, count, done=result.done, note=Note(by=result.by))
        return current

    return combine_patches(
        patch.object(Ledger, "mark_shared", lambda self, setup_id, chunk, count, done, note: None),
        patch.object(Ledger, "write_batch_result", write_batch_result),
    )


@contextmanager
def combine_patches(*patches: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for mutation_patch in patches:
            stack.enter_context(mutation_patch)
        yield
