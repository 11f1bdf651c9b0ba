"""Does a store keep the promises of the port? Tried out, not assumed.

A store that answers every request politely may still let two writers win one key. Nothing shows it until two meet,
so here they are made to meet.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
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
"""Of what is tried and of how the verdict is written; a verdict of another version counts for nothing."""

PREFIX: Final = "_probe/"
"""Everything that a probe writes lies below it. What it leaves there is the verdict."""

PROBE_RESULT_KEY: Final = f"{PREFIX}result-{VERSION}"

WRITE_ONCE: Final = "write once"

_BODY = bytes(range(256)) * 16
_NOT_THE_STORES_FAULT = (StorageUnavailable, StorageDenied, BucketNotFound)


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One promise of the port, and how a store kept it.

    Attributes:
        name: `write once`, `read after write`, `overwrite`, `ranged read`, `list after write`, `list after delete`.
        kept: Whether it was kept.
        seen: What was seen, in a few words: "32 of 32 writers won".
    """

    name: str
    kept: bool
    seen: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """How a store kept each promise.

    Attributes:
        url: The store's URL.
        at: When it was probed, in seconds since the epoch, by this machine's clock.
        guarantees: Each of them.
    """

    url: str
    at: float
    guarantees: tuple[Guarantee, ...]

    @property
    def broken(self) -> tuple[Guarantee, ...]:
        """The promises that were not kept."""
        return tuple(guarantee for guarantee in self.guarantees if not guarantee.kept)

    def error(self) -> GuaranteeBroken | None:
        """What there is to raise, if a promise was broken."""
        if not self.broken:
            return None
        kind = ConditionalWriteUnsupported if any(p.name == WRITE_ONCE for p in self.broken) else GuaranteeBroken
        listed = "; ".join(f"{guarantee.name}: {guarantee.seen}" for guarantee in self.broken)
        return kind(f"the store {self.url} does not keep what jobs rely on: {listed}")

    def to_bytes(self) -> bytes:
        return encode([VERSION, self.at, [[each.name, each.kept, each.seen] for each in self.guarantees]])


def probe_store(store: ObjectStore, *, writers: int = 32, rounds: int = 3) -> ProbeReport:
    """Try out a store's promises, through the port, below a prefix of the probe's own.

    At most `rounds × (writers + 1) + 11` requests, 110 as it stands, `writers` of them at a time. What it wrote is
    deleted again unless the store stops answering; several may probe one store at the same time.

    Args:
        store: The store.
        writers: Writers that meet at one key.
        rounds: Keys at which they meet. A store that races may pass one by luck.

    Raises:
        StorageUnavailable: The store does not answer, so that nothing was learnt.
        StorageDenied: The store refuses to read, write, list or delete at all.
        BucketNotFound: The bucket is missing.
    """
    at = time.time()
    with _cleaned(store) as prefix:
        guarantees = (
            _write_once(store, prefix, writers=writers, rounds=rounds),
            *_reads(store, f"{prefix}object"),
            *_listings(store, f"{prefix}listed/object"),
        )
    return ProbeReport(store.url, at, guarantees)


def read_probe_result(store: ObjectStore) -> ProbeReport | None:
    """What the last probe of the store found, as far as anybody wrote it down. One request."""
    try:
        version, at, rows = decode(store.get(PROBE_RESULT_KEY), key=PROBE_RESULT_KEY)
        guarantees = tuple(Guarantee(str(name), bool(kept), str(seen)) for name, kept, seen in rows)
    except (ObjectNotFound, CorruptObject, TypeError, ValueError):
        return None
    return ProbeReport(store.url, float(at), guarantees) if version == VERSION and guarantees else None


def write_probe_result(store: ObjectStore, report: ProbeReport) -> None:
    """Leave what a probe found in the store, for others to read; replaces what stood there. One request."""
    store.put(PROBE_RESULT_KEY, report.to_bytes())


@contextmanager
def _cleaned(store: ObjectStore) -> Iterator[str]:
    """A fresh prefix; what lies below it in the end is deleted."""
    prefix = f"{PREFIX}{secrets.token_hex(8)}/"
    try:
        yield prefix
    except _NOT_THE_STORES_FAULT:
        # The store is in no state to be tidied; what stays is a few small objects that nobody reads.
        raise
    except BaseException:
        _clean(store, prefix)
        raise
    _clean(store, prefix)


def _clean(store: ObjectStore, prefix: str) -> None:
    store.delete([found.key for found in store.list(prefix)])


def _write_once(store: ObjectStore, prefix: str, *, writers: int, rounds: int) -> Guarantee:
    seen = ""
    for number in range(rounds):
        kept, seen = _race(store, f"{prefix}once/{number}", writers)
        if not kept:
            return Guarantee(WRITE_ONCE, False, seen)
    return Guarantee(WRITE_ONCE, True, f"{seen}, {rounds} times")


def _race(store: ObjectStore, key: str, writers: int) -> tuple[bool, str]:
    """Let writers meet at a key; whether it went as promised, and what was seen."""
    bodies = [b"%d of %d" % (number, writers) for number in range(writers)]
    answers: list[StorageError | None] = [None] * writers
    start = threading.Barrier(writers)

    def write(number: int) -> None:
        # no limit: as many threads were started as it waits for
        start.wait()
        try:
            store.put(key, bodies[number], if_absent=True)
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
    existing = _read(store, key)
    # No winner at all is what a winner looks like whose answer was lost: its own second try met its first.
    expected = [bodies[winners[0]]] if winners else bodies
    return existing in expected, seen if existing in expected else f"{seen}, but something else stands"


def _reads(store: ObjectStore, key: str) -> Iterator[Guarantee]:
    store.put(key, b"what stood here before")
    yield _promise("read after write", _read(store, key) == b"what stood here before", "an older state was read")
    store.put(key, _BODY)
    yield _promise("overwrite", _read(store, key) == _BODY, "what was overwritten is still read")
    part = store.get(key, offset=1000, length=500)
    yield _promise("ranged read", part == _BODY[1000:1500], f"{len(part)} other bytes came for a range of 500")


def _listings(store: ObjectStore, key: str) -> Iterator[Guarantee]:
    store.put(key, b"listed")
    found = [info.key for info in store.list(key)]
    yield _promise("list after write", found == [key], "an object that was just written is not listed")
    store.delete([key])
    found = [info.key for info in store.list(key)]
    yield _promise("list after delete", found == [], "an object that was just deleted is listed")


def _promise(name: str, kept: bool, otherwise: str) -> Guarantee:
    return Guarantee(name, kept, "as promised" if kept else otherwise)


def _read(store: ObjectStore, key: str) -> Content | None:
    try:
        return store.get(key)
    except ObjectNotFound:
        return None
