"""Looks at everything that jobs rely on, before they do: the store here, Celery in its engine."""

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

OURS = frozenset({"_jobs", "_parameters", "_probe"})
"""First segments of all keys that fanout writes, below a store's URL."""

# So many are named; a bucket may hold millions.
_STRANGERS = 5


def check_all(extension: Extension | None, *, store_url: str | None = None) -> Iterator[Finding]:
    """Look at a store, and at a Celery app.

    Args:
        extension: The app; None to look at the store alone.
        store_url: The store; the app's own if not given.
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
            yield _broken("store", error)
        else:
            yield from check_store(store, stall_s=base.stall_s)
    if extension is not None:
        from .engines.celery import check_app

        yield from check_app(extension.app)


def check_store(store: ObjectStore, *, stall_s: float) -> Iterator[Finding]:
    """Whether the store answers, keeps its promises, agrees with this machine about the time, and is fanout's alone.

    About 120 requests; leaves the verdict of the probe, for all who use the store, and the object by which the store's
    clock is read. Goes no further where the store does not answer.

    Args:
        store: The store itself, not one that is probed at first use.
        stall_s: Seconds without progress after which a sweep moves a job; clocks must agree much better than that.
    """
    try:
        next(iter(store.list()), None)
    except StorageError as error:
        yield _broken(_concerned(error), error)
        return
    yield Finding("store", f"{store.url} answers, with these credentials")
    try:
        yield from _guarantees(store)
        yield _clock(store, stall_s=stall_s)
        yield _strangers(store)
        yield _retention(store)
    except StorageError as error:
        yield _broken(_concerned(error), error)


def report_lines(findings: Iterable[Finding], *, width: int = 120) -> Iterator[str]:
    """The findings for a terminal: a line each as it comes, and below it the remedy."""
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
    """The findings as plain data: check, found, verdict, remedy."""
    return [{name: str(value) for name, value in asdict(finding).items()} for finding in findings]


def _guarantees(store: ObjectStore) -> Iterator[Finding]:
    report = probe_store(store)
    # Stores of this machine are never probed at first use: nobody would read the verdict.
    if store.url.startswith("s3://"):
        write_probe_result(store, report)
    error = report.error()
    for guarantee in report.guarantees:
        check = f"store: {guarantee.name}"
        if guarantee.kept or error is None:
            yield Finding(check, guarantee.seen)
        else:
            yield Finding(check, guarantee.seen, Verdict.BROKEN, error.remedy)


def _clock(store: ObjectStore, *, stall_s: float) -> Finding:
    """How far the store's clock is from ours; a sweep compares the two to tell who is still at work."""
    before = time.time()
    told = store.now()
    after = time.time()
    # The store's word is good to half of the time that it took, and to half a second where dates are whole seconds.
    ahead_s = told - (before + after) / 2
    if abs(ahead_s) < 1.0:
        return Finding("store: clock", "agrees with this machine's within a second or so")
    found = f"{abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if abs(ahead_s) < stall_s / 6:
        return Finding("store: clock", found)
    verdict = Verdict.CHANGE if abs(ahead_s) < stall_s / 2 else Verdict.BROKEN
    remedy = (
        f"Sweeps hold a step for dead that has not been heard of for stall_s = {stall_s:g} s, by both clocks: "
        "synchronise them (NTP)."
    )
    return Finding("store: clock", found, verdict, remedy)


def _strangers(store: ObjectStore) -> Finding:
    """Whether something lies there that is not fanout's; one request for each first segment that there is, or eight."""
    names: list[str] = []
    after = ""
    for _ in range(len(OURS) + _STRANGERS):
        found = next(iter(store.list(start_after=after)), None)
        if found is None:
            break
        segment, slash, _rest = found.key.partition("/")
        if (segment not in OURS or not slash) and segment + slash not in names:
            names.append(segment + slash)
        # Past what shares the segment, as far as it is written in ASCII.
        after = max(found.key, f"{segment}/~") if slash else found.key
    if not names:
        return Finding("store: root", "holds nothing but fanout's own")
    more = " and more" if len(names) >= _STRANGERS else ""
    return Finding(
        "store: root",
        f"holds what is not fanout's: {', '.join(names[:_STRANGERS])}{more}",
        Verdict.CHANGE,
        "Jobs, removals and sweeps leave it alone. Give fanout a prefix of its own (s3://bucket/fanout), so that its "
        "rights and lifecycle rules concern nothing else.",
    )


def _retention(store: ObjectStore) -> Finding:
    """Whether what is removed is gone."""
    kept = store.retention()
    if kept is None:
        return Finding(
            "store: removal",
            "the bucket does not say whether it keeps versions",
            Verdict.UNKNOWN,
            "It takes the right s3:GetBucketVersioning. A bucket that keeps versions keeps removed jobs, at a price.",
        )
    expiry = "Give the bucket a lifecycle rule with NoncurrentVersionExpiration, and ExpiredObjectDeleteMarker."
    if kept.mode:
        return Finding(
            "store: removal",
            f"object lock keeps every version for {kept.days} days ({kept.mode})",
            Verdict.CHANGE,
            "Removed jobs stay for that long, and nobody can delete them before. Use a bucket without a default "
            f"retention. {expiry}",
        )
    if kept.versions:
        lock = ", and may lock them" if kept.is_locked else ""
        return Finding(
            "store: removal",
            f"the bucket keeps earlier versions{lock}",
            Verdict.CHANGE,
            f"What jobs, sweeps and probes remove stays there unseen, and is paid for. {expiry}",
        )
    return Finding("store: removal", "what is removed is gone")


def _concerned(error: StorageError) -> str:
    """Which part of a store's configuration an error is about."""
    parts = {BucketNotFound: "bucket", StorageDenied: "credentials", StorageUnavailable: "reachable"}
    return "store: " + next((part for kind, part in parts.items() if isinstance(error, kind)), "answers")


def _broken(check: str, error: StorageError) -> Finding:
    return Finding(check, str(error.args[0]), Verdict.BROKEN, error.remedy)
