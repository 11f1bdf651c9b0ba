"""How handles and joins become Celery messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from kombu.utils import json
from kombu.utils.uuid import uuid

from ...errors import CarrierUnavailable
from ...handle import Handle
from ...records import Intent

STEP_NAMES = {step: f"{{}}.{step}" for step in ("setup", "process", "join")}


RETRY_POLICY = {"max_retries": 30, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 2.0}
"""A message is offered to a broker that restarts for about a minute; times in seconds."""


def celery_name(task: str, step: str) -> str:
    """Name of the Celery task that runs one step of a task; what `task_routes` and monitors see."""
    return STEP_NAMES[step].format(task)


class CeleryCarrier:
    """Sends by name, so that a process that sweeps need not have the task's module imported."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send_setup(self, job_id: str, intent: Intent) -> None:
        launch: dict[str, Any] = json.loads(intent.launch) if intent.launch else {"task_id": job_id}
        self._send(celery_name(intent.task, "setup"), (), {}, **launch)

    def send_chunks(self, task: str, handles: Sequence[Handle]) -> None:
        # The messages of a Canvas group, without `group.apply_async`: that subscribes this worker to the result of
        # every member, one round trip each, although nobody will ever ask for one.
        name, wave = celery_name(task, "process"), uuid()
        with self._app.producer_or_acquire() as producer:
            for index, handle in enumerate(handles):
                self._send(
                    name,
                    handle.to_row(),
                    {},
                    producer=producer,
                    group_id=wave,
                    group_index=index,
                    ignore_result=True,
                    argsrepr=f"(chunk {handle.chunk})",
                )

    def send_join(self, job_id: str, task: str, continuation: str | None, *, again: bool) -> None:
        options: dict[str, Any] = json.loads(continuation) if continuation else {"task_id": job_id}
        self._send(celery_name(task, "join"), (job_id,), {"again": True} if again else {}, **options)

    def _send(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], **options: Any) -> None:
        options = {"serializer": "json", "retry": True, "retry_policy": RETRY_POLICY, **options}
        try:
            self._app.send_task(name, list(args), kwargs, add_to_parent=False, **options)
        except OperationalError as error:
            raise CarrierUnavailable(f"the broker takes no messages: {error}") from error
