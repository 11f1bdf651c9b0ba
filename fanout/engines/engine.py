"""The face of an engine, for `Task.submit(…, engine=…)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..declaration.definition import Declaration
from ..errors import ConfigError
from ..job import Job


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


def submit_to(
    engine: Engine,
    task: Declaration,
    values: Mapping[str, Any],
    *,
    celerys: Mapping[str, Any],
    launch: Mapping[str, Any],
) -> Job[Any]:
    """Launch a job over an engine that is not Celery.

    Args:
        engine: The engine.
        task: The task.
        values: Its input by name.
        celerys: Arguments that only Celery has, by name; None for those that are not given.
        launch: The arguments of `Engine.submit`.

    Raises:
        ConfigError: An argument of Celery's is given.
    """
    given = [name for name, value in celerys.items() if value is not None]
    if given:
        raise ConfigError(f"{' and '.join(given)}: only Celery has that; leave it out, or leave out engine=")
    return engine.submit(task, values, **launch)
