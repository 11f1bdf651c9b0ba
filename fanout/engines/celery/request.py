"""The request class of a stage, by which a worker's main process handles a message whose step it has to stop.

At the hard time limit, Celery would acknowledge the message of the child that it killed, and store a failure as the
task's result. The chunk would then wait for a sweep. The caller of setup or join would see a failure of a job that has
not ended. At a shutdown, the broker would redeliver the messages that Celery returns, as it does after a crash. A few
deployments would then use up a chunk's attempts. So the main process sends such a message again itself, with a header
that says why.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import Task
from celery.worker.request import Request
from celery.worker.state import task_ready

from .headers import OVERRAN_HEADER, REQUEUED_HEADER
from .signing import sending

_LOG = logging.getLogger(__name__)

_OURS = (OVERRAN_HEADER, REQUEUED_HEADER)

_WAIT_S = 5
"""Seconds for which the main process, which has other work, waits for the broker."""

_SENDING: dict[str, Any] = {
    "retry": True,
    "retry_policy": {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.5},
    "timeout": _WAIT_S,
    "confirm_timeout": _WAIT_S,
}


class StageRequest(Request):
    """A stage's message in the worker's main process."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Handle a failure as Celery does, except for the hard time limit, which the pool reports here, too."""
        # Pools that send a traceback along wrap the exception.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, TimeLimitExceeded):
            self._on_hard_limit(error.args[0])
            return
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Handle the soft limit as Celery does. At the hard limit, send the message again, as a failed attempt."""
        if soft:
            super().on_timeout(soft, timeout)
        else:
            self._on_hard_limit(timeout)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Stop the child. At a shutdown, send the message again, so that another worker resumes the same attempt."""
        super().cancel(pool, signal, emit_retry=emit_retry)
        # After the loss of a connection, the broker redelivers the message by itself. Only then Celery sets
        # `emit_retry`.
        if not emit_retry and not self.acknowledged:
            _LOG.warning("%s[%s] is sent again: this worker shuts down", self.name, self.id)
            if self._resend({REQUEUED_HEADER: 1}):
                self.acknowledge()

    def _on_hard_limit(self, limit_s: float) -> None:
        # Most pools call both on_timeout and on_failure, in either order.
        if self.acknowledged:
            return
        task_ready(self)
        _LOG.error("%s[%s] was stopped: it took longer than its time limit, %g s", self.name, self.id, limit_s)
        if self._resend({OVERRAN_HEADER: limit_s}):
            self.acknowledge()
        else:
            # The broker redelivers it without the header, as after a crash.
            self.reject(requeue=True)

    def _resend(self, headers: dict[str, Any]) -> bool:
        """Send the message once more, with the same following tasks. Return whether that succeeded."""
        try:
            context = self._context  # type: ignore[attr-defined]
            own = {name: value for name, value in (context.headers or {}).items() if name not in _OURS}
            signature = self.task.signature_from_request(context, headers={**own, **headers}, **_SENDING)
            # Celery's own apply_async: setup's may use the store, whose client a process that forks must not have.
            with sending(self.task.app):
                Task.apply_async(self.task, signature.args, signature.kwargs, **signature.options)
        except Exception as error:
            _LOG.warning("%s[%s] could not be sent again, so the broker redelivers it: %s", self.name, self.id, error)
            return False
        return True
