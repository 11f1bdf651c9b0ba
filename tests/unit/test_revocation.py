"""When Celery ends a job's message, a worker writes the outcome in its pool, once, and only for jobs."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.exceptions import Ignore
from celery.signals import task_revoked, worker_ready
from celery.worker.control import Panel

import fanout
from fanout import JobCancelled, JobFailed
from fanout.declaration.definition import TASKS
from fanout.engines.celery import extension, extension_of, revocation
from fanout.engines.celery.current_app import ConnectedApps
from fanout.records.chunk_ref import ChunkRef
from fanout.records.ledger import Ledger
from tests.stores import ScriptedStore

from .tasks import Numbers


class Pool:
    """A worker's pool that runs its calls at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def on_apply(self, target: Callable[..., None], args: Any, kwargs: Any, **_: Any) -> None:
        self.calls.append((args, kwargs))
        target(*args, **kwargs)


class Consumer:
    """The sender of the signal that a worker is ready."""

    def __init__(self, app: Celery, pool: Pool) -> None:
        self.app = app
        self.pool = pool


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """A connected app as a worker has it."""
    monkeypatch.setattr(TASKS, "_listeners", [])
    monkeypatch.setattr(extension, "CONNECTED", ConnectedApps())
    made = Celery("revoking", broker=f"memory://{uuid.uuid4().hex}", backend="cache+memory://", set_as_current=False)
    made.conf.update(task_default_queue=uuid.uuid4().hex, broker_transport_options={"polling_interval": 0.01})
    fanout.connect(made, store="memory://revoking")
    extension_of(made).runtime.store = ScriptedStore()
    made.finalize()
    made.backend.add_pending_results = lambda *_: None  # type: ignore[attr-defined]
    yield made
    made.close()


@pytest.fixture
def pool(app: Celery) -> Pool:
    made = Pool()
    worker_ready.send(sender=Consumer(app, made))
    return made


def take_joins(app: Celery) -> list[Any]:
    """Take all messages from the app's queue, and return those for a join."""
    with app.connection_for_read() as connection:
        queue = app.amqp.queues[app.conf.task_default_queue](connection.default_channel)
        messages = list(iter(lambda: queue.get(no_ack=True), None))
    return [message for message in messages if message.headers["task"].endswith(".join")]


def ledger_of(app: Celery, job_id: str) -> Ledger:
    return Ledger.of(extension_of(app).runtime.store, job_id)


def launch_job(app: Celery) -> str:
    """Launch a streamed job, whose chunks wait and which has no callback."""
    return Numbers.submit({"numbers": iter([1, 2])}, app=app).id


def revoke(app: Celery, ids: Any) -> Any:
    return Panel.data["revoke"](SimpleNamespace(app=app, consumer=None), ids)


def discard(app: Celery, step: str, *, args: Any, kwargs: Any = None, task_id: str = "a-chunk", **details: Any) -> None:
    """Send the signal that Celery sends when it discards a message."""
    request = Context(id=task_id, args=args, kwargs=kwargs or {})
    task_revoked.send(sender=app.tasks[f"{Numbers.name}.{step}"], request=request, **details)


@pytest.mark.parametrize("many", [False, True])
def test_the_revoke_command_cancels_a_job(app: Celery, pool: Pool, many: bool) -> None:
    """The command revokes one id or several as in Celery, and cancels those that are jobs."""
    job_id = launch_job(app)
    answer = revoke(app, ["no-job", job_id] if many else job_id)
    assert "flagged as revoked" in answer["ok"]
    with pytest.raises(JobCancelled, match="its Celery task was revoked"):
        extension_of(app).job(job_id).get(1)
    assert len(pool.calls) == 1
    assert len(take_joins(app)) == 1, "the join is sent, to notify the callbacks"


def test_the_id_of_another_task_costs_one_request(app: Celery, pool: Pool) -> None:
    """The id of another task costs one request. A string that cannot be an id costs none."""
    store = extension_of(app).runtime.store
    assert isinstance(store, ScriptedStore)
    store.log.clear()
    revoke(app, ["another-task", "no/id"])
    assert len(store.log) == 1
    assert pool.calls[0][0] == (["another-task"], "Revoked")


