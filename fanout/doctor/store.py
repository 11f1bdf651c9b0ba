"""The findings of `fanout doctor` on a store."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from storage import (
    BucketNotFound,
    Examination,
    Finding,
    ObjectStore,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    Verdict,
    measure_speed,
    probe_store,
    write_probe_result,
)

OWN_SEGMENTS = frozenset({"_ended", "_jobs", "_open", "_parameters", "_probe", "_sweeps", "_tags"})
"""First segments of all keys that fanout writes below a store's URL."""

_MAX_NAMES = 5
"""Foreign names that a finding lists. A bucket may hold millions."""


_SLOW_S = 0.2
"""A read of a small object that takes longer is far away, or meets a server that is short of something."""


def check_store(
    store: ObjectStore,
    *,
    stall_s: float,
    examination: Examination | None = None,
    peers: Sequence[ObjectStore] = (),
) -> Iterator[Finding]:
    """Check that a store answers, keeps its guarantees, has the right time, and holds nothing but fanout's objects.

    About 150 requests; 50 more for a bucket of S3. Writes the probe result, which all processes of the store read, and
    the object by which the store's clock is read. Stops if the store does not answer, or a right is missing without
    which no job runs.

    Args:
        store: The store itself, not a verified store.
        stall_s: Seconds without progress after which a sweep acts. Clocks must agree much better than that.
        examination: The checks that this kind of store has of its own.
        peers: The same store by other servers.
    """
    try:
        lacks_right = False
        if examination is not None:
            yield _report(examination.check_connection())
            for check in examination.check_rights():
                lacks_right = lacks_right or check.verdict is Verdict.BROKEN
                yield _report(check)
        if lacks_right:
            return
        for each in (store, *peers):
            next(iter(each.list()), None)
        servers = f", by each of {1 + len(peers)} servers" if peers else ""
        yield Finding("store", f"{store.url} answers, with these credentials{servers}")
        yield from _check_guarantees(store, peers)
        if examination is not None:
            yield from map(_report, examination.check_features())
        yield _check_clock(store, stall_s=stall_s)
        yield _check_root(store)
        yield _check_removal(store)
        yield _check_speed(store)
    except StorageError as error:
        yield report_error(_name_check(error), error)


def report_error(check: str, error: StorageError) -> Finding:
    """Return the finding that an error of a store is."""
    return Finding(check, str(error.args[0]), Verdict.BROKEN, error.remedy)


def _report(found: Finding) -> Finding:
    """Return a finding of a store as one among others."""
    return replace(found, check=f"store: {found.check}")


def _check_guarantees(store: ObjectStore, peers: Sequence[ObjectStore]) -> Iterator[Finding]:
    """Probe the store, and write the probe result."""
    report = probe_store(store, peers=peers)
    # Only processes that use S3 read the probe result.
    if store.url.startswith("s3://"):
        write_probe_result(store, report)
    error = report.error()
    for guarantee in report.guarantees:
        check = f"store: {guarantee.name}"
        if guarantee.kept or error is None:
            yield Finding(check, guarantee.seen)
        else:
            yield Finding(check, guarantee.seen, Verdict.BROKEN, error.remedy)


def _check_clock(store: ObjectStore, *, stall_s: float) -> Finding:
    """Compare the store's clock with this machine's. A sweep compares both to tell which steps run."""
    before = time.time()
    store_time = store.now()
    after = time.time()
    # Exact to half of the time that the request took, and to half a second where dates are whole seconds.
    ahead_s = store_time - (before + after) / 2
    if abs(ahead_s) < 1.0:
        return Finding("store: clock", "agrees with this machine's within a second or so")
    found = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if abs(ahead_s) < stall_s / 6:
        return Finding("store: clock", found)
    verdict = Verdict.CHANGE if abs(ahead_s) < stall_s / 2 else Verdict.BROKEN
    remedy = (
        f"A sweep takes a step for dead if its last heartbeat is older than stall_s = {stall_s:g} s, by both clocks: "
        "synchronise them (NTP)."
    )
    return Finding("store: clock", found, verdict, remedy)


def _check_root(store: ObjectStore) -> Finding:
    """Check that the store holds no objects of others. One request per first segment, at most eight."""
    names: list[str] = []
    after = ""
    for _ in range(len(OWN_SEGMENTS) + _MAX_NAMES):
        info = next(iter(store.list(start_after=after)), None)
        if info is None:
            break
        segment, slash, _rest = info.key.partition("/")
        if (segment not in OWN_SEGMENTS or not slash) and segment + slash not in names:
            names.append(segment + slash)
        # Skip the keys that share the segment, as far as they are ASCII.
        after = max(info.key, f"{segment}/~") if slash else info.key
    if not names:
        return Finding("store: root", "holds only fanout's objects")
    more = " and more" if len(names) >= _MAX_NAMES else ""
    return Finding(
        "store: root",
        f"holds objects of others: {', '.join(names[:_MAX_NAMES])}{more}",
        Verdict.CHANGE,
        "Jobs, removals and sweeps leave them alone. Give fanout a prefix of its own (s3://bucket/fanout), so that its "
        "rights and lifecycle rules concern no other objects.",
    )


def _check_removal(store: ObjectStore) -> Finding:
    """Check that the store deletes objects for good."""
    retention = store.retention()
    if retention is None:
        return Finding(
            "store: removal",
            "the bucket does not say whether it keeps versions",
            Verdict.UNKNOWN,
            "Grant s3:GetBucketVersioning. A bucket that keeps versions keeps removed jobs, at a price.",
        )
    expiry = "Give the bucket a lifecycle rule with NoncurrentVersionExpiration, and ExpiredObjectDeleteMarker."
    if retention.mode:
        return Finding(
            "store: removal",
            f"object lock keeps every version for {retention.days} days ({retention.mode})",
            Verdict.CHANGE,
            "Removed jobs stay that long and can't be deleted sooner. Use a bucket without a default "
            f"retention. {expiry}",
        )
    if retention.versions:
        lock = ", and may lock them" if retention.is_locked else ""
        return Finding(
            "store: removal",
            f"the bucket keeps earlier versions{lock}",
            Verdict.CHANGE,
            f"Deleted objects of jobs, sweeps and probes stay as hidden versions, at a price. {expiry}",
        )
    return Finding("store: removal", "deleted objects are gone")


def _check_speed(store: ObjectStore) -> Finding:
    """Measure how long small and large objects take."""
    speed = measure_speed(store)
    found = (
        f"1 KiB: {speed.write_s * 1e3:.1f} ms to write, {speed.read_s * 1e3:.1f} ms to read; "
        f"4 MiB: {speed.written_bytes_s / 1e6:.0f} MB/s up, {speed.read_bytes_s / 1e6:.0f} MB/s down"
    )
    if speed.read_s < _SLOW_S:
        return Finding("store: speed", found)
    remedy = "A chunk takes several such requests: run callers and workers near the store."
    return Finding("store: speed", found, Verdict.CHANGE, remedy)


def _name_check(error: StorageError) -> str:
    """Return the name of the check that an error of the store belongs to."""
    parts = {BucketNotFound: "bucket", StorageDenied: "credentials", StorageUnavailable: "reachable"}
    return "store: " + next((part for kind, part in parts.items() if isinstance(error, kind)), "answers")
