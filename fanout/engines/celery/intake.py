"""The intake of a worker: it looks at each message in the main process, before Celery acts upon any part of it.

A message for a task of fanout's is dropped unless it is one that fanout sends: JSON, not compressed, of a limited size,
with known headers of known types, and arguments that the step's parser takes. If the worker requires signatures, it
must have one. Nothing of a message is expanded, parsed or scheduled before that.

Messages of the app's other tasks are Celery's business, but for two things. A compressed one may not expand without
end; see `expansion`. And a message on which Celery's main process would end is dropped: such a message would be
delivered again, and end one worker after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from celery import Celery, bootsteps, signals
from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.message import Message

from ...config.settings import Config
from ...errors import ConfigError
from .current_app import ATTRIBUTE
from .envelope import DEEPEST, check_depth, check_essentials, check_headers, read_body
from .expansion import limit_expansion
from .headers import has_newer_format
from .messages import abbreviate, check_arguments
from .signing import BadSignature, check_message

_LOG = logging.getLogger(__name__)

_EXPANSION: Final = 4
"""Times `max_message_bytes` to which a compressed message may expand."""

_JSON: Final = "application/json"

_POISON: Final = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)
"""Errors that a malformed message causes in Celery's handler. Those of a broker are others."""


class Intake:
    """The checks of one app's worker.

    Args:
        app: The app.
        config: Its settings.
    """

    def __init__(self, app: Celery, config: Config) -> None:
        self._app = app
        self._config = config
        self._tasks = app.tasks
        self._classes: dict[type, type] = {}

    def limit_expansion(self) -> None:
        """Limit compressed messages of this process."""
        conf = self._app.conf
        used = (conf.task_compression, conf.get("result_compression"))
        limit_expansion(_EXPANSION * self._config.max_message_bytes, used=used)

    def examine(self, headers: object, content_type: object, body: Any) -> str | None:
        """Return why a message is to be dropped, from what is known before its body is expanded; None if it is not."""
        if not isinstance(headers, Mapping):
            return f"its headers are {abbreviate(headers)}"
        if not self._is_ours(headers.get("task")):
            return None
        if headers.get("compression"):
            return f"it is compressed ({abbreviate(headers['compression'])}), and fanout's messages are not"
        if content_type != _JSON:
            return f"its content type is {abbreviate(content_type)}, not {_JSON}"
        if len(body or b"") > self._config.max_message_bytes:
            return f"it has {len(body)} bytes, more than max_message_bytes, {self._config.max_message_bytes}"
        return None

    def check(self, message: Message) -> None:
        """Check a message that `examine` has let in.

        Raises:
            ValueError: It is to be dropped. Says why, in at most some 300 characters.
        """
        headers = message.headers
        name = headers.get("task")
        check_depth(headers)
        if message.content_type == _JSON and not _has_few_brackets(message.body):
            with suppress(DecodeError, ContentDisallowed):
                check_depth(message.payload)
        if name is None:
            # Celery's first protocol, whose body names the task.
            with suppress(DecodeError, ContentDisallowed):
                payload = message.payload
                if isinstance(payload, Mapping) and self._is_ours(payload.get("task")):
                    raise ValueError("it is of Celery's first protocol, and fanout's messages are of the second")
            return
        check_essentials(headers)
        if not self._is_ours(name):
            return
        check_headers(headers)
        try:
            body = read_body(message.payload)
        except DecodeError:
            raise ValueError("its body is no JSON") from None
        task = self._tasks[name]
        if not has_newer_format(headers):
            # The task itself gives a newer message back; see `StageTask.before_start`.
            check_arguments(getattr(task, "step", None), headers["id"], body.args, body.kwargs)
        if self._config.require_signatures:
            reply_to = (message.properties or {}).get("reply_to")
            check_message(name, body, {**headers, "reply_to": reply_to}, self._config)

    def class_for(self, kind: type[Message]) -> type[Message]:
        """Return a transport's class of messages, with `examine` before anything of a message is expanded."""
        if kind not in self._classes:
            self._classes[kind] = type(kind.__name__, (kind, _ExaminedMessage), {"intake": self})
        return self._classes[kind]

    def wrap(self, handle: Callable[[Any], Any], consumer: Any) -> Callable[[Any], Any]:
        """Return Celery's handler of messages behind the checks."""

        def on_task_received(message: Any) -> Any:
            refusal = getattr(message, "refusal", None)
            try:
                if refusal is None:
                    self.check(message)
                    return handle(message)
            except consumer.connection_errors:
                raise
            except BadSignature as error:
                refusal = str(error)
            except _POISON as error:
                refusal = f"{type(error).__name__}: {error}" if type(error) is not ValueError else str(error)
                _LOG.debug("dropped a message", exc_info=True)
            self._drop(message, refusal, consumer)
            return None

        return on_task_received

    def _drop(self, message: Any, why: str, consumer: Any) -> None:
        """Reject a message for good, and log a line. A queue with a dead-letter exchange sends it there."""
        name = abbreviate(getattr(message, "task_name", None) or message.headers.get("task"))
        _LOG.warning("%s: dropped a message: %.300s", name, why)
        if not message.acknowledged:
            message.reject_log_error(_LOG, consumer.connection_errors)
        signals.task_rejected.send(sender=consumer, message=message, exc=None)

    def _is_ours(self, name: object) -> bool:
        return isinstance(name, str) and getattr(self._tasks.get(name), "is_of_fanout", False)


def _has_few_brackets(body: object) -> bool:
    """Return whether a text can't be deep, whatever its brackets mean. That spares most messages a walk."""
    match body:
        case str():
            return body.count("[") + body.count("{") <= DEEPEST
        case bytes():
            return body.count(b"[") + body.count(b"{") <= DEEPEST
    return False


class _ExaminedMessage(Message):
    """A message that keeps no body, and no header, if `Intake.examine` refuses it.

    It comes between a transport's class of messages and kombu's, whose constructor expands the body.

    Attributes:
        intake: The checks.
        refusal: Why the message is to be dropped; None if it is not.
        task_name: The name of its task, as the header gives it.
    """

    intake: Intake
    refusal: str | None
    task_name: object

    def __init__(
        self, body: Any = None, *args: Any, headers: Any = None, content_type: Any = None, **more: Any
    ) -> None:
        self.refusal = self.intake.examine(headers, content_type, body)
        self.task_name = headers.get("task") if isinstance(headers, Mapping) else None
        if self.refusal is not None:
            body, headers = b"", {}
        super().__init__(body, headers=headers, content_type=content_type, **more)


class IntakeStep(bootsteps.StartStopStep):
    """The part of a worker's consumer that puts the intake before Celery."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._app = consumer.app

    def include_if(self, consumer: Any) -> bool:
        """Leave a worker without a store as it is: it runs the app's other tasks, and none of fanout's."""
        try:
            return bool(super().include_if(consumer)) and self._intake is not None
        except ConfigError:
            return False

    def create(self, consumer: Any) -> None:
        """Put the checks before Celery's handler of messages."""
        create = consumer.create_task_handler
        consumer.create_task_handler = lambda *args, **kwargs: self._intake.wrap(create(*args, **kwargs), consumer)
        self._intake.limit_expansion()

    @cached_property
    def _intake(self) -> Intake:
        return Intake(self._app, getattr(self._app, ATTRIBUTE).config)

    def start(self, consumer: Any) -> None:
        """Have the channel make examined messages. Each new connection has a new channel."""
        channel = consumer.task_consumer.channel
        channel.Message = self._intake.class_for(channel.Message)
