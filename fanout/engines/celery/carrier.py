"""How handles and joins become Celery messages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from typing import Any, cast

from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.utils import json
from kombu.utils.uuid import uuid

from ...errors import CarrierUnavailable
from ...handle import Handle
from ...records import Intent
from .elsewhere import store_header
from .wave import Refused, Wave, is_confirmed

_LOG = logging.getLogger("fanout")

STEP_NAMES = {step: f"{{}}.{step}" for step in ("setup", "process", "join")}


RETRY_POLICY = {"max_retries": 30, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 2.0}
"""A message is offered to a broker that restarts for about a minute; times in seconds."""


def celery_name(task: str, step: str) -> str:
    """Name of the Celery task that runs one step of a task; what `task_routes` and monitors see."""
    return STEP_NAMES[step].format(task)


class CeleryCarrier:
    """Sends by name, so that a process that sweeps need not have the task's module imported."""

    def __init__(self, app: Celery, *, store_url: str = "") -> None:
        self._app = app
        self._store_url = store_url

    def send_setup(self, job_id: str, intent: Intent, *, round: int = 0) -> None:
        launch: dict[str, Any] = json.loads(intent.launch) if intent.launch else {"task_id": job_id, **intent.routing}
        self._send(celery_name(intent.task, "setup"), (), _said(round=round), **launch)

    def send_chunks(self, task: str, handles: Sequence[Handle], *, routing: Mapping[str, Any] | None = None) -> None:
        # The messages of a Canvas group, without `group.apply_async`: that subscribes this worker to the result of
        # every member, one round trip each, although nobody will ever ask for one.
        group = uuid()
        options = dict(routing or {})
        with self._app.producer_or_acquire() as producer:
            left: Iterable[int] = range(len(handles))
            if len(handles) > 1 and is_confirmed(producer.connection):
                _open(producer.connection)
                left = self._send_wave(task, handles, group, producer.connection, options)
            for index in left:
                self._send_chunk(task, handles[index], group, index, **options, producer=producer)

    def _send_wave(
        self, task: str, handles: Sequence[Handle], group: str, connection: Connection, options: Mapping[str, Any]
    ) -> list[int]:
        """Send these chunks without waiting for each; return those that are to be sent once more, patiently."""
        lost = cast(Any, (*connection.connection_errors, *connection.channel_errors, CarrierUnavailable, Refused))
        first_unsent = 0
        wave: Wave | None = None
        try:
            with closing(Wave(connection)) as wave:
                for index, handle in enumerate(handles):
                    self._send_chunk(task, handle, group, index, **options, producer=wave.producer, retry=False)
                    first_unsent = index + 1
                    wave.sent(index)
                wave.settle()
        except lost as error:
            _LOG.warning("the broker did not confirm all chunks, the others are sent again: %s", error)
            connection.collect()
        return sorted((wave.unconfirmed if wave else set()) | set(range(first_unsent, len(handles))))

    def _send_chunk(self, task: str, handle: Handle, group: str, index: int, **options: Any) -> None:
        self._send(
            celery_name(task, "process"),
            handle.to_row(),
            {},
            group_id=group,
            group_index=index,
            ignore_result=True,
            argsrepr=f"(chunk {handle.chunk})",
            **options,
        )

    def send_join(
        self,
        job_id: str,
        task: str,
        continuation: str | None,
        *,
        again: bool,
        round: int = 0,
        routing: Mapping[str, Any] | None = None,
    ) -> None:
        following: dict[str, Any] = json.loads(continuation) if continuation else {"task_id": job_id}
        options = {**(routing or {}), **following}
        self._send(celery_name(task, "join"), (job_id,), _said(again=again, round=round), **options)

    def _send(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], **options: Any) -> None:
        options = {"serializer": "json", "retry": True, "retry_policy": RETRY_POLICY, **options}
        options["headers"] = {**(options.get("headers") or {}), **store_header(self._store_url)}
        try:
            self._app.send_task(name, list(args), kwargs, add_to_parent=False, **options)
        except OperationalError as error:
            raise CarrierUnavailable(f"the broker takes no messages: {error}") from error


def _said(**arguments: Any) -> dict[str, Any]:
    """Those arguments that say something."""
    return {name: value for name, value in arguments.items() if value}


def _open(connection: Connection) -> None:
    """Open a connection of the pool's that was given up while the broker was away; a new channel alone does not."""
    try:
        connection.ensure_connection(**RETRY_POLICY)  # type: ignore[arg-type]
    except OperationalError as error:
        raise CarrierUnavailable(f"the broker takes no messages: {error}") from error
