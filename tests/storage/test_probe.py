"""A store's guarantees are probed once, and broken ones are named."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pytest

from storage import (
    ConditionalWriteUnsupported,
    CountingStore,
    FileStore,
    GuaranteeBroken,
    MemoryStore,
    ObjectStore,
    StorageDenied,
    StorageUnavailable,
    VerifiedStore,
    create_bucket,
    open_store,
    open_verified,
    probe_store,
    put_once,
)
from storage.probe import PROBE_RESULT_KEY, read_probe_result, write_probe_result
from tests.broken_stores import (
    Careless,
    ListingDeleted,
    ListingLate,
    LosingAnswers,
    Overwriting,
    Racing,
    ReadingLate,
    Refusing,
    WithoutRanges,
)
from tests.stores import ScriptedStore

from .scripted import refusing_conditions

WRITERS, ROUNDS = 32, 3


def broken(store: ObjectStore) -> dict[str, str]:
    """Return the guarantees that a probe finds broken, with its observations."""
    return {guarantee.name: guarantee.seen for guarantee in probe_store(store).broken}


def remaining_keys(store: ObjectStore) -> list[str]:
    return [info.key for info in store.list()]


def test_every_store_holds_its_guarantees(store: ObjectStore) -> None:
    """Memory, directory, moto and Ceph hold all six guarantees, and the probe leaves nothing behind."""
    report = probe_store(store)
    assert (report.broken, report.error()) == ((), None)
    assert len(report.guarantees) == 6
    assert report.guarantees[0].seen == f"1 of {WRITERS} writers won, {ROUNDS} times"
    assert remaining_keys(store) == []


def test_a_probe_makes_110_requests() -> None:
    """A probe makes 110 requests, deletions and listings included."""
    store = CountingStore(MemoryStore())
    probe_store(store)
    assert sum(store.requests.values()) == ROUNDS * (WRITERS + 1) + 11
    store.reset()
    probe_store(store, writers=2, rounds=1)
    assert sum(store.requests.values()) == 14


@pytest.mark.parametrize(
    ("store", "name", "seen"),
    [
        (Careless(), "write once", "32 of 32 writers won"),
        (Racing(WRITERS), "write once", "32 of 32 writers won"),
        (
            Refusing(),
            "write once",
            "the store refuses it: writing was answered with NotImplemented, status 501",
        ),
        (Overwriting(), "write once", "1 of 32 writers won, but the object is another one"),
        (ReadingLate(), "overwrite", "the overwritten object is still read"),
        (WithoutRanges(), "ranged read", "4096 other bytes came for a range of 500"),
        (ListingLate(), "list after write", "an object that was just written is not listed"),
        (ListingDeleted(), "list after delete", "an object that was just deleted is listed"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, ObjectStore) else "",
)
def test_a_broken_guarantee_is_found(store: ObjectStore, name: str, seen: str) -> None:
    """Each guarantee that a store breaks is named, with the observation."""
    assert broken(store).get(name) == seen


def test_a_lost_answer_breaks_no_guarantee() -> None:
    """If no writer wins, but one of the bodies is stored, its writer won without an answer."""
    report = probe_store(LosingAnswers())
    assert report.broken == ()
    assert report.guarantees[0].seen.startswith("0 of 32")


@pytest.mark.parametrize("error", [StorageUnavailable, StorageDenied])
def test_a_silent_store_gives_no_probe_result(error: type[Exception]) -> None:
    """A store that fails one writer of many has broken no guarantee: the probe raises, and writes no result."""
    store = ScriptedStore()
    for use in (probe_store, lambda store: VerifiedStore(store).put("key", b"body", if_absent=True)):
        with store.failing("put", at=17, times=1, error=error), pytest.raises(error):
            use(store)
    assert read_probe_result(store) is None


def test_the_errors_name_observation_and_remedy() -> None:
    """The error names the guarantee, the observation and the remedy, which survive pickling."""
    error = probe_store(Careless()).error()
    assert isinstance(error, ConditionalWriteUnsupported)
    again = pickle.loads(pickle.dumps(error))
    for each in (error, again):
        assert "write once: 32 of 32 writers won" in str(each)
        assert "If-None-Match" in str(each)
    other = probe_store(WithoutRanges()).error()
    assert type(other) is GuaranteeBroken


def test_a_probe_result_is_read_again() -> None:
    """A probe result is read as it was written. A damaged one, or one of another version, is ignored."""
    store = Careless()
    report = probe_store(store)
    assert read_probe_result(store) is None
    write_probe_result(store, report)
    assert read_probe_result(store) == report
    body = bytearray(store.get(PROBE_RESULT_KEY))
    body[-1] ^= 1
    store.put(PROBE_RESULT_KEY, body)
    assert read_probe_result(store) is None
    store.put(PROBE_RESULT_KEY, b"not ours")
    assert read_probe_result(store) is None


def test_only_the_first_write_once_put_probes() -> None:
    """A process probes before its first write-once put, and the next process only reads the result."""
    counting = CountingStore(MemoryStore())
    first = VerifiedStore(counting)
    first.put("a", b"1")
    assert first.get("a") == b"1"
    assert first.head("a").size == 1
    assert [info.key for info in first.list()] == ["a"]
    assert sum(counting.requests.values()) == 4, "reads and plain writes need no probe result"
    first.put("b", b"1", if_absent=True)
    assert counting.requests["put"] > ROUNDS * WRITERS
    second = VerifiedStore(counting)
    for key, requests in (("c", {"get": 1, "put": 1}), ("d", {"put": 1})):
        counting.reset()
        second.put(key, b"1", if_absent=True)
        assert counting.requests == requests
    assert remaining_keys(counting) == [PROBE_RESULT_KEY, "a", "b", "c", "d"]


@pytest.mark.parametrize("store_type", [Careless, Refusing])
def test_a_store_that_breaks_a_guarantee_is_refused(store_type: type[MemoryStore]) -> None:
    """A write-once put raises before anything is written, in this process and in the next."""
    store = store_type()
    for _ in range(2):
        with pytest.raises(ConditionalWriteUnsupported, match="write once"):
            put_once(VerifiedStore(store), "key", b"body")
    assert remaining_keys(store) == [PROBE_RESULT_KEY]


def test_a_repaired_store_is_used_again() -> None:
    """After a new probe has written a good result, a process that had refused the store uses it."""
    store = MemoryStore()
    write_probe_result(store, probe_store(Careless()))
    proven = VerifiedStore(store)
    with pytest.raises(ConditionalWriteUnsupported):
        proven.put("key", b"body", if_absent=True)
    write_probe_result(store, probe_store(store))
    proven.put("key", b"body", if_absent=True)
    assert store.get("key") == b"body"


def test_only_stores_over_a_network_are_probed(tmp_path: object, moto_url: str) -> None:
    """Memory and directory hold their guarantees by construction, and are opened without a probe."""
    assert type(open_verified("memory://unproven")) is MemoryStore
    assert type(open_verified(f"file://{tmp_path}")) is FileStore
    proven = open_verified(moto_url)
    assert type(proven) is VerifiedStore
    assert proven.url == open_store(moto_url).url


def test_a_server_that_refuses_conditions_is_named(moto_endpoint: str, aws_environment: Callable[[str], None]) -> None:
    """A server that answers 501 to conditions is refused with that answer."""
    with refusing_conditions(moto_endpoint) as endpoint:
        aws_environment(endpoint)
        url = "s3://refusing/root"
        create_bucket(url)
        with pytest.raises(ConditionalWriteUnsupported, match=r"the store refuses it: .* NotImplemented, status 501"):
            open_verified(url).put("key", b"body", if_absent=True)


def test_a_server_that_ignores_conditions_is_refused(
    request: pytest.FixtureRequest, no_aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe finds that rclone's gateway lets every writer win, and the store refuses it."""
    gateway = request.getfixturevalue("rclone_gateway")
    for name, value in gateway.environment.items():
        monkeypatch.setenv(name, value)
    url = "s3://ignoring/root"
    create_bucket(url)
    assert broken(open_store(url)) == {"write once": "32 of 32 writers won"}
    with pytest.raises(ConditionalWriteUnsupported, match="32 of 32 writers won"):
        open_verified(url).put("key", b"body", if_absent=True)
