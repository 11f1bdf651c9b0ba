"""A proxy before the broker. On request it cuts a connection in the middle of a message."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping

from .proxy import READ_BYTES, Proxy, reset


class Wire(Proxy):
    """A proxy that can cut the connection that publishes.

    Args:
        target: Port of the broker.
        canaries: Credentials by name that no client may send.

    Attributes:
        seen: Names of the credentials that a client has sent in one piece.
    """

    def __init__(self, target: int, *, canaries: Mapping[str, str] | None = None) -> None:
        super().__init__(target)
        self.seen: set[str] = set()
        self._canaries = {name: secret.encode() for name, secret in (canaries or {}).items()}
        self._limit: int | None = None
        self._arming = 0
        self._cut = threading.Event()

    def arm(self, after_bytes: int) -> threading.Event:
        """Cut the next connection over which a client sends `after_bytes` bytes, and return an event that the cut sets.

        A consumer sends a few bytes to acknowledge a message. A publisher sends over a thousand bytes for one.
        """
        self._cut = threading.Event()
        self._arming += 1
        self._limit = after_bytes
        return self._cut

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await self.connect_upstream()
        pumps = [asyncio.ensure_future(self._publish(reader, forth, writer)), asyncio.ensure_future(pump(back, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in pumps:
                task.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            forth.close()

    async def _publish(
        self, reader: asyncio.StreamReader, forth: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        arming, sent = self._arming, 0
        while data := await reader.read(READ_BYTES):
            self.seen |= {name for name, secret in self._canaries.items() if secret in data}
            if arming != self._arming:
                arming, sent = self._arming, 0
            sent += len(data)
            if self._limit is not None and sent >= self._limit:
                forth.write(data[: len(data) - (sent - self._limit)])
                self._limit = None
                await forth.drain()
                reset(client)
                reset(forth)
                self._cut.set()
                return
            forth.write(data)
            await forth.drain()


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes from reader to writer until the reader ends."""
    while data := await reader.read(READ_BYTES):
        writer.write(data)
        await writer.drain()
