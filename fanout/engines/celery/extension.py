"""The extension that `fanout.connect` adds to a Celery app: the runtime of its jobs, and the tasks that run them."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from celery import Celery, current_task
from celery.exceptions import SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from celery.signals import worker_init, worker_process_shutdown, worker_ready, worker_shutdown

from storage import StorageError, open_verified
from storage import preload as preload_store

from ...background.debouncer import Debouncer
from ...config.checks import check_kind
from ...config.encryption import encrypt_store
from ...config.settings import Config, from_celery, from_environment
from ...declaration.definition import TASKS, Declaration, Registry
from ...errors import ConfigError, JobNotFound
from ...job import Job
from ...listing import find_jobs
from ...records.chunk_ref import ChunkRef
from ...records.failure import add_note, describe_time_limit
from ...redaction import remember
from ...runtime import Runtime
from ...telemetry import load_telemetry
from ...telemetry import preload as preload_telemetry
from .. import local
from .current_app import ATTRIBUTE, CONNECTED, NOT_CONNECTED, unwrap
from .dispatcher import CeleryDispatcher, celery_name
from .intake import IntakeStep
from .listener import forget_result, listener_for, refuse_to_block
from .settings import warn
from .stage_task import StageTask
from .sweeper import SweepTask
from .tasks import JoinTask, ProcessTask, SetupTask

EXIT_FUNCTION = "_shutdown_cleanup"
"""Function of billiard in which a signalled child process raises SystemExit."""

START_HINT = "start a worker with `celery -A … worker`, or let `fanout doctor -A …` find out why"
"""The remedy if no worker begins a job."""


class Extension:
    """fanout's part of a Celery app.

    Args:
        app: The app.
        tasks: The tasks that it runs, including those that are declared later.

    Attributes:
        app: The app.
        pool: The pool of the worker that runs the app in this process; None in a caller.
        warned: Subjects of the warnings that this process has logged, each once.
    """

    def __init__(self, app: Celery, tasks: Registry = TASKS) -> None:
        self.app = app
        self._tasks = tasks
        self._runtime: Runtime | None = None
        self._lock = threading.Lock()
        self.pool: Any = None
        self.warned: set[str] = set()
        app.steps["consumer"].add(IntakeStep)
        app.on_after_finalize.connect(self._on_finalize, weak=False)
        tasks.listen(self._on_declare)

    @property
    def config(self) -> Config:
        """The settings from the app's configuration, then from the environment.

        Raises:
            ConfigError: No store is configured, or a setting is wrong.
        """
        return Config.read(*self._sources)

    @property
    def _sources(self) -> tuple[Mapping[str, Any], ...]:
        return from_celery(self.app.conf), from_environment(os.environ)

    @property
    def signing_keys(self) -> Mapping[str, Any]:
        """The keys by which this process signs messages. Opens no store."""
        runtime = self._runtime
        return (self.config if runtime is None else runtime.config).signing_keys

    @property
    def runtime(self) -> Runtime:
        """The runtime of this app, made at first use: a store's client must be created in the process that uses it."""
        with self._lock:
            if self._runtime is None:
                config = self.config
                conf = self.app.conf
                remember([conf.broker_url, conf.broker_read_url, conf.broker_write_url, conf.result_backend])
                debouncer = Debouncer()
                for signal in (worker_process_shutdown, worker_shutdown):
                    signal.connect(lambda **_: debouncer.flush(), weak=False)
                telemetry = load_telemetry()
                store = encrypt_store(open_verified(config.store, observe=telemetry.observe_store), config)
                self._runtime = Runtime(
                    store,
                    config,
                    CeleryDispatcher(
                        self.app,
                        timeout_s=config.publish_timeout_s,
                        store_url=store.url,
                        has_ended=self._has_ended,
                    ),
                    tasks=self._tasks,
                    on_error=_explain,
                    is_stop=_is_stop,
                    on_removed=lambda job_id: forget_result(self.app, job_id),
                    listener=lambda job_id: listener_for(self.app, job_id),
                    debouncer=debouncer,
                    check_wait=refuse_to_block,
                    telemetry=telemetry,
                    start_hint=START_HINT,
                )
            return self._runtime

    def job(self, job_id: str, *, launch_id: str | None = None) -> Job:
        """Return a `Job`. In eager mode, a retry of it runs in this process."""
        eager = self.app.conf.task_always_eager
        return Job(job_id, local.make_inline_runtime(self.runtime) if eager else self.runtime, launch_id=launch_id)

    def jobs(self, *, tags: Mapping[str, str] | None = None, ended: bool = False) -> Iterator[Job]:
        """Yield the jobs of the store; see `fanout.jobs`."""
        return find_jobs(self.runtime, tags=tags, ended=ended)

    def _has_ended(self, ref: ChunkRef) -> bool:
        """Return whether the job of a chunk is known to have ended. One request."""
        try:
            return self.runtime.job(ref.job_id, ref.launch_id, ref.generation).ledger.has_outcome()
        except JobNotFound:
            return True
        except StorageError:
            return False

    def _on_declare(self, task: Declaration) -> None:
        # A task reads the settings when it is registered, and they may change until the app is finalized.
        if self.app.finalized:  # type: ignore[attr-defined]
            self._register(task)

    def _on_finalize(self, **_: Any) -> None:
        for task in self._tasks:
            self._register(task)
        sweeper = SweepTask.of(lambda: self.runtime)
        self.app.register_task(sweeper)
        every_s = Config.read({"store": "-"}, *self._sources).sweep_every_s
        if every_s is not None:
            # A sweep that no worker has begun when the next one is due need not run.
            self.app.add_periodic_task(every_s, sweeper.s(), name=SweepTask.name, expires=every_s)

    def _register(self, task: Declaration) -> None:
        # Celery tasks find the declaration by name when they run, so a task that is declared anew needs no new ones.
        for stage in (SetupTask, ProcessTask, JoinTask):
            if celery_name(task.name, stage.step) not in self.app.tasks:
                self.app.register_task(stage.of(task.name, lambda: self.runtime, base=self.app.Task))


