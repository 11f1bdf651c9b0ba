"""What `fanout doctor` finds out about a Celery app: its settings, its broker, and the workers that answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import Connection, Queue

from ...config.settings import CONSUMER_TIMEOUT_S
from ...finding import Finding, Verdict
from ...records.failure import redacted
from .publishing.connection import bound_waits
from .settings import advice, broker_waits_s, default_limit_s

ANSWER_S = 2.0
"""How long workers have to answer."""

_ASK_RABBITMQ = "rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'"


def check_app(app: Celery) -> Iterator[Finding]:
    """Everything about an app: settings, broker, queues, workers. Changes nothing; takes some seconds."""
    app.finalize()
    yield from check_settings(app)
    written, read = app.connection_for_write(), app.connection_for_read()
    reached = yield from _check_connection(app, written)
    if read.as_uri() != written.as_uri():
        reached = (yield from _check_connection(app, read)) and reached
    if reached:
        yield from _check_workers(app)


def _check_connection(app: Celery, connection: Connection) -> Generator[Finding, None, bool]:
    """What there is of the broker, and of each other that is named as one to turn to; whether one answers."""
    # The list of those that take over is the connection's own: it goes on from one to the next.
    others: list[str] = list(dict.fromkeys(connection.alt or ()))
    try:
        with connection:
            connection.ensure_connection(max_retries=max(len(others), 1), interval_start=0, timeout=10)
            with bound_waits(connection, limit_s=10.0):
                yield from _check_broker(app, connection)
    except Exception as error:
        yield _unreachable(connection, error, Verdict.BROKEN)
        return False
    for place, url in enumerate(others, start=1) if len(others) > 1 else ():
        with app.connection_for_write(url) as other:
            try:
                other.ensure_connection(max_retries=1, interval_start=0, timeout=5)
            except Exception as error:
                yield _unreachable(other, error, Verdict.CHANGE, f" ({place} of {len(others)})")
            else:
                yield Finding(f"broker: reachable ({place} of {len(others)})", redacted(str(other.as_uri())))
    return True


def _unreachable(connection: Connection, error: Exception, verdict: Verdict, which: str = "") -> Finding:
    return Finding(
        f"broker: reachable{which}",
        redacted(f"{connection.as_uri()}: {error or type(error).__name__}"),
        verdict,
        "Start it, or correct broker_url and the credentials in it.",
    )


def check_settings(app: Celery) -> Iterator[Finding]:
    """What to change in the settings, and what there is of a result backend. Asks no server."""
    found = advice(app)
    for entry in found:
        remedy = f"Should be {entry.wanted}: or {entry.danger}."
        yield Finding(f"setting {entry.setting}", f"{entry.found!r}", Verdict.CHANGE, remedy)
    if not found:
        yield Finding("settings", "all as fork-join jobs need them")
    backend = app.backend
    if isinstance(backend, DisabledBackend):
        yield Finding("result backend", "none, and none is needed: but AsyncResult.get and chords of jobs need one")
    else:
        yield Finding("result backend", redacted(str(backend.as_uri())))


def _check_broker(app: Celery, connection: Connection) -> Iterator[Finding]:
    if connection.transport.driver_type == "amqp":
        server = connection.connection.server_properties
        product, version = server.get("product", "AMQP broker"), server.get("version", "of unknown version")
        yield Finding("broker", f"{product} {version} at {connection.as_uri()}")
        yield _consumer_timeout(app)
        for _, queue in sorted(app.amqp.queues.consume_from.items()):
            yield _check_queue(connection, queue)
    elif "redis" in connection.transport.driver_type:
        yield from _check_redis(connection)
    else:
        yield Finding("broker", f"{connection.transport.driver_type} at {connection.as_uri()}")


def _consumer_timeout(app: Celery) -> Finding:
    check = "broker: consumer timeout"
    limit_s: float = app.conf.task_time_limit or default_limit_s(app) or 0.0
    waits_s: float = broker_waits_s(app) or CONSUMER_TIMEOUT_S
    if waits_s < CONSUMER_TIMEOUT_S:
        verdict = Verdict.OK if limit_s < waits_s else Verdict.BROKEN
        remedy = "" if limit_s < waits_s else f"Set task_time_limit below {waits_s:g}."
        return Finding(check, f"{waits_s:g} s, as a queue's x-consumer-timeout says", verdict, remedy)
    return Finding(
        check,
        f"AMQP does not tell; RabbitMQ's default is {CONSUMER_TIMEOUT_S * 1000} ms, and steps are stopped after "
        f"{limit_s:g} s",
        Verdict.UNKNOWN,
        f"Look where RabbitMQ runs that it is longer than that: {_ASK_RABBITMQ}",
    )


def _check_queue(connection: Connection, queue: Queue) -> Finding:
    """Whether a queue is there, and is what the app says it is. Declares nothing that is not there already."""
    check = f"queue {queue.name}"
    kind = (queue.queue_arguments or {}).get("x-queue-type", "classic")
    try:
        # no limit: `bound_waits` gives it one
        with connection.channel() as channel:
            declared: Any = queue(channel).queue_declare(passive=True)
    except NotFound:
        return Finding(check, f"not there yet; the first worker makes it, as {kind}")
    try:
        # no limit: `bound_waits` gives it one
        with connection.channel() as channel:
            # As a worker does when it starts: of a queue that is there, it only compares.
            queue(channel).queue_declare()
    except PreconditionFailed as error:
        return Finding(
            check,
            str(error.reply_text),
            Verdict.BROKEN,
            "Workers can't start: say in task_queues (or task_default_queue_type) what the queue is, or delete it.",
        )
    return Finding(check, f"{kind}, {declared.message_count} messages wait, {declared.consumer_count} consumers")


def _check_redis(connection: Connection) -> Iterator[Finding]:
    client: Any = connection.default_channel.client  # type: ignore[attr-defined]
    found = client.info()
    yield Finding("broker", f"Redis {found.get('redis_version')} at {connection.as_uri()}")
    policy = found.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Finding("broker: eviction", policy)
    else:
        remedy = "Redis may throw messages away when memory gets short: set maxmemory-policy to noeviction."
        yield Finding("broker: eviction", str(policy), Verdict.CHANGE, remedy)


def _check_workers(app: Celery) -> Iterator[Finding]:
    expected = sorted(name for name, task in app.tasks.items() if hasattr(task, "fanout_task"))
    if not expected:
        remedy = "Import the modules of your ForkJoinTask classes with the app (include=[…])."
        yield Finding("tasks", "this app knows no fork-join task", Verdict.CHANGE, remedy)
    stats: Mapping[str, Any] = app.control.inspect(timeout=ANSWER_S).stats() or {}
    if not stats:
        yield Finding("workers", f"none answered within {ANSWER_S:g} s", Verdict.CHANGE, "Start one, or wait for it.")
        return
    # Those who answered will do so again, and need not be waited for longer than it takes.
    inspect = app.control.inspect(destination=sorted(stats), timeout=ANSWER_S, limit=len(stats))
    registered = {name: {task.split()[0] for task in tasks} for name, tasks in (inspect.registered() or {}).items()}
    queues = {name: {q["name"] for q in each} for name, each in (inspect.active_queues() or {}).items()}
    stores = {name: conf.get("fanout_store") for name, conf in (inspect.conf() or {}).items()}
    for worker, about in sorted(stats.items()):
        served = [task for task in expected if _queue_of(app, task) in queues.get(worker, ())]
        unknown = [task for task in served if task not in registered.get(worker, ())]
        yield _check_worker(app, worker, about, served=served, unknown=unknown, store=stores.get(worker))
    everywhere = set().union(*queues.values())
    for queue in sorted({_queue_of(app, task) for task in expected} - everywhere):
        lost = ", ".join(task for task in expected if _queue_of(app, task) == queue)
        remedy = f"Start a worker with --queues {queue}, or correct task_routes."
        yield Finding(f"queue {queue}", f"no worker that answers takes from it: {lost}", Verdict.BROKEN, remedy)


def _check_worker(
    app: Celery, worker: str, about: Mapping[str, Any], *, served: list[str], unknown: list[str], store: str | None
) -> Finding:
    check = f"worker {worker}"
    if unknown:
        remedy = "It throws their messages away: import their modules there, or have it take from other queues."
        return Finding(check, f"does not know {', '.join(unknown)}", Verdict.BROKEN, remedy)
    ours = app.conf.get("fanout_store")
    if store and ours and store.rstrip("/") != ours.rstrip("/"):
        remedy = "Callers and workers must use the same store."
        return Finding(check, f"keeps its jobs in {store}, this app in {ours}", Verdict.BROKEN, remedy)
    pool = str((about.get("pool") or {}).get("implementation", ""))
    if pool and "prefork" not in pool:
        remedy = "Time limits stop a step in the prefork pool only: a chunk that hangs will hang for ever here."
        return Finding(check, f"answers, with the pool {pool}", Verdict.CHANGE, remedy)
    return Finding(check, f"answers, and knows the {len(served)} fork-join tasks of its queues")


def _queue_of(app: Celery, task: str) -> str:
    routed = app.amqp.router.route({}, task)["queue"]
    return str(routed.name if isinstance(routed, Queue) else routed)
