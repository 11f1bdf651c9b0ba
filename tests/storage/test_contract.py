"""Guarantees of every store, tested on every store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from storage import (
    CountingStore,
    InvalidKey,
    ObjectExists,
    ObjectNotFound,
    ObjectStore,
    VerifiedStore,
    open_store,
    put_once,
)

ODD_KEYS = [
    "with space/and more",
    "plus+plus",
    "per%cent/100%25",
    "tilde~/~",
    "ünïcode/日本語/🙂",
    "a&b<c>'d\"e",
    "star*?[x]",
    "back\\slash",
    "at@/x@",
    "@partial/x",
    ".hidden/..twice/...",
    "=;,:$!()",
    "#hash",
    "x" * 200 + "/" + "y" * 200 + "/" + "z" * 200,
]
BAD_KEYS = [
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "a/../b",
    "./a",
    "a\nb",
    "a\x00",
    "a\x7f",
    "\ud800",
    "k" * 901,
    "é" * 451,
]

RANGES = [
    (0, None, b"0123456789"),
    (0, 4, b"0123"),
    (3, 4, b"3456"),
    (3, None, b"3456789"),
    (9, 1, b"9"),
    (0, 10, b"0123456789"),
    (8, 100, b"89"),
    (10, 1, b""),
    (10, None, b""),
    (11, 5, b""),
    (999, None, b""),
    (0, 0, b""),
    (4, 0, b""),
    (99, 0, b""),
]


def keys_of(store: ObjectStore, prefix: str = "", *, start_after: str = "") -> list[str]:
    return [info.key for info in store.list(prefix, start_after=start_after)]


def put_all(store: ObjectStore, keys: list[str]) -> None:
    with ThreadPoolExecutor(16) as pool:
        for put in [pool.submit(store.put, key, b"") for key in keys]:
            put.result()


def test_bytes_are_read_as_they_were_written(store: ObjectStore) -> None:
    """A body of any bytes type is read as equal, read-only bytes, and a second put replaces it."""
    store.put("a/b", b"first")
    for bytes_type in (bytes, bytearray, memoryview):
        store.put("a/b", bytes_type(bytes(range(256))))
        content = store.get("a/b")
        assert content == bytes(range(256))
        assert type(content) in (bytes, memoryview)
        assert memoryview(content).readonly


def test_later_changes_to_a_buffer_do_not_reach_the_object(store: ObjectStore) -> None:
    """Once put has returned, the caller may change its buffer."""
    body = bytearray(b"before")
    store.put("a", body)
    body[:] = b"after!"
    assert store.get("a") == b"before"


def test_an_empty_body_is_an_object(store: ObjectStore) -> None:
    """An object of no bytes exists, has size 0, and any range of it is empty."""
    store.put("empty", b"")
    assert store.get("empty") == b""
    assert store.head("empty").size == 0
    assert store.get("empty", offset=0, length=10) == b""
    assert store.get("empty", offset=5) == b""
    assert keys_of(store) == ["empty"]


def test_a_large_body_is_read_whole(store: ObjectStore) -> None:
    """A body of 20 MB is read as it was written, and so is a range from its middle."""
    body = bytes(range(251)) * 80_000
    store.put("large", body)
    assert store.get("large") == body
    assert store.get("large", offset=10_000_000, length=1000) == body[10_000_000:10_001_000]


def test_a_range_ends_at_the_end_of_the_object(store: ObjectStore) -> None:
    """A range ends at the end of the object at the latest; one that starts there or later is empty."""
    store.put("digits", b"0123456789")
    for offset, length, expected in RANGES:
        assert store.get("digits", offset=offset, length=length) == expected, (offset, length)


def test_a_negative_range_is_refused(store: ObjectStore) -> None:
    """A negative offset or length is a mistake of the caller, never a count from the end."""
    store.put("digits", b"0123456789")
    for offset, length in ((-1, None), (0, -1), (-5, 5)):
        with pytest.raises(ValueError, match="offset"):
            store.get("digits", offset=offset, length=length)


def test_a_missing_object_is_a_missing_file(store: ObjectStore) -> None:
    """Reading and looking up a missing object raise ObjectNotFound, a FileNotFoundError with the key."""
    for read in (
        lambda: store.get("no/such"),
        lambda: store.get("no/such", offset=3, length=2),
        lambda: store.get("no/such", length=0),
        lambda: store.head("no/such"),
    ):
        with pytest.raises(FileNotFoundError, match="no/such") as caught:
            read()
        assert isinstance(caught.value, ObjectNotFound)
        assert caught.value.key == "no/such"


def test_head_reports_size_and_time(store: ObjectStore) -> None:
    """head and list agree on the key, the size and a time in UTC that is about now."""
    store.put("a/b", b"12345")
    info = store.head("a/b")
    assert (info.key, info.size) == ("a/b", 5)
    assert info.modified.tzinfo is UTC
    assert abs(datetime.now(UTC) - info.modified) < timedelta(minutes=5)
    assert [(found.key, found.size, found.modified.tzinfo) for found in store.list()] == [("a/b", 5, UTC)]


def test_a_store_reports_its_time(store: ObjectStore) -> None:
    """now() is the clock that dates objects, here this machine's, whatever is wrapped around the store.

    It makes two requests, and leaves one small object below `_probe/`, or nothing.
    """
    counted = CountingStore(store)
    for clock in (store, VerifiedStore(counted)):
        before = time.time()
        reported = clock.now()
        after = time.time()
        error_s = 0.6 + (after - before) / 2
        assert before - error_s <= reported <= after + error_s
    assert counted.requests == {"put": 1, "head": 1}
    store.put("a", b"")
    assert abs(store.head("a").modified.timestamp() - store.now()) < 2
    assert [*{*keys_of(store)} - {"a", "_probe/clock"}] == []


def test_a_write_once_put_leaves_an_existing_object(store: ObjectStore) -> None:
    """if_absent writes where no object exists, and otherwise raises ObjectExists and changes nothing."""
    store.put("once", b"first", if_absent=True)
    with pytest.raises(FileExistsError, match="once") as caught:
        store.put("once", b"second", if_absent=True)
    assert isinstance(caught.value, ObjectExists)
    assert caught.value.key == "once"
    assert store.get("once") == b"first"
    store.delete(["once"])
    store.put("once", b"third", if_absent=True)
    assert store.get("once") == b"third"


def test_one_of_many_writers_wins(store: ObjectStore) -> None:
    """Of 32 concurrent writers with if_absent exactly one succeeds, and the object holds its bytes."""
    start = threading.Barrier(32)

    def write(writer: int) -> int | None:
        start.wait()
        try:
            store.put("race", bytes([writer]) * 5000, if_absent=True)
        except ObjectExists:
            return None
        return writer

    with ThreadPoolExecutor(32) as pool:
        winners = [writer for writer in pool.map(write, range(32)) if writer is not None]
    assert len(winners) == 1
    assert store.get("race") == bytes(winners) * 5000


def test_put_once_returns_other_existing_bytes(store: ObjectStore) -> None:
    """put_once returns None for the first write and its repetition, and the existing bytes otherwise."""
    assert put_once(store, "once", b"ours") is None
    assert put_once(store, "once", b"ours") is None
    assert put_once(store, "once", b"theirs") == b"ours"
    assert put_once(store, "empty", b"") is None
    assert put_once(store, "empty", b"x") == b""


def test_listing_is_in_byte_order_at_any_size(
    store: ObjectStore, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of several pages gives each key once and in order, from any start, under any prefix.

    One call deletes more keys than a request may name. Moto is slow to write, so its pages have 100 keys here.
    """
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "100")
    page = 100 if "moto" in request.node.name else 1000
    count = page + 40
    many = [f"many/{number * 7919 % count:05d}" for number in range(count)]
    others = ["many-", "many", "many0", "other/x", "é", "Z"]
    put_all(store, many + others)
    expected = sorted(many + others, key=str.encode)
    assert keys_of(store) == expected
    assert keys_of(store, "many/") == sorted(many)
    assert keys_of(store, "many/0001") == [f"many/{number:05d}" for number in range(10, 20)]
    assert keys_of(store, start_after="many/00009") == expected[expected.index("many/00009") + 1 :]
    assert keys_of(store, "many/", start_after=f"many/{page:05d}x") == sorted(many)[page + 1 :]
    assert keys_of(store, "many/", start_after="zzz") == []
    assert next(iter(store.list("many/"))).key == "many/00000"
    store.delete(iter([*(f"never/was-{number}" for number in range(1000)), *many]))
    assert keys_of(store) == sorted(others)