def connect(app: Celery, *, store: str | None = None, **settings: Any) -> Celery:
    """Let a Celery app launch and run fork-join tasks. Callers and workers both call it; idempotent.

    Args:
        app: The app.
        store: URL of the object store: `s3://bucket/prefix`, with credentials, region and endpoint from boto3's
            own chain and `AWS_ENDPOINT_URL_S3`. If not given, `app.conf.fanout_store` or `FANOUT_STORE` is used.
        **settings: Other fields of `Config`.

    Returns:
        The app.

    Raises:
        ConfigError: A setting has a wrong name, or `app` is no Celery app.
    """
    # A proxy such as `current_app` passes as the app.
    check_kind("app", app, Celery, expected="a Celery app")
    known = set(Config.__dataclass_fields__)
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    app = unwrap(app)
    settings = {name: value for name, value in {"store": store, **settings}.items() if value is not None}
    app.conf.update({f"fanout_{name}": value for name, value in settings.items()})
    if not isinstance(getattr(app, ATTRIBUTE, None), Extension):
        setattr(app, ATTRIBUTE, Extension(app))
    CONNECTED.add(app)
    return app


def extension_of(app: Celery | None = None) -> Extension:
    """Return fanout's part of `app`; if no app is given, of the one that `ConnectedApps.choose` returns.

    Raises:
        ConfigError: The app is not connected, or none is given and several are connected.
    """
    extension = getattr(app if app is not None else CONNECTED.choose(), ATTRIBUTE, None)
    if not isinstance(extension, Extension):
        raise ConfigError(NOT_CONNECTED)
    return extension


def _is_stop(error: BaseException) -> bool:
    """Return whether an error tells this worker to stop, and was not raised by a step of its own accord."""
    if isinstance(error, WorkerShutdown | WorkerTerminate):
        return True
    if type(error).__module__.partition(".")[0] in ("greenlet", "gevent", "eventlet"):
        # A green thread that was ended from outside, for example at a time limit.
        return not isinstance(error, Exception)
    # A signalled child of the pool raises SystemExit in a function of billiard, a step that calls `sys.exit` does not.
    return isinstance(error, SystemExit) and any(
        frame.f_globals.get("__name__", "").partition(".")[0] == "billiard" and frame.f_code.co_name == EXIT_FUNCTION
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def _explain(error: BaseException) -> None:
    """Add a note to an error of Celery's that says how it came about in a fork-join task."""
    if isinstance(error, SoftTimeLimitExceeded) and isinstance(current_task, StageTask):
        limit_s = (current_task.request.timelimit or (None, None))[1] or current_task.soft_time_limit
        add_note(error, describe_time_limit(current_task.step, limit_s or 0.0, setting="task_soft_time_limit"))


@worker_init.connect
def _preload(sender: Any = None, **_: Any) -> None:
    """Import what the first job needs before the pool forks, so that its children need not, each by itself."""
    extension = getattr(getattr(sender, "app", None), ATTRIBUTE, None)
    if isinstance(extension, Extension):
        preload_telemetry()
        # The first job says what is wrong.
        with suppress(ConfigError, StorageError):
            preload_store(extension.config.store)


@worker_ready.connect
def _advise(sender: Any = None, **_: Any) -> None:
    """Log advice on the app's settings when a worker is ready, and remember its pool."""
    app = getattr(sender, "app", None)
    extension = getattr(app, ATTRIBUTE, None)
    if app is not None and isinstance(extension, Extension):
        extension.pool = getattr(sender, "pool", None)
        warn(app)
