"""The headers of fanout's messages, beside Celery's own."""

from __future__ import annotations

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
