"""How handles and joins become Celery messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.utils import json
from kombu.utils.uuid import uuid

from ...records.chunk_ref import ChunkRef
from ...records.models import Intent
from .publishing.publish import Message, Patience, offer
from .store_mismatch import store_header

STEP_NAMES = {step: f"{{}}.{step}" for step in ("setup", "process", "join")}

SETUP_WAITS_S = 600.0
"""For how long a setup waits in its worker while a queue is full or RabbitMQ blocks publishers: to give up is to begin
anew. Well below the time for which a broker waits for setup's own message."""

STAGE_WAITS_S = 10.0
"""The same for process and join, which a queue may be waiting for: to give up is to be delivered again."""


def celery_name(task: str, step: str) -> str:
    """Name of the Celery task that runs one step of a task; what `task_routes` and monitors see."""
    return STEP_NAMES[step].format(task)


class CeleryDispatcher:
    """Sends by name, so that a process that sweeps need not have the task's module imported.

    Args:
        app: The app.
        timeout_s: For how long a message is offered to a broker that does not take it.
        store_url: The store of this process, which its messages name.
        ended: Tells whether the job of a chunk has ended, so that its chunks need not be sent.
    """

    def __init__(
        self,
        app: Celery,
        *,
        timeout_s: float,
        store_url: str = "",
        ended: Callable[[ChunkRef], bool] = lambda ref: False,
    ) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._store_url = store_url
        self._ended = ended

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        launch: dict[str, Any] = json.loads(intent.launch) if intent.launch else {"task_id": job_id, **intent.routing}
        said = _said(launch_id=intent.launch_id, generation=generation, resent=resent)
        self._send([self._message(celery_name(intent.task, "setup"), (), said, launch)])

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        # The messages of a Canvas group, without `group.apply_async`: that subscribes this worker to the result of
        # every member, one round trip each, although nobody will ever ask for one.
        name, group = celery_name(intent.task, "process"), uuid()
        self._send(
            [
                self._message(
                    name,
                    ref.to_row(),
                    {},
                    {
                        **intent.routing,
                        "task_id": uuid(),
                        "group_id": group,
                        "group_index": index,
                        "ignore_result": True,
                        "argsrepr": f"(chunk {ref.chunk})",
                    },
                )
                for index, ref in enumerate(refs)
            ],
            needless=lambda: self._ended(refs[0]),
        )

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        following: dict[str, Any] = json.loads(continuation) if continuation else {"task_id": job_id}
        said, options = (
            _said(launch_id=intent.launch_id, resent=resent, generation=generation),
            {**intent.routing, **following},
        )
        self._send([self._message(celery_name(intent.task, "join"), (job_id,), said, options)])

    def _message(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], options: Mapping[str, Any]) -> Message:
        # How often a launch was to be tried is nothing to those who send it again.
        options = {"serializer": "json", **options, "retry": False, "retry_policy": None, "add_to_parent": False}
        options["headers"] = {**(options.get("headers") or {}), **store_header(self._store_url)}
        send = partial(self._publish, name, list(args), kwargs, options)
        return Message(options["task_id"], name, options, send)

    def _publish(
        self, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any], producer: Producer
    ) -> None:
        self._app.send_task(name, args, kwargs, producer=producer, **options)

    def _send(self, messages: Sequence[Message], needless: Callable[[], bool] = lambda: False) -> None:
        offer(self._app, messages, _patience(self._app, self._timeout_s), needless=needless)


def _said(**arguments: Any) -> dict[str, Any]:
    """Those arguments that say something."""
    return {name: value for name, value in arguments.items() if value}


def _patience(app: Celery, timeout_s: float) -> Patience:
    """For how long to offer messages: a caller and a sweep wait for `timeout_s`, stages in a worker as they can.

    Args:
        app: The app.
        timeout_s: Seconds for which a broker that can't be reached is waited for, whoever waits.
    """
    step = getattr(app.current_worker_task, "step", None)
    refusing_s = {None: timeout_s, "setup": max(SETUP_WAITS_S, timeout_s)}.get(step, min(STAGE_WAITS_S, timeout_s))
    return Patience(silent_s=timeout_s, refusing_s=refusing_s)