def test_a_job_whose_store_fails_is_logged_and_the_others_end(
    app: Celery, pool: Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """A job that cannot be ended does not stop the revocation of others, and the command raises no error."""
    first, second = sorted([launch_job(app), launch_job(app)])
    store = extension_of(app).runtime.store
    assert isinstance(store, ScriptedStore)

    with store.failing("", first, error=ConnectionError):
        revoke(app, [first, second])
    assert f"job {first}: could not record that it is revoked: " in caplog.text
    assert ledger_of(app, second).has_outcome()


def test_outside_a_worker_no_revocation_is_recorded(app: Celery) -> None:
    """A process without a pool does not record the revocation."""
    job_id = launch_job(app)
    revoke(app, job_id)
    assert not ledger_of(app, job_id).has_outcome()


@pytest.mark.parametrize("step", ["setup", "join"])
def test_a_discarded_message_cancels_its_job(app: Celery, pool: Pool, step: str) -> None:
    """Celery itself has notified the callbacks, so no join is sent, and a sweep has nothing left to do."""
    job_id = launch_job(app)
    discard(app, step, args=(job_id,) if step == "join" else (), task_id=job_id)
    with pytest.raises(JobCancelled):
        extension_of(app).job(job_id).get(1)
    assert ledger_of(app, job_id).is_delivered()
    assert take_joins(app) == []


def test_a_discarded_chunk_cancels_its_job(app: Celery, pool: Pool) -> None:
    """If a chunk's message is discarded, by a stamp for example, the join notifies the callbacks."""
    job_id = launch_job(app)
    manifest = ledger_of(app, job_id).manifest()
    assert manifest is not None
    location = ledger_of(app, job_id).shard(manifest, 0).batches[0]
    discard(
        app, "process", args=ChunkRef(job_id, ledger_of(app, job_id).launch_id, manifest.setup_id, 0, location).to_row()
    )
    assert ledger_of(app, job_id).has_outcome()
    assert not ledger_of(app, job_id).is_delivered()
    assert len(take_joins(app)) == 1


def test_an_expired_message_fails_its_job(app: Celery, pool: Pool) -> None:
    """An expired message fails its job at once, without a sweep."""
    job_id = launch_job(app)
    discard(app, "setup", args=(), task_id=job_id, expired=True)
    with pytest.raises(JobFailed, match="expired before a worker took it"):
        extension_of(app).job(job_id).get(1)
    assert ledger_of(app, job_id).is_delivered()


@pytest.mark.parametrize(
    ("step", "args", "task_id"), [("process", (1, 2), "x"), ("join", (), "x"), ("setup", (), "../x")]
)
def test_a_forged_message_that_is_discarded_is_logged(
    app: Celery, pool: Pool, caplog: pytest.LogCaptureFixture, step: str, args: Any, task_id: str
) -> None:
    """The worker drops a forged message with one line in its log."""
    discard(app, step, args=args, task_id=task_id)
    assert "dropped a message that fanout did not send" in caplog.text
    assert pool.calls == []


def test_a_discarded_message_must_be_signed_too(app: Celery, pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """An unsigned message that has expired ends no job."""
    job_id = launch_job(app)
    app.conf.update(fanout_signing_keys={"a": "x" * 32}, fanout_require_signatures=True)
    discard(app, "setup", args=(), task_id=job_id, expired=True)
    assert "it is not signed" in caplog.text
    assert pool.calls == []


def test_an_ended_job_stays_as_it_is(app: Celery, pool: Pool) -> None:
    """A revocation that comes after the end changes nothing."""
    job_id = launch_job(app)
    assert extension_of(app).job(job_id).cancel()
    before = ledger_of(app, job_id).outcome()
    take_joins(app)
    revoke(app, job_id)
    assert ledger_of(app, job_id).outcome() == before
    assert take_joins(app) == []


def test_the_latest_generation_is_revoked(app: Celery, pool: Pool) -> None:
    """Of a job that was retried, the generation that runs is revoked."""
    job_id = launch_job(app)
    job = extension_of(app).job(job_id)
    job.cancel()
    assert job.retry()
    revoke(app, job_id)
    assert Ledger.of(extension_of(app).runtime.store, job_id, 1).has_outcome()


def test_the_join_of_a_revoked_job_stores_revoked(app: Celery, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has no revocation in its memory stores REVOKED, and counts one failed member of a chord."""
    job_id = launch_job(app)
    revoke(app, job_id)
    (join,) = take_joins(app)
    counted: list[Any] = []
    monkeypatch.setattr(app.backend, "on_chord_part_return", lambda request, state, error: counted.append(state))
    task = app.tasks[f"{Numbers.name}.join"]
    task.push_request(id=job_id, chord={"task": "merge"}, ignore_result=False)
    try:
        with pytest.raises(Ignore):
            task.run(*join.payload[0], **join.payload[1])
    finally:
        task.pop_request()
    assert app.AsyncResult(job_id).state == "REVOKED"
    assert counted == ["REVOKED"]
    assert ledger_of(app, job_id).is_delivered()


def test_the_revoke_command_is_wrapped_once() -> None:
    """After further imports of the engine there is still one listener."""
    assert Panel.data["revoke"].of_fanout
    assert not hasattr(Panel.data["revoke"].__wrapped__, "of_fanout")
    assert revocation.REVOKED == "Revoked"
