"""Servers that accept connections and do not answer properly."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

HEAD = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nLast-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nContent-Length: 900\r\n\r\n'


def silent(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def trickling(connection: socket.socket, over: threading.Event) -> None:
    """Send one byte now and then, from the status line on."""
    for at in range(len(HEAD)):
        connection.sendall(HEAD[at : at + 1])
        if over.wait(0.05):
            return


def trickling_body(connection: socket.socket, over: threading.Event) -> None:
    """Answer at once, and send the body byte by byte."""
    connection.recv(65536)
    connection.sendall(HEAD)
    while not over.wait(0.05):
        connection.sendall(b"<")


@contextmanager
def behaving(act: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Run a server that handles its connections with `act`; yield host and port."""
    over = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            act(connection, over)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=accept, daemon=True)
        accepting.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