def test_order_follows_bytes_around_the_slash(store: ObjectStore) -> None:
    """Keys that differ around '/' sort by their bytes, not folder by folder."""
    keys = ["a", "a!", "a/b", "a/b!c", "a/b/c", "a/b0", "a0", "b", "ä/x", "ä", "～"]
    # Azurite sorts by UTF-16.
    keys += ["🙂"] if not store.url.startswith("az:") else []
    put_all(store, keys)
    ordered = sorted(keys, key=str.encode)
    assert keys_of(store) == ordered
    for position, key in enumerate(ordered):
        assert keys_of(store, start_after=key) == ordered[position + 1 :]
        assert keys_of(store, key) == [other for other in ordered if other.startswith(key)]


def test_a_prefix_need_not_be_a_key(store: ObjectStore) -> None:
    """A prefix that no key can begin with lists nothing, without an error."""
    store.put("a/b", b"")
    for prefix in ("/", "a//", "../", "a/../", "x" * 2000 + "/", "b"):
        assert keys_of(store, prefix) == []


def test_a_key_may_be_the_beginning_of_another(store: ObjectStore) -> None:
    """`a` and `a/b` are two objects, and deleting one does not delete the other."""
    store.put("a", b"leaf")
    store.put("a/b", b"branch")
    assert (store.get("a"), store.get("a/b")) == (b"leaf", b"branch")
    assert keys_of(store) == ["a", "a/b"]
    store.delete(["a"])
    assert keys_of(store) == ["a/b"]
    store.put("a", b"leaf")
    store.delete(["a/b"])
    assert keys_of(store) == ["a"]


