"""The headers of fanout's messages, beside Celery's own."""

from __future__ import annotations

from typing import Any

from ...records.record import FORMAT

STORE_HEADER = "fanout_store"
"""Header of every message: URL of the sender's store."""

MESSAGE_HEADER = "fanout_message"
"""Header of a message with the job's id as its task id, as others of the job have: an id of the message's own."""

OVERRAN_HEADER = "fanout_overran_s"
"""Header of a message whose step was stopped at the hard time limit: that limit, in seconds."""

REQUEUED_HEADER = "fanout_requeued"
"""Header of a message whose step was stopped because its worker shut down: 1."""

SIGNATURE_HEADER = "fanout_signature"
"""Header of a signed message: `<key id>:<seconds since the epoch>:<code in hex>`."""

FORMAT_HEADER = "fanout_format"
"""Header of every message: the format of its arguments, which is that of records."""


def has_newer_format(headers: Any) -> bool:
    """Return whether a newer release has sent a message, in a format that this one does not know.

    Args:
        headers: The headers, or Celery's request, which has them among its names.
    """
    sent = headers.get(FORMAT_HEADER)
    return type(sent) is int and sent > FORMAT
