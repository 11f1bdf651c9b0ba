"""The checks of `fanout doctor`: the store here, Celery in its engine."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from storage import (
    BucketNotFound,
    ObjectStore,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    open_store,
    probe_store,
    write_probe_result,
)

from .config.settings import Config
from .errors import ConfigError
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from .engines.celery import Extension

OWN_SEGMENTS = frozenset({"_ended", "_jobs", "_open", "_parameters", "_probe", "_sweeps", "_tags"})
"""First segments of all keys that fanout writes below a store's URL."""

_MAX_NAMES = 5
"""Foreign names that a finding lists. A bucket may hold millions."""


def check_all(extension: Extension | None, *, store_url: str | None = None) -> Iterator[Finding]:
    """Check a store and a Celery app, and yield each finding as it comes.

    Args:
        extension: The connected app; None to check the store alone.
        store_url: The store; None for the app's own.
    """
    try:
        base = extension.config if extension is not None else Config(store=store_url or "")
    except ConfigError as error:
        base = Config(store=store_url or "")
        if store_url is None:
            yield Finding("store", str(error), Verdict.BROKEN, "Name a store.")
    url = store_url or base.store
    if url:
        try:
            store = open_store(url)
        except StorageError as error:
            yield _report_error("store", error)
        else:
            yield from check_store(store, stall_s=base.stall_s)
    if extension is not None:
        from .engines.celery import check_app

        yield from check_app(extension.app)


def check_store(store: ObjectStore, *, stall_s: float) -> Iterator[Finding]:
    """Check that a store answers, keeps its guarantees, has the right time, and holds nothing but fanout's objects.

    About 120 requests. Writes the probe result, which all processes of the store read, and the object by which the
    store's clock is read. Stops if the store does not answer.

    Args:
        store: The store itself, not a verified store.
        stall_s: Seconds without progress after which a sweep acts. Clocks must agree much better than that.
    """
    try:
        next(iter(store.list()), None)
    except StorageError as error:
        yield _report_error(_name_check(error), error)
        return
    yield Finding("store", f"{store.url} answers, with these credentials")
    try:
        yield from _check_guarantees(store)
        yield _check_clock(store, stall_s=stall_s)
        yield _check_root(store)
        yield _check_removal(store)
    except StorageError as error:
        yield _report_error(_name_check(error), error)


def report_lines(findings: Iterable[Finding], *, width: int = 120) -> Iterator[str]:
    """Yield the lines of the findings for a terminal, each with its remedy below it."""
    margin = " " * 44
    for finding in findings:
        head = f"{finding.verdict:<13} {finding.check:<29} "
        yield from textwrap.wrap(head + finding.found, width, subsequent_indent=margin, break_on_hyphens=False)
        if finding.remedy:
            yield from textwrap.wrap(
                finding.remedy,
                width,
                initial_indent=" " * 14 + "→ ",
                subsequent_indent=" " * 16,
                break_on_hyphens=False,
            )


def plain(findings: Iterable[Finding]) -> list[dict[str, str]]:
    """Return the findings as plain data: check, found, verdict and remedy of each."""
    return [{name: str(value) for name, value in asdict(finding).items()} for finding in findings]


def _check_guarantees(store: ObjectStore) -> Iterator[Finding]:
    """Probe the store, and write the probe result."""
    report = probe_store(store)
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


def _name_check(error: StorageError) -> str:
    """Return the name of the check that an error of the store belongs to."""
    parts = {BucketNotFound: "bucket", StorageDenied: "credentials", StorageUnavailable: "reachable"}
    return "store: " + next((part for kind, part in parts.items() if isinstance(error, kind)), "answers")


def _report_error(check: str, error: StorageError) -> Finding:
    return Finding(check, str(error.args[0]), Verdict.BROKEN, error.remedy)