def test_odd_keys_are_valid(store: ObjectStore) -> None:
    """Spaces, unicode, '+', '%', '~' and all other printable characters survive put, get, list and delete."""
    # Azure takes a backslash for a slash, so its store refuses one.
    odd_keys = [key for key in ODD_KEYS if "\\" not in key or not store.url.startswith("az:")]
    for key in odd_keys:
        store.put(key, key.encode())
    assert keys_of(store) == sorted(odd_keys, key=str.encode)
    for key in odd_keys:
        assert store.get(key) == key.encode()
        assert keys_of(store, key) == [key]
    store.delete(odd_keys)
    assert keys_of(store) == []


def test_keys_that_some_store_cannot_hold_are_refused_by_all(store: ObjectStore) -> None:
    """Every method that takes a key refuses one outside the shared rules."""
    uses: list[Callable[[str], object]] = [
        lambda key: store.put(key, b""),
        lambda key: store.get(key),
        lambda key: store.head(key),
        lambda key: store.delete([key]),
    ]
    for key in BAD_KEYS:
        for use in uses:
            with pytest.raises(InvalidKey):
                use(key)


def test_deleting_is_repeatable(store: ObjectStore) -> None:
    """Deleting a missing object, or none at all, is no error."""
    store.put("a/b/c", b"")
    store.delete([])
    store.delete(["a/b/c", "a/b/d"])
    store.delete(["a/b/c"])
    assert keys_of(store) == []


def test_writers_and_deleters_do_not_harm_each_other(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    """While other threads delete and list beside it, a put succeeds and its object exists.

    Moto answers in this process, and slowly, so it gets a third of the requests.
    """
    steps = 3 if "moto" in request.node.name else 10

    def work(worker: int) -> None:
        for step in range(steps):
            mine = f"shared/deep/{step % 2}/{worker}"
            store.put(mine, b"x")
            for _ in store.list("shared/"):
                pass
            assert store.get(mine) == b"x"
            store.delete([mine])

    with ThreadPoolExecutor(8) as pool:
        for worker in [pool.submit(work, worker) for worker in range(8)]:
            worker.result()
    assert keys_of(store) == []


def test_a_url_opens_the_same_objects(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    """A store that open_store makes from a store's URL reads the same objects."""
    if request.node.callspec.params["store"] == "memory":
        store = open_store("memory://same-objects")
    store.put("a b/c", b"x")
    assert open_store(store.url).get("a b/c") == b"x"
    assert open_store(store.url).url == store.url
    assert store.url in repr(store)


@pytest.mark.parametrize("wrap", [CountingStore, VerifiedStore])
def test_a_wrapper_is_as_local_as_its_store(wrap: Callable[[ObjectStore], ObjectStore]) -> None:
    """Requests go to a server only where the wrapped store is on S3."""
    urls = {"memory://local": True, "file:///nowhere": True, "s3://bucket": False}
    assert {url: wrap(open_store(url)).is_local for url in urls} == urls
