"""A broker that is a directory: enough for a first run with real workers, with no server at all."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

# Celery's own traffic between workers: remote control and its replies, events.
_INTERNAL = ("pidbox", "celeryev")


class Traffic(NamedTuple):
    """What went through a broker: how many messages, and their bytes with Celery's envelope."""

    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FilesystemBroker:
    """A directory in which Celery's processes leave messages for each other, and where all of them stay.

    Good for a demo and for counting, not for production: a worker that is killed loses what it had taken, for
    messages are acknowledged in its memory only, and a killed pool child can stop its worker for good.

    Attributes:
        directory: Where everything lies.
    """

    directory: Path

    @classmethod
    def create(cls, directory: Path, *, queues: Sequence[str] = ("celery",)) -> FilesystemBroker:
        """Make the directory, or open one that exists; idempotent.

        Args:
            directory: Made when missing.
            queues: The queues that workers will read, each bound to the exchange of its name.
        """
        broker = cls(directory.resolve())
        for folder in (broker._queue, broker._processed, broker._control):
            folder.mkdir(parents=True, exist_ok=True)
        # Kombu makes a binding table without a lock: of two workers that start at once, one could lose its
        # binding or read half a table. Tables that exist are changed under one.
        tables: dict[str, list[list[str]]] = {"celery.pidbox": [], "reply.celery.pidbox": [], "celeryev": []}
        tables |= {queue: [[queue, "", queue]] for queue in queues}
        for exchange, bindings in tables.items():
            table = broker._control / f"{exchange}.exchange"
            if not table.exists():
                table.write_text(json.dumps(bindings))
        return broker

    @property
    def url(self) -> str:
        """The broker URL; it says nothing without `transport_options`."""
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
        """All three as Celery's settings, for `app.conf.update`."""
        return {
            "broker_url": self.url,
            "broker_transport": self.transport,
            "broker_transport_options": self.transport_options,
        }

    @property
    def worker_args(self) -> tuple[str, ...]:
        """The options that a worker on this broker needs: gossip and its kin would poll the directory."""
        return ("--without-gossip", "--without-mingle", "--without-heartbeat")

    def traffic(self) -> Traffic:
        """Count the messages ever sent through this directory, waiting ones included, Celery's own excluded.

        A message that a worker gives back at its end, unfinished, is sent again and counts again.
        """
        # By name: a message that moves while we look is then counted once. Waiting ones first, or it could be
        # seen in neither place.
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
            # A worker has just taken it: it is in the other folder.
            continue
