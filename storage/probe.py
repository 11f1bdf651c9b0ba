"""A probe of the guarantees that `ObjectStore` states.

A store that answers every request correctly may still let two writers win one key, which shows only when two meet. The
probe makes them meet.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from .codec.msgpack_codec import decode, encode
from .errors import (
    BucketNotFound,
    ConditionalWriteUnsupported,
    CorruptObject,
    GuaranteeBroken,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from .object_store import Content, ObjectStore

VERSION: Final = 1
"""Version of the probe and of its result's format. A result of another version is ignored."""

PREFIX: Final = "_probe/"
"""Prefix of all that a probe writes. Only the result stays."""

PROBE_RESULT_KEY: Final = f"{PREFIX}result-{VERSION}"

WRITE_ONCE: Final = "write once"

_BODY = bytes(range(256)) * 16
_NOT_THE_STORES_FAULT = (StorageUnavailable, StorageDenied, BucketNotFound)


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One guarantee of `ObjectStore`, and whether a store holds it.

    Attributes:
        name: `write once`, `read after write`, `overwrite`, `ranged read`, `list after write`, `list after delete`.
        kept: Whether the store held it.
        seen: The observation, in a few words: "32 of 32 writers won".
    """

    name: str
    kept: bool
    seen: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Result of a probe.

    Attributes:
        url: The store's URL.
        at: When it was probed, in seconds since the epoch, by this machine's clock.
        guarantees: All guarantees.
    """

    url: str
    at: float
    guarantees: tuple[Guarantee, ...]

    @property
    def broken(self) -> tuple[Guarantee, ...]:
        """The guarantees that the store broke."""
        return tuple(guarantee for guarantee in self.guarantees if not guarantee.kept)

    def error(self) -> GuaranteeBroken | None:
        """Return the error to raise if a guarantee is broken, or None."""
        if not self.broken:
            return None
        error_type = ConditionalWriteUnsupported if any(p.name == WRITE_ONCE for p in self.broken) else GuaranteeBroken
        listed = "; ".join(f"{guarantee.name}: {guarantee.seen}" for guarantee in self.broken)
        return error_type(f"the store {self.url} breaks guarantees that jobs rely on: {listed}")

    def to_bytes(self) -> bytes:
        """Return the encoded result, as `read_probe_result` reads it."""
        return encode([VERSION, self.at, [[each.name, each.kept, each.seen] for each in self.guarantees]])


def probe_store(
    store: ObjectStore, *, peers: Sequence[ObjectStore] = (), writers: int = 32, rounds: int = 3
) -> ProbeReport:
    """Probe a store's guarantees, through `ObjectStore`, below a prefix of the probe's own.

    At most `rounds × (writers + 1) + 11` requests, by default 110, `writers` of them at a time; each peer adds
    `rounds + 4`. The probe deletes what
    it wrote, unless the store stops answering. Several processes may probe one store at the same time.

    Args:
        store: The store.
        peers: The same store by other servers. Writers meet by way of all, and each must read what another one wrote.
        writers: Writers that meet at one key.
        rounds: Keys at which they meet. A store with a race may pass one of them by luck.

    Raises:
        StorageUnavailable: The store does not answer, so that there is no result.
        StorageDenied: The store refuses to read, write, list or delete at all.
        BucketNotFound: The bucket is missing.
    """
    at = time.time()
    with _scratch_prefix(store) as prefix:
        guarantees = (
            _check_write_once((store, *peers), prefix, writers=writers, rounds=rounds),
            *_check_reads((store, *peers), f"{prefix}object"),
            *_check_listings((store, *peers), f"{prefix}listed/object"),
        )
    return ProbeReport(store.url, at, guarantees)


def read_probe_result(store: ObjectStore) -> ProbeReport | None:
    """Return the last result that was written to the store, or None. One request."""
    try:
        version, at, rows = decode(store.get(PROBE_RESULT_KEY), key=PROBE_RESULT_KEY)
        guarantees = tuple(Guarantee(str(name), bool(kept), str(seen)) for name, kept, seen in rows)
    except (ObjectNotFound, CorruptObject, TypeError, ValueError):
        return None
    return ProbeReport(store.url, float(at), guarantees) if version == VERSION and guarantees else None


