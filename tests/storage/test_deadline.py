"""One limit for a call includes all requests, both clients, and the making of clients."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from storage import ObjectStore, StorageUnavailable, deadline, open_store, remaining_s, within
from storage.deadline import CallLimit
from storage.waiting import Late, call_within

from .scripted import Answer, Script
from .silent_servers import HEAD, behaving, silent, trickling, trickling_body

SLACK_S = 5.0
"""Longest time that a call whose limit is a fraction of a second may take on a busy machine."""

VERBS: dict[str, Callable[[ObjectStore], object]] = {
    "put": lambda store: store.put("a", b"x"),
    "put once": lambda store: store.put("a", b"x", if_absent=True),
    "put large": lambda store: store.put("a", bytes(20 * 2**20)),
    "get": lambda store: store.get("a"),
    "get range": lambda store: store.get("a", offset=1, length=2),
    "head": lambda store: store.head("a"),
    "list": lambda store: [*store.list("x/")],
    "delete": lambda store: store.delete(["a"]),
}


def took_s(act: Callable[[], object], *, said: str) -> float:
    began = time.monotonic()
    with pytest.raises(StorageUnavailable, match=said):
        act()
    return time.monotonic() - began


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize("act", [silent, trickling, trickling_body], ids=lambda act: act.__name__)
def test_a_callers_limit_holds(
    aws_environment: Callable[[str], None], act: Callable[[socket.socket, threading.Event], None], client: str
) -> None:
    """Each verb, and each page of a listing, ends in time with a server that is silent or trickles."""
    with behaving(act) as host:
        aws_environment(f"http://{host}")
        store = open_store(f"s3://bucket?client={client}")
        # The first request imports modules and makes a client for the others.
        with within(0.2), suppress(StorageUnavailable):
            store.delete(["a"])
        for name, verb in VERBS.items():
            if act is trickling_body and name in ("put", "put once", "head", "delete"):
                continue  # complete without a body, or refused at its first byte, which is no XML
            with within(0.2):
                took = took_s(lambda verb=verb: verb(store), said=r"within 0\.2 s")  # type: ignore[misc]
            assert took < SLACK_S, name


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_call_ends_in_time_without_a_tls_handshake(aws_environment: Callable[[str], None], client: str) -> None:
    """A call to a server that accepts connections and speaks no TLS ends in time."""
    with behaving(silent) as host:
        aws_environment(f"https://{host}")
        with within(0.2):
            assert took_s(lambda: open_store(f"s3://bucket?client={client}").get("a"), said=r"within 0\.2 s") < SLACK_S


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_call_ends_in_time_if_a_credential_helper_hangs(
    no_aws_environment: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: str
) -> None:
    """The limit includes the making of a client, and the next call asks the helper anew."""
    helper = tmp_path / "helper"
    helper.write_text("#!/bin/sh\nexec sleep 20\n")
    helper.chmod(0o755)
    config = tmp_path / "config"
    config.write_text(f"[default]\nregion = r\nendpoint_url = http://127.0.0.1:1\ncredential_process = {helper}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    store = open_store(f"s3://bucket?client={client}")
    for _ in range(2):
        with within(0.3):
            assert took_s(lambda: store.get("a"), said=r"within 0\.3 s") < SLACK_S
    helper.write_text('#!/bin/sh\necho \'{"Version": 1, "AccessKeyId": "k", "SecretAccessKey": "s"}\'\n')
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, reach_s=0.1))
    took_s(lambda: store.get("a"), said="got no whole answer")


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_call_ends_in_time_if_the_resolver_hangs(
    aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """A call ends in time although boto3's name resolution hangs."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20))
    aws_environment("http://nowhere.invalid:1")
    try:
        with within(0.3):
            store = open_store(f"s3://bucket?client={client}")
            assert took_s(lambda: store.delete(["a"]), said=r"within 0\.3 s") < SLACK_S
    finally:
        over.set()


@pytest.mark.parametrize("client", ["boto3", "obstore"])
@pytest.mark.parametrize("act", [silent, trickling], ids=lambda act: act.__name__)
def test_the_default_limit_holds_for_all_requests(
    aws_environment: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[[socket.socket, threading.Event], None],
    client: str,
) -> None:
    """All requests of both clients together end at the default limit, and the error names the server."""
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, call_s=0.5, answer_s=0.2, pause_s=0.01))
    with behaving(act) as host:
        aws_environment(f"http://{host}")
        store = open_store(f"s3://bucket?client={client}")
        with suppress(StorageUnavailable):
            store.delete(["a"])  # makes a client
        for name in ("put", "get", "head", "list"):
            took = took_s(lambda name=name: VERBS[name](store), said="s3://bucket")  # type: ignore[misc]
            assert took < SLACK_S, name
        assert took_s(lambda: store.delete(["a"]), said=host) < SLACK_S


