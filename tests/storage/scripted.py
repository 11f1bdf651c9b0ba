"""Servers with scripted answers, and servers that pass requests on to a real server without some feature."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: The HTTP status; 0 closes the connection without an answer.
        code: An S3 error code, wrapped into XML unless there is a body.
        body: The body as it is.
        headers: Further headers.
        missing_bytes: Number of bytes by which Content-Length exceeds the body.
    """

    status: int
    code: str = ""
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    missing_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """One recorded request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ScriptedServer(ThreadingHTTPServer):
    """A server that gives its answers in order, repeats the last one, and records the requests."""

    daemon_threads = True

    def __init__(self, answers: list[Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.requests: list[Request] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


Script = Callable[..., ScriptedServer]
"""Starts a server with the given answers, and points the clients at it."""


class _Handler(BaseHTTPRequestHandler):
    server: ScriptedServer
    # With HTTP/1.0 the server would not answer boto3's `Expect: 100-continue`, which then waits a second.
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.answers[min(len(self.server.requests), len(self.server.answers) - 1)]
        self.server.requests.append(Request(self.command, self.path, dict(self.headers), body))
        if not answer.status:
            return
        content = answer.body or (f"<Error><Code>{answer.code}</Code></Error>".encode() if answer.code else b"")
        if self.command == "HEAD":
            content = b""
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content) + answer.missing_bytes))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def serving(answers: list[Answer]) -> Iterator[ScriptedServer]:
    """Serve these answers until the block ends."""
    with ScriptedServer(answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _RefusingHandler(BaseHTTPRequestHandler):
    """Passes requests on to a server, except those with a condition, which OpenStack Swift refuses."""

    protocol_version = "HTTP/1.1"
    behind: str

    def _answer(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("If-None-Match"):
            code = (
                "<Error><Code>NotImplemented</Code><Message>Conditional writes are not implemented.</Message></Error>"
            )
            self._send(501, {}, code.encode())
            return
        connection = http.client.HTTPConnection(self.behind, timeout=30)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "expect"}
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            self._send(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response(status)
        own = {"content-length", "connection", "date", "server", "transfer-encoding"}
        for name, value in headers.items():
            if name.lower() not in own or (self.command == "HEAD" and name.lower() == "content-length"):
                self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def refusing_conditions(endpoint: str) -> Iterator[str]:
    """Yield the endpoint of a server that answers like the one at `endpoint`, but 501 to every condition."""
    handler = type("Handler", (_RefusingHandler,), {"behind": urlsplit(endpoint).netloc})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
