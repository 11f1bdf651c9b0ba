"""Calls to boto3: one client per process, retries within one limit, and errors of this package."""

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
from ..waiting import Late, call_within
from .boto3_client import ProcessClient, Server, new_client
from .boto3_errors import BodyError, code_of, is_unreachable, translate_error
from .endpoint import Keys, check_endpoint
from .error_codes import CONFLICTS

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

# With one answer in five a 503, three attempts lose 0.8 % of the calls, and eight about 3 in a million.
_ATTEMPTS: Final = 8
_BODY_ATTEMPTS: Final = 4
# Two writers that met need only miss each other.
_CONFLICT_PAUSE_S: Final = 0.05
_CONFLICT_PAUSES_END_S: Final = 5.0
# How long a thread waits for another one that is making a client, before it makes one too.
_CLIENT_WAIT_S: Final = 20.0
# A client whose credentials were refused is made anew, but not more often than this.
_CLIENT_REST_S: Final = 1.0

_T = TypeVar("_T")


class S3Calls:
    """Calls to boto3 for one store.

    Args:
        url: The store's URL, for messages.
        checksums: boto3's checksum mode.
        server: Where the bucket is, if that is decided already. The default is what boto3's chain says at first use.
        pause: Waits so many seconds between two attempts.
        keys: Credentials that a setting names. The default is what boto3's chain says.
    """

    def __init__(
        self,
        url: str,
        *,
        checksums: str,
        server: Server | None,
        pause: Callable[[float], object],
        keys: Keys | None = None,
    ) -> None:
        self.url = url
        self._checksums = checksums
        self._server = server
        self._keys = keys
        self._pause = pause
        self._clients: dict[int, ProcessClient] = {}
        self._locks: dict[int, threading.Lock] = {}

    def process_client(self) -> ProcessClient:
        """Return the client of this process, making it if need be; that may ask for credentials."""
        process = os.getpid()
        current = self._clients.get(process)
        if current is None:
            # A lock per process: a thread that was not forked may hold the parent's for ever. The wait is limited in
            # this process too, because a credential helper may never end.
            lock = self._locks.setdefault(process, threading.Lock())
            is_mine = lock.acquire(timeout=_CLIENT_WAIT_S)
            try:
                current = self._clients.get(process)
                if current is None:
                    if self._server is None:
                        check_endpoint(os.environ)
                    current = new_client(self._checksums, self._server, self._keys)
                    self._server = self._server or current.server
                    self._clients[process] = current
            finally:
                if is_mine:
                    lock.release()
        return current

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
        """Make a request, retried within one limit.

        Args:
            doing: The activity, for messages: "writing".
            key: The object concerned, if there is one.
            verb: The action of S3.
            request: Makes the request with a client.
            size_bytes: Size of the body that is sent.
            limit: When the call has to end. The default depends on the body and on the caller's limit.
            is_conditional: Whether it is a write-once put.

        Raises:
            StorageError: The request failed. Every error of botocore becomes one of these.
        """
        limit = limit or CallLimit(size_bytes)
        subject = f"{doing} {key!r} in {self.url}" if key is not None else f"{doing} at {self.url}"
        fault = partial(translate_error, subject=subject, key=key, verb=verb, is_conditional=is_conditional)
        try:
            return call_within(lambda: self._retry(request, fault, limit), limit)
        except Late as late:
            error = self._timeout_error(subject, key, late, limit)
            self._forget_a_hung_client()
            raise error from None

    def _timeout_error(self, subject: str, key: str | None, late: Late, limit: CallLimit) -> StorageUnavailable:
        current = self._clients.get(os.getpid())
        timeout_s = limit.deadline.timeout_s
        who = current.client.meta.endpoint_url if current is not None else "the server, or what gives the credentials,"
        asked = f"{who} did not answer within {timeout_s:g} s"
        if not late.was_asked:
            asked = f"the {timeout_s:g} s that were allowed had passed before it could be asked"
        return StorageUnavailable(f"{subject}: {asked}", key=key)

    def _forget_a_hung_client(self) -> None:
        """Let the next call ask for credentials anew, since they may be what hung."""
        process = os.getpid()
        current = self._clients.get(process)
        if current is None:
            self._locks.pop(process, None)
        elif current.is_renewable:
            self._forget_client()

    def _retry(
        self, request: Callable[[S3Client], _T], fault: Callable[[Exception], StorageError], limit: CallLimit
    ) -> _T:
        """Call until it succeeds, fails for good, or has used up its attempts or its time; pause in between."""
        limits = deadline.LIMITS
        attempt = 0
        while True:
            attempt += 1
            try:
                return request(self.process_client().client)
            except NoBatchesError:
                raise
            except Exception as error:
                translated = fault(error)
                translated.__cause__ = error if translated is not error else None
                if isinstance(translated, StorageDenied):
                    self._forget_client()
                pause_s = _pause_s(error, attempt, limits)
                gives_up_s = limit.remaining_s
                if is_unreachable(error):
                    gives_up_s = min(gives_up_s, limit.began_at + limits.reach_s - limits.connect_s - time.monotonic())
                if not isinstance(translated, StorageUnavailable) or pause_s is None or pause_s >= gives_up_s:
                    if translated is error:
                        raise
                    raise translated from translated.__cause__
            self._pause(pause_s)

    def _forget_client(self) -> None:
        """Let the next call make a client with the credentials of that moment, at most once per rest."""
        current = self._clients.get(os.getpid())
        if current is not None and time.monotonic() - current.at > _CLIENT_REST_S:
            self._clients.pop(os.getpid(), None)


class NoBatchesError(Exception):
    """The server cannot delete several objects at once."""


def _pause_s(error: Exception, attempt: int, limits: deadline.Limits) -> float | None:
    """Return the seconds to pause after an attempt that ended with this error, or None to give up."""
    first_s, most_s, attempts = limits.pause_s, limits.pauses_end_s, _ATTEMPTS
    if isinstance(error, BodyError):
        first_s, attempts = min(_CONFLICT_PAUSE_S, first_s), _BODY_ATTEMPTS
    elif isinstance(error, boto.ClientError) and code_of(error) in CONFLICTS:
        first_s, most_s = _CONFLICT_PAUSE_S, _CONFLICT_PAUSES_END_S
    if attempt >= attempts:
        return None
    # Full jitter: writers that met once must not meet again.
    return random.uniform(0, min(first_s * 2**attempt, most_s))  # noqa: S311 - not a secret