@pytest.mark.parametrize("client", ["boto3", "obstore"])
def test_a_call_to_a_dead_server_ends_soon(
    aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    """A call to a port without a listener ends after the reach limit, however much of the call's limit is left."""
    assert deadline.Limits().reach_s <= 10
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, reach_s=0.4, connect_s=0.2, pause_s=0.01))
    aws_environment("http://127.0.0.1:1")
    store = open_store(f"s3://bucket?client={client}")
    store_made = took_s(lambda: store.get("a"), said="127.0.0.1:1")
    assert store_made < 5
    assert took_s(lambda: store.put("a", b"x"), said="127.0.0.1:1") < SLACK_S


def test_requests_to_a_busy_server_end_at_the_limit(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with an answer of 503 is repeated, unless the pause before it would outlast the limit.

    The error is the 503.
    """
    script(Answer(503, "SlowDown"))
    store = open_store("s3://bucket?client=boto3")
    took_s(lambda: store.get("a"), said="SlowDown")
    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, pause_s=3000.0, pauses_end_s=1e9))
    with within(20):
        assert took_s(lambda: store.get("a"), said="SlowDown") < 10


def test_a_large_body_has_more_time(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default limit grows by a second per MiB, known before or from the server's headers."""
    assert CallLimit(128 * 2**20).remaining_s == pytest.approx(60 + 128, abs=1)
    limit = CallLimit()
    assert limit.remaining_s == pytest.approx(60, abs=1)
    limit.allow(10 * 2**20)
    assert limit.remaining_s == pytest.approx(70, abs=1)
    with within(5):
        limit = CallLimit()
        limit.allow(2**40)
        assert limit.remaining_s == pytest.approx(5, abs=1)


def test_a_slow_body_may_take_longer(aws_environment: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of unknown size may take longer than a small request, as long as bytes arrive."""
    body = bytes(900)

    def slowly(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(HEAD)
        for at in range(0, 900, 100):
            over.wait(0.15)
            connection.sendall(body[at : at + 100])

    monkeypatch.setattr(deadline, "LIMITS", replace(deadline.LIMITS, call_s=10.0, answer_s=0.5, mib_s=100000.0))
    with behaving(slowly) as host:
        aws_environment(f"http://{host}")
        for client in ("boto3", "obstore"):
            assert open_store(f"s3://bucket?client={client}").get("a") == body


def test_the_sooner_limit_counts() -> None:
    """Of nested limits the sooner one counts. Each ends with its block, and None sets none."""
    assert remaining_s() is None
    with within(None):
        assert remaining_s() is None
    with within(100):
        with within(5), within(50):
            left = remaining_s()
            assert left is not None
            assert left <= 5
        left = remaining_s()
        assert left is not None
        assert left > 90
    with within(-1):
        assert remaining_s() == 0
    assert remaining_s() is None


def test_a_call_after_its_limit_makes_no_request(script: Script) -> None:
    """After its limit a call makes no request."""
    server = script(Answer(200))
    for client in ("boto3", "obstore"):
        with within(0), pytest.raises(StorageUnavailable, match=r"within 0 s|had passed"):
            open_store(f"s3://bucket?client={client}").put("a", b"x")
    assert server.requests == []


def test_a_limit_changes_no_result(script: Script) -> None:
    """Within a limit that is long enough, either client gives the same result as without one."""
    answer = Answer(200, body=b"there", headers={"ETag": '"e"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"})
    script(answer)
    for client in ("boto3", "obstore"):
        with within(30):
            assert open_store(f"s3://bucket?client={client}").get("a") == b"there"


def test_the_number_of_waiting_threads_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most the allowed number of threads wait for answers. Further callers wait for a thread, within their limit."""
    monkeypatch.setattr("storage.waiting.MAX_WAITERS", 3)
    monkeypatch.setattr("storage.waiting._pools", {})
    over = threading.Event()
    before = set(threading.enumerate())
    for number in range(5):
        with within(0.1), pytest.raises(Late) as caught:
            call_within(over.wait, CallLimit())
        assert caught.value.was_asked is (number < 3)
    left = set(threading.enumerate()) - before
    assert sum(thread.name == "storage-waiter" for thread in left) == 3
    over.set()
    with within(10):
        assert call_within(lambda: "free again", CallLimit()) == "free again"


def test_a_thread_runs_successive_calls() -> None:
    """One thread runs successive calls, with the caller's context, and its errors reach the caller."""
    seen: set[int] = set()
    with within(60):
        for _ in range(20):
            call_within(lambda: seen.add(threading.get_ident()), CallLimit())
        assert call_within(remaining_s, CallLimit()) is not None
        with pytest.raises(ZeroDivisionError):
            call_within(lambda: 1 // 0, CallLimit())
    assert len(seen) <= 2
    assert threading.get_ident() not in seen


def test_many_threads_may_call_at_once() -> None:
    """Every caller gets its own answer."""
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(lambda number: call_within(lambda: number, CallLimit()), range(500))
        assert [*answers] == [*range(500)]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_threads() -> None:
    """A child of a process whose threads are all busy gets an answer."""
    with within(30):
        call_within(int, CallLimit())
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if call_within(lambda: 7, CallLimit()) == 7 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
