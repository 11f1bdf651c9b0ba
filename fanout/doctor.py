"""Looks at everything that jobs rely on, before they do: the store here, Celery in its engine."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from ._storage import (
    BucketNotFound,
    ObjectStore,
    StorageDenied,
    StorageError,
    StorageUnavailable,
    open_store,
    probe_store,
    write_verdict,
)
from .config import Config
from .errors import ConfigError
from .finding import Finding, Verdict

if TYPE_CHECKING:
    from .engines.celery import Extension

UNSAFE = (
    "It is emulated, as unsafe_write_once asks: an outcome may be delivered twice and a join run twice. "
    "Only for tasks whose steps are deterministic."
)


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
            yield from check_store(store, stall_s=base.stall_s, unsafe_write_once=base.unsafe_write_once)
    if extension is not None:
        from .engines.celery import check_app

        yield from check_app(extension.app)


def check_store(store: ObjectStore, *, stall_s: float, unsafe_write_once: bool = False) -> Iterator[Finding]:
    """Whether the store answers, keeps its promises, and agrees with this machine about the time.

    About 115 requests; leaves the verdict of the probe, for all who use the store, and the object by which the store's
    clock is read. Goes no further where the store does not answer.

    Args:
        store: The store itself, not one that is probed at first use.
        stall_s: Seconds without progress after which a sweep moves a job; clocks must agree much better than that.
        unsafe_write_once: Whether write-once puts may be emulated.
    """
    try:
        next(iter(store.list()), None)
    except StorageError as error:
        yield _broken(_concerned(error), error)
        return
    yield Finding("store", f"{store.url} answers, with these credentials")
    try:
        yield from _promises(store, unsafe_write_once=unsafe_write_once)
        yield _clock(store, stall_s=stall_s)
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


def _promises(store: ObjectStore, *, unsafe_write_once: bool) -> Iterator[Finding]:
    report = probe_store(store)
    # Stores of this machine are never probed at first use: nobody would read the verdict.
    if store.url.startswith("s3://"):
        write_verdict(store, report)
    error = report.error()
    for promise in report.promises:
        check = f"store: {promise.name}"
        if promise.kept or error is None:
            yield Finding(check, promise.seen)
        elif unsafe_write_once and report.broken == (promise,) and promise.name == "write once":
            yield Finding(check, promise.seen, Verdict.CHANGE, UNSAFE)
        else:
            yield Finding(check, promise.seen, Verdict.BROKEN, error.remedy)


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


def _concerned(error: StorageError) -> str:
    """Which part of a store's configuration an error is about."""
    parts = {BucketNotFound: "bucket", StorageDenied: "credentials", StorageUnavailable: "reachable"}
    return "store: " + next((part for kind, part in parts.items() if isinstance(error, kind)), "answers")


def _broken(check: str, error: StorageError) -> Finding:
    return Finding(check, str(error.args[0]), Verdict.BROKEN, error.remedy)
