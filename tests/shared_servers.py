"""Servers that all processes of a test session share.

One process owns them: with pytest-xdist the controller, which runs no test, and else the only one. It starts a server
when a test first needs it, and stops all at its end. The other processes get a copy of the server from it.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from devstack import Server

Start = Callable[[Path], Server]

ANSWER_S = 150.0
"""Time that a server may take to start; less than a test may take."""


class ServerOwner:
    """The owner of the shared servers.

    Args:
        starts: The functions that start them, by name. Each gets a directory.
    """

    def __init__(self, starts: Mapping[str, Start]) -> None:
        self._starts = starts
        self._lock = threading.Lock()
        self._servers: dict[str, Future[Server]] = {}
        self._listener: Listener | None = None

    def find(self, name: str, directory: Path) -> Server:
        """Return a server, which the first call starts in a directory of its own below the given one.

        Raises:
            StackError: It could not be started, now or before.
        """
        with self._lock:
            first = name not in self._servers
            server = self._servers.setdefault(name, Future())
        if first:
            try:
                server.set_result(self._starts[name](directory / name))
            except Exception as error:
                server.set_exception(error)
        return server.result()

    def listen(self) -> str:
        """Serve `ask` from a thread, and return the address."""
        if self._listener is None:
            self._listener = Listener(family="AF_UNIX")
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return str(self._listener.address)

    def stop(self) -> None:
        """Stop all servers. Idempotent."""
        with self._lock:
            servers, self._servers = self._servers, {}
        for server in servers.values():
            if server.exception() is None:
                server.result().stop()
        if self._listener is not None:
            self._listener.close()

    def _accept(self, listener: Listener) -> None:
        # Closing the listener ends the wait with an error.
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: Connection) -> None:
        with connection:
            try:
                connection.send(self.find(*connection.recv()))
            except Exception as error:
                connection.send(error)


def ask(address: str, name: str, directory: Path) -> Server:
    """Return a copy of a server of the owner at that address, as `ServerOwner.find`.

    Raises:
        StackError: It could not be started, now or before.
        TimeoutError: It is still starting after `ANSWER_S`.
    """
    with Client(address) as connection:
        connection.send((name, directory))
        if not connection.poll(ANSWER_S):
            raise TimeoutError(f"{name} did not start within {ANSWER_S:g} s; its logs are in {directory}")
        answer: Server | Exception = connection.recv()
    if isinstance(answer, Exception):
        raise answer
    return answer
