"""How a worker's main process deals with the message of a stage that it has to stop.

Celery would acknowledge a message whose child it killed at the hard time limit and store a failure as the task's
result: the chunk would wait for a sweep, and a caller of setup or join would be told of a failure that is none yet. And
what it takes back at a shutdown comes again from the broker as "redelivered", just as after a crash, so that a few
deployments would use up a chunk's tries. So the main process sends such a message again itself, and says why.
"""

from __future__ import annotations

import logging
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import Task
from celery.worker.request import Request
from celery.worker.state import task_ready

_LOG = logging.getLogger(__name__)

OVERRAN_HEADER = "fanout_overran_s"
"""Header of a message whose step was stopped at the hard time limit: that limit, in seconds."""

REQUEUED_HEADER = "fanout_requeued"
"""Header of a message whose step was stopped because its worker shut down: 1."""

_OURS = (OVERRAN_HEADER, REQUEUED_HEADER)

_WAIT_S = 5
"""How long the main process, which has other things to do, waits for the broker."""

_SENDING: dict[str, Any] = {
    "retry": True,
    "retry_policy": {"max_retries": 2, "interval_start": 0.0, "interval_step": 0.2, "interval_max": 0.5},
    "timeout": _WAIT_S,
    "confirm_timeout": _WAIT_S,
}


class StageRequest(Request):
    """A stage's message in the worker's main process."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """Celery's, but for the hard time limit, which the pool reports here too."""
        # Pools that send a traceback along wrap the exception.
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, TimeLimitExceeded):
            self._on_hard_limit(error.args[0])
            return
        super().on_failure(exc_info, send_failed_event=send_failed_event, return_ok=return_ok)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        """Celery's for the soft limit; at the hard one the message goes out again, to end as a try on record."""
        if soft:
            super().on_timeout(soft, timeout)
        else:
            self._on_hard_limit(timeout)

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:
        """Stop the child. At a shutdown the message goes out again, for its run to go on elsewhere as the same try."""
        super().cancel(pool, signal, emit_retry=emit_retry)
        # After the loss of a connection there is nothing to send on, and the broker does it by itself; only then
        # Celery announces a retry.
        if not emit_retry and not self.acknowledged:
            _LOG.warning("%s[%s] is given back: this worker shuts down", self.name, self.id)
            if self._resend({REQUEUED_HEADER: 1}):
                self.acknowledge()

    def _on_hard_limit(self, limit_s: float) -> None:
        # Pools differ in which of the two they call first, and most call both.
        if self.acknowledged:
            return
        task_ready(self)
        _LOG.error("%s[%s] was stopped: it took longer than its time limit, %g s", self.name, self.id, limit_s)
        if self._resend({OVERRAN_HEADER: limit_s}):
            self.acknowledge()
        else:
            # It comes back without the reason, as after a crash.
            self.reject(requeue=True)

    def _resend(self, headers: dict[str, Any]) -> bool:
        """Send the message once more, with all that it says about what follows; whether that went well."""
        try:
            context = self._context  # type: ignore[attr-defined]
            own = {name: value for name, value in (context.headers or {}).items() if name not in _OURS}
            again = self.task.signature_from_request(context, headers={**own, **headers}, **_SENDING)
            # Celery's own, since that of setup may write to the store: not from a process that is to be forked.
            Task.apply_async(self.task, again.args, again.kwargs, **again.options)
        except Exception as error:
            _LOG.warning("%s[%s] could not be sent again, so the broker has to: %s", self.name, self.id, error)
            return False
        return True
