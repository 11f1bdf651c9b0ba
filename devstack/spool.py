"""Kombu's filesystem transport, with messages that appear whole.

Kombu's own writes a message under its final name, so a consumer may take the file before its bytes are there:
two of 5,000 messages were lost that way with two eager consumers, and Celery's consumer ends at the first.
Select this one with Celery's setting `broker_transport = "devstack.spool:Transport"`; the URL stays
`filesystem://`. Nothing here imports celery.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """A channel whose messages are written under a passing name and then renamed, which is atomic."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        folder = Path(self.data_folder_out)
        token = uuid4()
        # Consumers take what ends in "<queue>.msg", in the order of names.
        passing = folder / f"{token}.part"
        passing.write_bytes(dumps(payload).encode())
        passing.rename(folder / f"{round(time.monotonic() * 1000)}_{token}.{queue}.msg")


class Transport(filesystem.Transport):
    """The transport to name in `broker_transport`."""

    Channel = Channel
