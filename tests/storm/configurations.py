"""The configurations."""

from __future__ import annotations

from .configuration import QUEUE, Configuration
from .matrix import MATRIX, NO_RESULTS, QUORUM
from .routing import on_failure

EAGER = "no worker runs a job"
ONE_PROCESS = "this pool has no children"

_KILLS = ("kill process", "kill setup", "kill join", "kill worker", "cut")

CONFIGURATIONS: tuple[Configuration, ...] = (
    Configuration(name="recommended", why="`fanout.RECOMMENDED`, and nothing else."),
    Configuration(
        name="bare", why="Celery's own defaults: most apps, before they read our documentation.", recommended=False
    ),
    # Sources of the settings.
    Configuration(
        name="django",
        why="A settings module with `namespace='CELERY'`, the store in it, and `autodiscover_tasks`: Django projects.",
        style="namespace",
    ),
    Configuration(
        name="flask",
        why="A `task_cls` that puts the application's context around each task: Flask's documentation says so.",
        style="flask",
        active="default",
        own=("context",),
    ),
    Configuration(
        name="second app, unconnected",
        why="Another Celery app is made later in the caller's process, by a library that it uses.",
        other_app="unconnected",
    ),
    Configuration(
        name="second app, connected",
        why="One process launches jobs of two apps, each with a store of its own; the one that is meant is current.",
        other_app="connected",
    ),
    Configuration(
        name="not the current app",
        why="`Celery(set_as_current=False)`: libraries, and tests with several apps.",
        active="neither",
    ),
    # Callers.
    Configuration(
        name="threads",
        why="A threaded server (`runserver`, Flask) or a pool of threads launches jobs.",
        caller="threads",
    ),
    Configuration(
        name="threads, set_default",
        why="The same with `app.set_default()`, as Celery advises for threads.",
        active="default",
        caller="threads",
    ),
    Configuration(name="gthread", why="Gunicorn with threads (`-k gthread`) launches jobs.", caller="gthread"),
    Configuration(
        name="asyncio", why="FastAPI and Starlette: uvicorn launches jobs by `asyncio.to_thread`.", caller="asyncio"
    ),
    Configuration(name="event loop", why="An `async def` view calls `submit` and `get` directly.", caller="loop"),
    Configuration(
        name="eager caller",
        why="`task_always_eager` in a test suite or a shell: jobs run in the caller.",
        caller_settings={"task_always_eager": True, "task_store_eager_result": True},
        without={**dict.fromkeys((*_KILLS, "in force"), EAGER)},
    ),
    # Monitoring.
    Configuration(
        name="events",
        why="Flower and exporters of metrics: `worker_send_task_events` and `task_send_sent_event`.",
        settings={"worker_send_task_events": True, "task_send_sent_event": True},
        own=("events",),
    ),
    Configuration(
        name="tracking",
        why="Dashboards over the result backend: `task_track_started` and `result_extended`.",
        settings={"task_track_started": True, "result_extended": True},
        own=("extended",),
    ),
    Configuration(
        name="root logger",
        why="`worker_hijack_root_logger = False`: the app configures its logging by itself.",
        settings={"worker_hijack_root_logger": False, "worker_redirect_stdouts": False},
    ),
    Configuration(
        name="remote tracebacks",
        why="`task_remote_tracebacks` with tblib installed: errors keep the worker's frames.",
        settings={"task_remote_tracebacks": True},
    ),
    # Queues and routes.
    Configuration(
        name="explicit queues",
        why="`task_create_missing_queues = False` with `task_queues`: brokers whose queues are made by operators.",
        settings={
            "task_create_missing_queues": False,
            "task_queues": {
                QUEUE: {"exchange": "storm-jobs", "exchange_type": "direct", "routing_key": "jobs"},
                "storm-mail": {"exchange": "storm-mail", "exchange_type": "direct", "routing_key": "mail"},
            },
        },
    ),
    Configuration(
        name="topic exchange",
        why="A topic exchange with routing keys of its own as the default, shared with other services.",
        settings={
            "task_default_exchange": "storm-company",
            "task_default_exchange_type": "topic",
            "task_default_routing_key": "company.jobs",
        },
    ),
    Configuration(
        name="quorum queues",
        why="Replicated queues: `task_default_queue_type = 'quorum'` with `worker_detect_quorum_queues`.",
        settings=QUORUM,
        own=("quorum",),
    ),
    Configuration(
        name="priorities",
        why="`task_queue_max_priority`, `task_default_priority` and `task_inherit_parent_priority`.",
        settings={"task_queue_max_priority": 10, "task_default_priority": 5, "task_inherit_parent_priority": True},
        own=("priority",),
    ),
    Configuration(
        name="glob routes",
        why="A queue for each kind of step, by glob patterns in `task_routes`.",
        settings={"task_routes": {"*.setup": {"queue": "storm-setups"}, "*.process": {"queue": "storm-chunks"}}},
        queues=f"{QUEUE},storm-setups,storm-chunks",
        own=("routes",),
    ),
    Configuration(
        name="routers",
        why="A list of routers: a function, a class with `route_for_task`, and a dict.",
        settings={
            "task_routes": [
                "tests.storm.routing.by_function",
                "tests.storm.routing.ByClass",
                {"*.setup": {"queue": "storm-setups"}},
            ]
        },
        queues=f"{QUEUE},storm-setups,storm-chunks,storm-joins",
        own=("routes",),
    ),
    # Brokers.
    Configuration(
        name="list of brokers",
        why="`broker_url` is a list for failover, and its first entry does not answer.",
        broker="dead-first",
    ),
    Configuration(
        name="cancel on connection loss",
        why="`worker_cancel_long_running_tasks_on_connection_loss`, which Celery advises with late acknowledgement.",
        settings={"worker_cancel_long_running_tasks_on_connection_loss": True},
    ),
    Configuration(
        name="no broker pool",
        why="`broker_pool_limit = None`: behind pgbouncer-like proxies, uwsgi.",
        settings={"broker_pool_limit": None},
    ),
    Configuration(
        name="broker pool of one",
        why="`broker_pool_limit = 1`: brokers with few connections.",
        settings={"broker_pool_limit": 1},
    ),
    Configuration(
        name="no publish retry",
        why="`task_publish_retry = False`: web requests that must not wait.",
        settings={"task_publish_retry": False},
    ),
    Configuration(
        name="redis",
        why="Redis as the broker, too, with Celery's defaults.",
        broker="redis",
        recommended=False,
        without={"cut": "closes connections of RabbitMQ"},
    ),
    Configuration(
        name="key prefixes",
        why="A Redis that several apps share: `global_keyprefix` for broker and results.",
        broker="redis",
        settings={
            "broker_transport_options": {"global_keyprefix": "{shop}:", "visibility_timeout": 3600},
            "result_backend_transport_options": {"global_keyprefix": "shop-results:"},
        },
        own=("prefixes",),
        without={"cut": "closes connections of RabbitMQ"},
    ),
    # Acknowledgement.
    Configuration(
        name="early acknowledgement",
        why="`task_annotations` for `*` that take late acknowledgement away from every task.",
        settings={"task_acks_late": False, "task_annotations": {"*": {"acks_late": False}}},
    ),
    Configuration(
        name="nothing comes back",
        why="The same, with `reject_on_worker_lost` and `acks_on_failure_or_timeout` turned round as well.",
        settings={
            "task_acks_late": True,
            "task_reject_on_worker_lost": False,
            "task_acks_on_failure_or_timeout": False,
            "task_annotations": {"*": {"reject_on_worker_lost": False, "acks_on_failure_or_timeout": False}},
        },
    ),
    Configuration(
        name="late acknowledgement",
        why="`task_acks_late`, `task_reject_on_worker_lost` and `worker_deduplicate_successful_tasks` for all tasks.",
        settings={
            "task_acks_late": True,
            "task_reject_on_worker_lost": True,
            "worker_deduplicate_successful_tasks": True,
        },
    ),
    Configuration(
        name="annotations",
        why="Hooks, retries and limits that `task_annotations` put on all tasks.",
        settings={
            "task_annotations": {
                "*": {
                    "max_retries": 0,
                    "default_retry_delay": 1,
                    "rate_limit": "200/s",
                    "ignore_result": False,
                    "on_failure": on_failure,
                },
            }
        },
    ),
    # Messages.
    Configuration(
        name="protocol 1",
        why="`task_protocol = 1`: workers of another age read the same queues.",
        settings={"task_protocol": 1},
        without={"chord": "Celery's first protocol does not carry the order of a chord's members"},
    ),
    Configuration(name="protocol 2", why="`task_protocol = 2`, said explicitly.", settings={"task_protocol": 2}),
    Configuration(
        name="compression",
        why="`task_compression` and `result_compression`.",
        settings={"task_compression": "gzip", "result_compression": "gzip"},
    ),
    Configuration(
        name="pickle",
        why="Pickle for tasks and results: older apps, which pass objects around.",
        settings={
            "task_serializer": "pickle",
            "result_serializer": "pickle",
            "accept_content": ["json", "pickle"],
        },
    ),
    Configuration(
        name="zone",
        why="`enable_utc = False` with a `timezone`.",
        settings={"enable_utc": False, "timezone": "Asia/Kathmandu"},
        own=("countdown",),
    ),
    # Results.
    Configuration(
        name="results by rpc",
        why="`rpc://`: results are messages to the caller.",
        backend="rpc",
        without={"chord": NO_RESULTS, "chord fails": NO_RESULTS},
    ),
    Configuration(name="results in files", why="A directory as the result backend.", backend="file"),
    Configuration(
        name="no results",
        why="No result backend at all.",
        backend="none",
        without={"chord": NO_RESULTS, "chord fails": NO_RESULTS},
    ),
    Configuration(
        name="ignore results",
        why="`task_ignore_result` with `task_store_errors_even_if_ignored`.",
        settings={"task_ignore_result": True, "task_store_errors_even_if_ignored": True},
    ),
    Configuration(name="results expire", why="`result_expires` of a few seconds.", settings={"result_expires": 5}),
    # Workers.
    Configuration(
        name="prefetch 4",
        why="`worker_prefetch_multiplier = 4`, which is Celery's default.",
        settings={"worker_prefetch_multiplier": 4},
    ),
    Configuration(
        name="prefetch without limit",
        why="`worker_prefetch_multiplier = 0`: a worker takes all that there is.",
        settings={"worker_prefetch_multiplier": 0},
    ),
    Configuration(
        name="short-lived children",
        why="`worker_max_tasks_per_child`, and a low one: libraries that leak memory.",
        settings={"worker_max_tasks_per_child": 20},
    ),
    Configuration(
        name="slow machines",
        why="`worker_proc_alive_timeout` and `worker_max_memory_per_child`: containers with little CPU and memory.",
        settings={"worker_proc_alive_timeout": 30.0, "worker_max_memory_per_child": 400_000},
    ),
    Configuration(
        name="rate limit",
        why="`task_default_rate_limit`: every task has one, ours as well.",
        settings={"task_default_rate_limit": "50/s"},
    ),
    Configuration(
        name="time limits",
        why="`task_time_limit` and `task_soft_time_limit` of an app with short tasks.",
        settings={"task_time_limit": 20, "task_soft_time_limit": 15},
    ),
    Configuration(
        name="no remote control",
        why="`worker_enable_remote_control = False`, no heartbeats: many workers on one small broker.",
        settings={"worker_enable_remote_control": False, "broker_heartbeat": 0},
        args=("--without-gossip", "--without-mingle", "--without-heartbeat"),
    ),
    Configuration(
        name="gossip", why="`celery worker` without any option, and autoscaling.", args=("--autoscale", "2,1")
    ),
    Configuration(
        name="pool of threads", why="`--pool threads`: steps that wait for input and output.", pool="threads"
    ),
    Configuration(name="solo pool", why="`--pool solo`: one container for each task at a time.", pool="solo"),
    Configuration(name="gevent", why="`--pool gevent`: many steps that wait for the network.", pool="gevent"),
)

DIAGONAL: dict[str, tuple[str, ...]] = {
    "django": ("article", "kill process"),
    "flask": ("context", "chain"),
    "second app, unconnected": ("chord fails",),
    "gthread": ("chord", "errback"),
    "asyncio": ("stream",),
    "events": ("stream", "events"),
    "quorum queues": ("quorum", "cut"),
    "priorities": ("priority", "group"),
    "routers": ("routes", "kill setup"),
    "list of brokers": ("callback", "kill worker"),
    "key prefixes": ("prefixes", "kill join"),
    "ignore results": ("errback", "chain"),
    "pickle": ("chain", "callback"),
}
"""Configurations and cases for `make test`. They cover each case and each kind of setting within a minute."""


def find_configuration(name: str) -> Configuration:
    """Return the configuration of that name.

    Raises:
        KeyError: No configuration has the name.
    """
    return {configuration.name: configuration for configuration in (*CONFIGURATIONS, *MATRIX)}[name]
