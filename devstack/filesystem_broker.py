"""A broker in a directory, for a first run with real workers and without a server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Celery's own traffic between workers: remote control and its replies, events.
_INTERNAL = ("pidbox", "celeryev")


class Traffic(NamedTuple):
    """Number of messages sent through a broker, and their bytes with Celery's envelope."""

    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FilesystemBroker:
    """A directory through which Celery's processes exchange messages, and which keeps all of them.

    It serves demos and measurements, not production. A killed worker loses the messages that it had taken, because
    they are acknowledged in its memory only. A killed pool child can stop its worker permanently.

    Attributes:
        directory: Directory of all files.
    """

    directory: Path

    @classmethod
    def create(cls, directory: Path, *, queues: Sequence[str] = ("celery",)) -> FilesystemBroker:
        """Create the directory, or open an existing one. Idempotent.

        Args:
            directory: The directory, created if missing.
            queues: The queues that workers consume, each bound to the exchange of its name.
        """
        broker = cls(directory.resolve())
        for folder in (broker._queue, broker._processed, broker._control):
            folder.mkdir(parents=True, exist_ok=True)
        # Kombu creates a binding table without a lock. Of two workers that start at once, one could lose its
        # binding or read an incomplete table. Kombu changes existing tables under a lock.
        tables: dict[str, list[list[str]]] = {"celery.pidbox": [], "reply.celery.pidbox": [], "celeryev": []}
        tables |= {queue: [[queue, "", queue]] for queue in queues}
        for exchange, bindings in tables.items():
            table = broker._control / f"{exchange}.exchange"
            if not table.exists():
                table.write_text(json.dumps(bindings))
        return broker

    @property
    def url(self) -> str:
        """The broker URL. It is only complete with `transport_options`."""
        return "filesystem://"

    @property
    def transport(self) -> str:
        """The transport that does not lose messages, for the setting `broker_transport`."""
        return "devstack.spool:Transport"

    @property
    def transport_options(self) -> dict[str, str | bool | float]:
        """The setting `broker_transport_options`."""
        return {
            "data_folder_in": str(self._queue),
            "data_folder_out": str(self._queue),
            "processed_folder": str(self._processed),
            "control_folder": str(self._control),
            "store_processed": True,
            "polling_interval": 0.02,
        }

    @property
    def settings(self) -> dict[str, object]:
        """URL, transport and options as Celery's settings, for `app.conf.update`."""
        return {
            "broker_url": self.url,
            "broker_transport": self.transport,
            "broker_transport_options": self.transport_options,
        }

    @property
    def worker_args(self) -> tuple[str, ...]:
        """The options of a worker on this broker. Gossip, mingle and heartbeats would poll the directory."""
        return ("--without-gossip", "--without-mingle", "--without-heartbeat")

    def traffic(self) -> Traffic:
        """Count all messages sent through this directory, waiting ones included, without Celery's own.

        A message that a worker requeues at its end counts again.
        """
        # Count by name, so that a message that moves meanwhile counts once. List waiting messages first, or a moving
        # message could be missing in both listings.
        sizes: dict[str, int] = {}
        for folder in (self._queue, self._processed):
            sizes |= dict(_messages(folder))
        return Traffic(len(sizes), sum(sizes.values()))

    @property
    def _queue(self) -> Path:
        return self.directory / "queue"

    @property
    def _processed(self) -> Path:
        return self.directory / "processed"

    @property
    def _control(self) -> Path:
        return self.directory / "control"


def _messages(folder: Path) -> Iterator[tuple[str, int]]:
    for path in folder.glob("*.msg"):
        queue = path.name.partition(".")[2].removesuffix(".msg")
        if any(part in _INTERNAL for part in queue.split(".")):
            continue
        try:
            yield path.name, path.stat().st_size
        except FileNotFoundError:
            # A worker has just taken the message and moved it to the other folder.
            continue