def write_probe_result(store: ObjectStore, report: ProbeReport) -> None:
    """Write a result to the store, for other processes to read; replaces an older one. One request."""
    store.put(PROBE_RESULT_KEY, report.to_bytes())


@contextmanager
def _scratch_prefix(store: ObjectStore) -> Iterator[str]:
    """Give a fresh prefix, and delete everything below it at the end."""
    prefix = f"{PREFIX}{secrets.token_hex(8)}/"
    try:
        yield prefix
    except _NOT_THE_STORES_FAULT:
        # The store cannot be cleaned up now. What stays is a few small objects that nothing reads.
        raise
    except BaseException:
        _delete_below(store, prefix)
        raise
    _delete_below(store, prefix)


def _delete_below(store: ObjectStore, prefix: str) -> None:
    store.delete([info.key for info in store.list(prefix)])


def _check_write_once(stores: Sequence[ObjectStore], prefix: str, *, writers: int, rounds: int) -> Guarantee:
    seen = ""
    for number in range(rounds):
        kept, seen = _let_writers_meet(stores, f"{prefix}once/{number}", writers)
        if not kept:
            return Guarantee(WRITE_ONCE, False, seen)
    where = f" over {len(stores)} servers" if len(stores) > 1 else ""
    return Guarantee(WRITE_ONCE, True, f"{seen}, {rounds} times{where}")


def _let_writers_meet(stores: Sequence[ObjectStore], key: str, writers: int) -> tuple[bool, str]:
    """Let writers meet at a key, spread over the stores; return whether exactly one won, and the observation."""
    bodies = [b"%d of %d" % (number, writers) for number in range(writers)]
    answers: list[StorageError | None] = [None] * writers
    start = threading.Barrier(writers)

    def write(number: int) -> None:
        # no limit: as many threads were started as it waits for
        start.wait()
        try:
            stores[number % len(stores)].put(key, bodies[number], if_absent=True)
        except StorageError as error:
            answers[number] = error

    threads = [threading.Thread(target=write, args=(number,), name="storage-probe") for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        # no limit: each makes one call, which has one
        thread.join()
    for answer in answers:
        if isinstance(answer, _NOT_THE_STORES_FAULT):
            raise answer
    refusals = [answer for answer in answers if answer is not None and not isinstance(answer, ObjectExists)]
    if refusals:
        return False, f"the store refuses it: {refusals[0].args[0]}"
    winners = [number for number, answer in enumerate(answers) if answer is None]
    seen = f"{len(winners)} of {writers} writers won"
    if len(winners) > 1:
        return False, seen
    # A winner whose answer was lost looks like none at all: its own second attempt met its first.
    expected = [bodies[winners[0]]] if winners else bodies
    existing = [_read(store, key) for store in stores]
    is_one = existing[0] in expected and all(each == existing[0] for each in existing)
    return is_one, seen if is_one else f"{seen}, but the object is another one"


def _check_reads(stores: Sequence[ObjectStore], key: str) -> Iterator[Guarantee]:
    store = stores[0]
    store.put(key, b"an older object")
    kept = all(_read(each, key) == b"an older object" for each in stores)
    yield _guarantee("read after write", kept, "an older state was read")
    store.put(key, _BODY)
    kept = all(_read(each, key) == _BODY for each in stores)
    yield _guarantee("overwrite", kept, "the overwritten object is still read")
    part = store.get(key, offset=1000, length=500)
    yield _guarantee("ranged read", part == _BODY[1000:1500], f"{len(part)} other bytes came for a range of 500")


def _check_listings(stores: Sequence[ObjectStore], key: str) -> Iterator[Guarantee]:
    def is_listed_by_all(expected: Sequence[str]) -> bool:
        return all([info.key for info in store.list(key)] == expected for store in stores)

    stores[0].put(key, b"listed")
    yield _guarantee("list after write", is_listed_by_all([key]), "an object that was just written is not listed")
    stores[0].delete([key])
    yield _guarantee("list after delete", is_listed_by_all([]), "an object that was just deleted is listed")


def _guarantee(name: str, kept: bool, otherwise: str) -> Guarantee:
    return Guarantee(name, kept, "as guaranteed" if kept else otherwise)


def _read(store: ObjectStore, key: str) -> Content | None:
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
