"""One process owns the shared servers of a test session, and others ask it for them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from devstack import Server, ServerUnavailable
from tests.shared_servers import ServerOwner, ask


class NotedServer(Server):
    """A server that notes its starts and stops in a file."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.notes = directory / "notes"
        self._note("started")

    @property
    def environment(self) -> dict[str, str]:
        return {}

    def rss_bytes(self) -> int:
        return 0

    def stop(self) -> None:
        self._note("stopped")

    def _note(self, line: str) -> None:
        with self.notes.open("a") as notes:
            notes.write(f"{line}\n")


def fail(directory: Path) -> Server:
    raise ServerUnavailable("quorum", "apt-get install quorum")


@pytest.fixture
def owner() -> Iterator[ServerOwner]:
    owner = ServerOwner({"noted": NotedServer, "missing": fail})
    yield owner
    owner.stop()


def test_a_server_is_started_once_for_all_who_ask(owner: ServerOwner, tmp_path: Path) -> None:
    """Many that ask at once get the same server, which starts once, and stops with its owner."""
    address = owner.listen()
    with ThreadPoolExecutor(8) as pool:
        servers = [*pool.map(lambda _: ask(address, "noted", tmp_path), range(8)), owner.find("noted", tmp_path)]
    assert {server.notes for server in servers if isinstance(server, NotedServer)} == {tmp_path / "noted" / "notes"}
    assert (tmp_path / "noted" / "notes").read_text() == "started\n"
    owner.stop()
    assert (tmp_path / "noted" / "notes").read_text() == "started\nstopped\n"


def test_a_server_that_cannot_start_tells_all_who_ask(owner: ServerOwner, tmp_path: Path) -> None:
    """The error of the only attempt to start it reaches each process that asks."""
    for _ in range(2):
        with pytest.raises(ServerUnavailable, match="apt-get install quorum"):
            ask(owner.listen(), "missing", tmp_path)
