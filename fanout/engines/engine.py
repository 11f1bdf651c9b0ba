"""The face of an engine, for `Task.submit(…, engine=…)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..config.checks import check_flag
from ..declaration.definition import Declaration
from ..errors import ConfigError
from ..job import Job

if TYPE_CHECKING:
    from celery import Celery


class Engine(Protocol):
    """A way to run jobs, such as `DaskEngine`, `RayEngine` or `StubEngine`."""

    def submit(
        self,
        task: Declaration,
        values: Mapping[str, Any],
        *,
        job_id: str | None = None,
        setup_in_caller: bool = False,
        tags: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Job[Any]:
        """Launch a job: write its intent, and send the message of setup or run setup here.

        Args:
            task: The task.
            values: Its input by name. If a value is an iterator, setup runs in this process.
            job_id: Its id; a new one if not given. A second submission under it gives the same job.
            setup_in_caller: Whether to run setup in this process in any case.
            tags: Names and texts by which the job is found again.
            **options: See `Options`.
        """


def launch(
    task: Declaration,
    values: Mapping[str, Any],
    *,
    engine: Engine | None,
    app: Celery | None,
    send_options: Mapping[str, Any] | None,
    job_id: str | None,
    setup_in_caller: bool,
    tags: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> Job[Any]:
    """Launch a job over an engine, or over Celery if none is given; see `ForkJoinTask.submit`.

    Raises:
        ConfigError: An engine is given, and an argument that only Celery has.
    """
    check_flag("setup_in_caller", setup_in_caller)
    if engine is not None and not callable(getattr(engine, "submit", None)):
        raise ConfigError(f"engine must be one such as DaskEngine(…) or RayEngine(…), not {engine!r:.80}")
    if engine is None:
        from . import celery

        return celery.submit(
            task,
            values,
            job_id=job_id,
            setup_in_caller=setup_in_caller,
            app=app,
            send_options=send_options,
            tags=tags,
            options=options,
        )
    celerys = {"app": app, "send_options": send_options}
    given = [name for name, value in celerys.items() if value is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)}: only Celery has that; leave it out, or leave out engine=")
    return engine.submit(task, values, job_id=job_id, setup_in_caller=setup_in_caller, tags=tags, **options)
