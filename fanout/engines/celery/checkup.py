"""The findings of `fanout doctor` on a Celery app: its settings, its broker, and the workers that answer."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from amqp.exceptions import NotFound, PreconditionFailed
from celery import Celery
from celery.backends.base import DisabledBackend
from kombu import Connection, Queue

from storage import Finding, Verdict

from ...config.settings import CONSUMER_TIMEOUT_S
from ...figures import format_count
from ...redaction import redact
from .publishing.connection import bound_waits
from .settings import advice, broker_waits_s, default_limit_s

ANSWER_S = 2.0
"""Seconds that workers have to answer."""

_ASK_RABBITMQ = "rabbitmqctl eval 'application:get_env(rabbit, consumer_timeout).'"


def check_app(app: Celery) -> Iterator[Finding]:
    """Yield findings on an app's settings, broker, queues and workers. Changes nothing; takes some seconds."""
    app.finalize()
    yield from check_settings(app)
    for_write, for_read = app.connection_for_write(), app.connection_for_read()
    # Compared first: a check moves a connection along its hosts.
    is_one_broker = for_read.as_uri() == for_write.as_uri()
    is_reachable = yield from _check_connection(app, for_write)
    if not is_one_broker:
        is_reachable = (yield from _check_connection(app, for_read)) and is_reachable
    if is_reachable:
        yield from _check_workers(app)


def _check_connection(app: Celery, connection: Connection) -> Generator[Finding, None, bool]:
    """Yield findings on a broker, and on each failover URL. Return whether the broker answers."""
    # Copied first: the connection itself moves along its list of failover URLs.
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
                yield Finding(f"broker: reachable ({place} of {len(others)})", redact(str(other.as_uri())))
    return True


def _unreachable(connection: Connection, error: Exception, verdict: Verdict, which: str = "") -> Finding:
    return Finding(
        f"broker: reachable{which}",
        redact(f"{connection.as_uri()}: {error or type(error).__name__}"),
        verdict,
        "Start it, or correct broker_url and the credentials in it.",
    )


def check_settings(app: Celery) -> Iterator[Finding]:
    """Yield findings on the settings and on the result backend. Asks no server."""
    entries = advice(app)
    for entry in entries:
        remedy = f"Should be {entry.wanted}: or {entry.danger}."
        yield Finding(f"setting {entry.setting}", f"{entry.found!r}", Verdict.CHANGE, remedy)
    if not entries:
        yield Finding("settings", "all as fork-join jobs need them")
    backend = app.backend
    if isinstance(backend, DisabledBackend):
        yield Finding("result backend", "none, and none is needed: but AsyncResult.get and chords of jobs need one")
    else:
        yield Finding("result backend", redact(str(backend.as_uri())))


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
        f"unknown, since AMQP does not report it; RabbitMQ's default is {CONSUMER_TIMEOUT_S * 1000} ms, and workers "
        f"stop steps after {limit_s:g} s",
        Verdict.UNKNOWN,
        f"On RabbitMQ's host, check that it is longer than that: {_ASK_RABBITMQ}",
    )


def _check_queue(connection: Connection, queue: Queue) -> Finding:
    """Report whether a queue exists, and is as the app declares it. Declares no queue that does not exist."""
    check = f"queue {queue.name}"
    kind = (queue.queue_arguments or {}).get("x-queue-type", "classic")
    try:
        # no limit: `bound_waits` gives it one
        with connection.channel() as channel:
            declared: Any = queue(channel).queue_declare(passive=True)
    except NotFound:
        return Finding(check, f"does not exist yet; the first worker declares it, as {kind}")
    try:
        # no limit: `bound_waits` gives it one
        with connection.channel() as channel:
            # As a worker does when it starts. RabbitMQ only compares the arguments of an existing queue.
            queue(channel).queue_declare()
    except PreconditionFailed as error:
        return Finding(
            check,
            str(error.reply_text),
            Verdict.BROKEN,
            "Workers can't start: make task_queues (or task_default_queue_type) match the queue, or delete it.",
        )
    waiting = format_count(declared.message_count, "waiting message")
    return Finding(check, f"{kind}, {waiting}, {format_count(declared.consumer_count, 'consumer')}")


def _check_redis(connection: Connection) -> Iterator[Finding]:
    client: Any = connection.default_channel.client  # type: ignore[attr-defined]
    info = client.info()
    yield Finding("broker", f"Redis {info.get('redis_version')} at {connection.as_uri()}")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Finding("broker: eviction", policy)
    else:
        remedy = "Redis may discard messages when memory is short: set maxmemory-policy to noeviction."
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
    # The same workers answer again, so these calls return as soon as all have.
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
        unserved = ", ".join(task for task in expected if _queue_of(app, task) == queue)
        remedy = f"Start a worker with --queues {queue}, or correct task_routes."
        yield Finding(f"queue {queue}", f"no worker that answers consumes from it: {unserved}", Verdict.BROKEN, remedy)


def _check_worker(
    app: Celery, worker: str, about: Mapping[str, Any], *, served: list[str], unknown: list[str], store: str | None
) -> Finding:
    check = f"worker {worker}"
    if unknown:
        remedy = "It discards their messages: import their modules there, or have it consume from other queues."
        return Finding(check, f"does not know {', '.join(unknown)}", Verdict.BROKEN, remedy)
    own_store = app.conf.get("fanout_store")
    if store and own_store and store.rstrip("/") != own_store.rstrip("/"):
        remedy = "Callers and workers must use the same store."
        return Finding(check, f"uses the store {store}, this app {own_store}", Verdict.BROKEN, remedy)
    pool = str((about.get("pool") or {}).get("implementation", ""))
    if pool and "prefork" not in pool:
        remedy = "Only the prefork pool stops a step at its time limit: in this pool, a chunk that hangs never ends."
        return Finding(check, f"answers, with the pool {pool}", Verdict.CHANGE, remedy)
    return Finding(check, f"answers, and knows the {len(served)} fork-join tasks of its queues")


def _queue_of(app: Celery, task: str) -> str:
    routed = app.amqp.router.route({}, task)["queue"]
    return str(routed.name if isinstance(routed, Queue) else routed)
