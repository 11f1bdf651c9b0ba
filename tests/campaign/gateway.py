"""A proxy before the S3 server. It fails some requests, chosen by seed, and forwards all others unchanged."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass
from typing import Self

from .proxy import Proxy, reset

REFUSALS = {
    "unavailable": (
        "503 Slow Down",
        b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>",
    ),
    "denied": (
        "400 Bad Request",
        b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>",
    ),
}
"""Responses in place of the server's: status and body. A response to HEAD has no body."""


@dataclass(frozen=True, slots=True)
class StoreFaults:
    """The rate of each fault: a fraction of the requests that it applies to.

    Attributes:
        unavailable: The proxy responds 503, and the server receives nothing.
        denied: The proxy refuses the credentials as expired, and the server receives nothing.
        dropped: The proxy resets the connection in place of the response to a successful PUT.
        truncated: The body of a response to GET ends in the middle.
        resets: The proxy resets the connection before the server receives the request.
    """

    unavailable: float = 0.0
    denied: float = 0.0
    dropped: float = 0.0
    truncated: float = 0.0
    resets: float = 0.0


@dataclass(frozen=True, slots=True)
class Head:
    """First line and fields of a request or response, and their bytes."""

    raw: bytes
    first: str
    fields: dict[str, str]

    @classmethod
    async def read(cls, reader: asyncio.StreamReader) -> Self:
        raw = await reader.readuntil(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        return cls(raw, first, {name.strip().lower(): value.strip() for name, _, value in pairs})

    def without(self, field: str) -> bytes:
        lines = self.raw.split(b"\r\n")
        return b"\r\n".join(line for line in lines if not line.lower().startswith(field.encode() + b":"))

    async def body(self, reader: asyncio.StreamReader) -> bytes:
        """Read the body, with its chunk headers if it is chunked."""
        if self.fields.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while True:
                line = await reader.readuntil(b"\r\n")
                size = int(line.split(b";")[0], 16)
                parts += [line, await reader.readexactly(size + 2)]
                if size == 0:
                    return b"".join(parts)
        return await reader.readexactly(int(self.fields.get("content-length", 0)))


class FaultyGateway(Proxy):
    """A proxy that fails requests as `faults` says.

    The Host field passes unchanged, since signatures cover it.

    Attributes:
        faults: Rates of the faults. They may be set at any time, from any thread.
        counts: Requests, and faults of each kind.
    """

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self.faults = StoreFaults()
        self.counts: Counter[str] = Counter()
        self._random = random.Random(0)

    def set(self, faults: StoreFaults, *, seed: int) -> None:
        """Set the rates, restart the random sequence with the seed, and reset the counts."""
        self.counts = Counter()
        self._random = random.Random(seed)
        self.faults = faults

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back: asyncio.StreamReader | None = None
        forth: asyncio.StreamWriter | None = None
        try:
            while True:
                request = await Head.read(reader)
                if request.fields.get("expect", "").lower() == "100-continue":
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await request.body(reader)
                method = request.first.partition(" ")[0]
                self.counts["requests"] += 1
                if self._inject("resets"):
                    reset(writer)
                    return
                refusal = next((kind for kind in REFUSALS if self._inject(kind)), None)
                if refusal is not None:
                    writer.write(_format_refusal(method, *REFUSALS[refusal]))
                    await writer.drain()
                    continue
                if back is None or forth is None or back.at_eof():
                    back, forth = await self.connect_upstream()
                forth.write(request.without("expect") + body)
                answer = await Head.read(back)
                status = answer.first.split()[1]
                content = b"" if method == "HEAD" or status in ("204", "304") else await answer.body(back)
                if method == "PUT" and status == "200" and self._inject("dropped"):
                    reset(writer)
                    return
                if method == "GET" and status in ("200", "206") and len(content) > 1 and self._inject("truncated"):
                    writer.write(answer.raw + content[: len(content) // 2])
                    await writer.drain()
                    return
                writer.write(answer.raw + content)
                await writer.drain()
        finally:
            if forth is not None:
                forth.close()

    def _inject(self, fault: str) -> bool:
        rate = getattr(self.faults, fault)
        injected: bool = rate > 0 and self._random.random() < rate
        if injected:
            self.counts[fault] += 1
        return injected


def _format_refusal(method: str, status: str, body: bytes) -> bytes:
    body = b"" if method == "HEAD" else body
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
