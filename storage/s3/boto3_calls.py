"""How `S3Store` asks boto3: by a client for each process, again and again within one limit, with errors of ours."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from botocore import exceptions as boto

from .. import deadline
from ..deadline import CallLimit
from ..errors import StorageDenied, StorageError, StorageUnavailable
from ..waiting import Late, bounded
from .boto3_client import Made, Settled, new_client
from .boto3_errors import BodyError, code_of, fault_of, is_unreachable
from .endpoint import check_endpoint
from .error_codes import CONFLICTS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# With one answer in five a 503, three attempts lose 0.8 % of the calls, eight about 3 in a million.
_ATTEMPTS: Final = 8
_BODY_ATTEMPTS: Final = 4
# Two writers that met have only to miss each other.
_CONFLICT_PAUSE_S: Final = 0.05
_CONFLICT_PAUSES_END_S: Final = 5.0
# Before a thread makes a client beside another that has not come to an end with it.
_CLIENT_WAIT_S: Final = 20.0
# A client that was refused is made anew, but not more often.
_CLIENT_REST_S: Final = 1.0

_T = TypeVar("_T")


class S3Calls:
    """Asks boto3 for one store.

    Args:
        url: The store's URL, for messages.
        checksums: boto3's checksum mode.
        settled: Where the bucket lies, if that is decided already; else boto3's chain says it at first use.
        pause: Waits so many seconds between two attempts.
    """

    def __init__(self, url: str, *, checksums: str, settled: Settled | None, pause: Callable[[float], object]) -> None:
        self.url = url
        self._checksums = checksums
        self._settled = settled
        self._pause = pause
        self._made: dict[int, Made] = {}
        self._locks: dict[int, threading.Lock] = {}

    def made(self) -> Made:
        """The client of this process; made if need be, which may ask for credentials."""
        process = os.getpid()
        made = self._made.get(process)
        if made is None:
            # A lock per process: a thread that was not forked may hold the parent's for ever. Nor is a thread of our
            # own waited for that long: a credential helper may never end.
            lock = self._locks.setdefault(process, threading.Lock())
            is_mine = lock.acquire(timeout=_CLIENT_WAIT_S)
            try:
                made = self._made.get(process)
                if made is None:
                    if self._settled is None:
                        check_endpoint(os.environ)
                    made = new_client(self._checksums, self._settled)
                    self._settled = self._settled or made.settled
                    self._made[process] = made
            finally:
                if is_mine:
                    lock.release()
        return made

    def call(
        self,
        doing: str,
        key: str | None,
        verb: str,
        request: Callable[[S3Client], _T],
        *,
        size_bytes: int = 0,
        limit: CallLimit | None = None,
        is_conditional: bool = False,
    ) -> _T:
        """Make a request, as often as it takes, within one limit.

        Args:
            doing: What is done, for messages: "writing".
            key: The object that it is done to.
            verb: The action of S3.
            request: Makes it, with a client.
            size_bytes: Of the body that is sent.
            limit: When the call has to end; by default as the body and the caller allow.
            is_conditional: Whether it is a write-once put.

        Raises:
            StorageError: What came of it; every error of botocore's is one of these.
        """
        limit = limit or CallLimit(size_bytes)
        subject = f"{doing} {key!r} in {self.url}" if key is not None else f"{doing} at {self.url}"
        fault = partial(fault_of, subject=subject, key=key, verb=verb, is_conditional=is_conditional)
        try:
            return bounded(lambda: self._tried(request, fault, limit), limit)
        except Late as late:
            error = self._unanswered(subject, key, late, limit)
            self._forget_a_hung_client()
            raise error from None

    def _unanswered(self, subject: str, key: str | None, late: Late, limit: CallLimit) -> StorageUnavailable:
        made = self._made.get(os.getpid())
        timeout_s = limit.deadline.timeout_s
        who = made.client.meta.endpoint_url if made is not None else "the server, or what gives the credentials,"
        asked = f"{who} did not answer within {timeout_s:g} s"
        if not late.was_asked:
            asked = f"the {timeout_s:g} s that were allowed had passed before it could be asked"
        return StorageUnavailable(f"{subject}: {asked}", key=key)

    def _forget_a_hung_client(self) -> None:
        """It may be the credentials that nobody gives: the next call asks for them afresh."""
        process = os.getpid()
        made = self._made.get(process)
        if made is None:
            self._locks.pop(process, None)
        elif made.is_renewable:
            self._forget_client()

    def _tried(
        self, request: Callable[[S3Client], _T], fault: Callable[[Exception], StorageError], limit: CallLimit
    ) -> _T:
        """Call until it succeeds, fails for good, or has had its attempts or its time; wait in between."""
        limits = deadline.LIMITS
        attempt = 0
        while True:
            attempt += 1
            try:
                return request(self.made().client)
            except NoBatchesError:
                raise
            except Exception as error:
                found = fault(error)
                found.__cause__ = error if found is not error else None
                if isinstance(found, StorageDenied):
                    self._forget_client()
                pause_s = _pause_s(error, attempt, limits)
                gives_up_s = limit.remaining_s
                if is_unreachable(error):
                    gives_up_s = min(gives_up_s, limit.began_at + limits.reach_s - limits.connect_s - time.monotonic())
                if not isinstance(found, StorageUnavailable) or pause_s is None or pause_s >= gives_up_s:
                    if found is error:
                        raise
                    raise found from found.__cause__
            self._pause(pause_s)

    def _forget_client(self) -> None:
        """Let the next call make a client anew, with credentials as they are then; not with each call in a row."""
        made = self._made.get(os.getpid())
        if made is not None and time.monotonic() - made.at > _CLIENT_REST_S:
            self._made.pop(os.getpid(), None)


class NoBatchesError(Exception):
    """The server does not delete several objects at once."""


def _pause_s(error: Exception, attempt: int, limits: deadline.Limits) -> float | None:
    """How long to wait after the so many-th attempt, which ended so; None to make no other."""
    first_s, most_s, attempts = limits.pause_s, limits.pauses_end_s, _ATTEMPTS
    if isinstance(error, BodyError):
        first_s, attempts = min(_CONFLICT_PAUSE_S, first_s), _BODY_ATTEMPTS
    elif isinstance(error, boto.ClientError) and code_of(error) in CONFLICTS:
        first_s, most_s = _CONFLICT_PAUSE_S, _CONFLICT_PAUSES_END_S
    if attempt >= attempts:
        return None
    # Full jitter: writers that met once must not meet again.
    return random.uniform(0, min(first_s * 2**attempt, most_s))  # noqa: S311 - not a secret
