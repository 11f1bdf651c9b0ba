"""Fork-join tasks for Celery whose data stays off the broker.

    from fanout import ForkJoinTask, connect

Write a task (`ForkJoinTask`, or `fork_join` for loose functions), `connect` a Celery app to an object store, and run
it: `Task.run(…)` here, `Task.signature(…)` in any Canvas, `Task.submit(…)` for a `Job` to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import storage

# `storage` is a common name. Another module of that name in front of ours on sys.path would fail much later, far from
# the cause.
if not hasattr(storage, "ObjectStore") or not hasattr(storage, "PackWriter"):
    raise ImportError(
        f"fanout needs its own package `storage`, but Python found another one at "
        f"{getattr(storage, '__file__', None) or list(getattr(storage, '__path__', []))}. "
        "Rename that module, or put it behind fanout's on sys.path."
    )

from . import sinks, sources
from .config.settings import RECOMMENDED, Config, Options
from .current_step import CurrentStep, current
from .declaration.value_types import register_type
from .engines.store_only import AttachedStore
from .errors import (
    BrokerUnavailable,
    ConfigError,
    DeclarationError,
    EngineLost,
    FanoutError,
    InvalidInput,
    InvalidItem,
    InvalidLocation,
    JobCancelled,
    JobConflict,
    JobFailed,
    JobNotFound,
    JobTimeout,
    NotAllowed,
    NotInStep,
    RetryRefused,
    SinkConflict,
    SourceChanged,
    SourceDamaged,
    SourceMissing,
    UnknownTask,
    UnwritableRow,
)
from .job import Job
from .logs import StepFilter
from .loose_functions import fork_join
from .memory import MemoryLimitExceeded
from .plan import Plan
from .prices import Prices
from .progress import JobState, Progress
from .records.failure import FailedItem
from .results import Results
from .task import ForkJoinTask

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery import Celery

    from .engines.celery import Extension

__version__ = "0.1.0"

__all__ = [
    "RECOMMENDED",
    "BrokerUnavailable",
    "Config",
    "ConfigError",
    "CurrentStep",
    "DeclarationError",
    "EngineLost",
    "FailedItem",
    "FanoutError",
    "ForkJoinTask",
    "InvalidInput",
    "InvalidItem",
    "InvalidLocation",
    "Job",
    "JobCancelled",
    "JobConflict",
    "JobFailed",
    "JobNotFound",
    "JobState",
    "JobTimeout",
    "MemoryLimitExceeded",
    "NotAllowed",
    "NotInStep",
    "Options",
    "Plan",
    "Prices",
    "Progress",
    "Results",
    "RetryRefused",
    "SinkConflict",
    "SourceChanged",
    "SourceDamaged",
    "SourceMissing",
    "StepFilter",
    "UnknownTask",
    "UnwritableRow",
    "attach",
    "connect",
    "current",
    "fork_join",
    "jobs",
    "register_type",
    "resolve",
    "sinks",
    "sources",
]


def connect(app: Celery, *, store: str | None = None, **settings: Any) -> Celery:
    """Let a Celery app launch and run fork-join tasks. Callers and workers both need it.

    Args:
        app: The app.
        store: URL of the object store, such as `s3://bucket/prefix`. If not given, `app.conf.fanout_store` or the
            environment's `FANOUT_STORE` says it.
        **settings: Other fields of `Config`.

    Returns:
        The app.

    Raises:
        ConfigError: A setting has a wrong name.
    """
    from .engines import celery

    return celery.connect(app, store=store, **settings)


def attach(job_id: str, *, app: Celery | None = None, store: str | None = None) -> Job[Any]:
    """Return the handle of a job that another process launched. No request.

    Args:
        job_id: The job's id.
        app: The Celery app; if not given, the one that is connected, or of several the current one.
        store: URL of the job's store: attach with the store alone, without an app and without an engine. Such a handle
            sends no messages: its waits don't sweep, and a retry begins with the next sweep of the job's engine.

    Raises:
        ConfigError: The app is not connected, or no store is configured; or both `app` and `store` are given.
    """
    return _holder_of("attach", app, store).job(job_id)


def jobs(
    *, tags: Mapping[str, str] | None = None, ended: bool = False, app: Celery | None = None, store: str | None = None
) -> Iterator[Job[Any]]:
    """Yield the handles of the open jobs in the store, or of the jobs with some tags. The latest launch comes first.

    A job is open from its launch, or its retry, until its outcome was delivered. Costs one request per 1,000 open
    jobs, or per 1,000 jobs with a tag, and asks about no single job. So a job may have ended or been removed since.

    Args:
        tags: Names and texts: yield the jobs that were launched with all of these tags, open or ended.
        ended: Whether to yield all jobs, in the order of their ids. One request per 1,000 objects, and at most two per
            job.
        app: The Celery app; if not given, the one that is connected, or of several the current one.
        store: URL of the store of the jobs, without an app and without an engine; see `attach`.

    Raises:
        ConfigError: The app is not connected, no store is configured, or a tag can't be one; or both `app` and `store`
            are given.
    """
    return _holder_of("jobs", app, store).jobs(tags=tags, ended=ended)


def resolve(value: Any, *, app: Celery | None = None) -> Any:
    """Return the job's value that a Celery task or `AsyncResult.get` received, fetched if it was too large to travel.

    Args:
        value: The received value; returned unchanged if it is no reference.
        app: The Celery app; if not given, the one that is connected, or of several the current one.

    Raises:
        ConfigError: The app is not connected, or no store is configured.
        LookupError: The job has been removed.
    """
    from .engines import celery

    return celery.resolve(value, celery.extension_of(app).runtime)


def _holder_of(function: str, app: Celery | None, store: str | None) -> Extension | AttachedStore:
    """Return what gives handles of jobs: a store alone, or else an app.

    Raises:
        ConfigError: Both are given, or the app is not connected.
    """
    if store is not None:
        if app is not None:
            raise ConfigError(f"give {function} an app or a store, not both: an app has a store")
        return AttachedStore(store)
    from .engines import celery

    return celery.extension_of(app)
