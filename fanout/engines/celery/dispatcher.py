"""The dispatcher that turns chunk refs and joins into Celery messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from celery import Celery
from kombu import Producer
from kombu.utils import json
from kombu.utils.uuid import uuid

from ...records.chunk_ref import ChunkRef
from ...records.keys import GROUP_WIDTH
from ...records.models import Intent
from .headers import MESSAGE_HEADER
from .publishing.publish import Message, PublishLimits, publish_all
from .signing import sending
from .store_mismatch import make_store_header

STEP_NAMES = {step: f"{{}}.{step}" for step in ("setup", "process", "join")}

SETUP_WAITS_S = 600.0
"""Seconds for which setup waits in its worker while a queue is full or RabbitMQ blocks publishers. If it gives
up, it must start anew. Well below the time for which a broker waits for the acknowledgement of setup's own message."""

STAGE_WAITS_S = 10.0
"""The same for process and join. A full queue may wait for their worker. If they give up, they are redelivered."""


def celery_name(task: str, step: str) -> str:
    """Return the name of the Celery task that runs a step, which `task_routes` and monitors see."""
    return STEP_NAMES[step].format(task)


class CeleryDispatcher:
    """A dispatcher that sends Celery messages by task name, so that a sweep need not import the task's module.

    Args:
        app: The app.
        timeout_s: For how long to publish a message that the broker does not take.
        store_url: URL of this process's store, which goes into each message.
        has_ended: Returns whether the job of a chunk has ended, so that its chunks need not be sent.
    """

    batch_chunks = GROUP_WIDTH

    def __init__(
        self,
        app: Celery,
        *,
        timeout_s: float,
        store_url: str = "",
        has_ended: Callable[[ChunkRef], bool] = lambda ref: False,
    ) -> None:
        self._app = app
        self._timeout_s = timeout_s
        self._store_url = store_url
        self._has_ended = has_ended

    def send_setup(self, job_id: str, intent: Intent, *, generation: int = 0, resent: bool = False) -> None:
        launch: dict[str, Any] = json.loads(intent.launch) if intent.launch else {"task_id": job_id, **intent.routing}
        kwargs = _drop_defaults(launch_id=intent.launch_id, generation=generation, resent=resent)
        self._send([self._message(celery_name(intent.task, "setup"), (), kwargs, _with_id(launch))])

    def send_chunks(self, intent: Intent, refs: Sequence[ChunkRef]) -> None:
        # The messages of a Canvas group, without `group.apply_async`, which subscribes this process to the result of
        # every member with a round trip each. Chunks store no results.
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
                        "argsrepr": _describe_chunks(ref),
                    },
                )
                for index, ref in enumerate(refs)
            ],
            needless=lambda: self._has_ended(refs[0]),
        )

    def send_join(
        self, job_id: str, intent: Intent, continuation: str | None, *, resent: bool, generation: int = 0
    ) -> None:
        following: dict[str, Any] = json.loads(continuation) if continuation else {"task_id": job_id}
        kwargs = _drop_defaults(launch_id=intent.launch_id, resent=resent, generation=generation)
        options = _with_id({**intent.routing, **following})
        self._send([self._message(celery_name(intent.task, "join"), (job_id,), kwargs, options)])

    def _message(self, name: str, args: Sequence[Any], kwargs: dict[str, Any], options: Mapping[str, Any]) -> Message:
        # The launch's retry policy was its caller's: it does not apply to messages that are sent again.
        options = {"serializer": "json", **options, "retry": False, "retry_policy": None, "add_to_parent": False}
        options["headers"] = {**(options.get("headers") or {}), **make_store_header(self._store_url)}
        send = partial(self._publish, name, list(args), kwargs, options)
        return Message(options["task_id"], name, options, send)

    def _publish(
        self, name: str, args: list[Any], kwargs: dict[str, Any], options: dict[str, Any], producer: Producer
    ) -> None:
        with sending(self._app):
            self._app.send_task(name, args, kwargs, producer=producer, **options)

    def _send(self, messages: Sequence[Message], needless: Callable[[], bool] = lambda: False) -> None:
        publish_all(self._app, messages, _publish_limits(self._app, self._timeout_s), needless=needless)


def _describe_chunks(ref: ChunkRef) -> str:
    """Return what monitors show as the arguments of a message for process."""
    return f"(chunk {ref.chunk})" if ref.count == 1 else f"(chunks {ref.chunks[0]} to {ref.chunks[-1]})"


def _with_id(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with an id of the message's own, for its task id is the job's."""
    return {**options, "headers": {**(options.get("headers") or {}), MESSAGE_HEADER: uuid()}}


def _drop_defaults(**arguments: Any) -> dict[str, Any]:
    """Return the arguments whose value is not empty or false."""
    return {name: value for name, value in arguments.items() if value}


def _publish_limits(app: Celery, timeout_s: float) -> PublishLimits:
    """Return for how long to publish: `timeout_s` for a caller or a sweep, else as long as a worker's stage can wait.

    Args:
        app: The app.
        timeout_s: Seconds for which any process waits for a broker that cannot be reached.
    """
    step = getattr(app.current_worker_task, "step", None)
    refusing_s = {None: timeout_s, "setup": max(SETUP_WAITS_S, timeout_s)}.get(step, min(STAGE_WAITS_S, timeout_s))
    return PublishLimits(silent_s=timeout_s, refusing_s=refusing_s)
