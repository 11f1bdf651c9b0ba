"""A store in a bucket of S3 whose requests cost a fifth of boto3's."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from importlib import import_module
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store as Client

from ..deadline import CallLimit, begun_at, is_limited
from ..errors import ObjectExists, ObjectNotFound, StorageError, StorageUnavailable
from ..keys import check_key, check_range
from ..object_store import Body, Content, ObjectInfo, ObjectStore, Retention
from ..waiting import Late, bounded
from .endpoint import access_of
from .location import S3Location, parse_s3_url
from .obstore_clients import Clients, clients_by, is_panic

if TYPE_CHECKING:
    from .boto3_store import S3Store

_T = TypeVar("_T")

_LOG = logging.getLogger(__name__)

# What an S3 key and a path of obstore's write alike; any other key goes through boto3.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._/-]+")
# A prefix that obstore can list: it takes it for a folder, and knows none of an empty name, "." or "..".
_FOLDER: Final = re.compile(r"(?:(?!\.{1,2}/)[A-Za-z0-9._-]+/)+")
_PAGE: Final = 1000
# What is larger and of known size has a client of its own, without a limit for the whole of a request, and is waited
# for in a helper thread; so is everything that a caller has set a limit for. A small request is made at once: the
# thread would cost a twentieth of what it does.
_LARGE_BYTES: Final = 16 * 2**20
# What is uploaded in one request, or about that. An object of more than two such parts goes up in parts, several at
# once: one stream has neither all of a line nor all of a server's processors.
_PART_BYTES: Final = 8 * 2**20
_PARTS_AT_ONCE: Final = 4
# No part but the last may be smaller, says S3.
_SMALLEST_PART_BYTES: Final = 5 * 2**20
# Requests in a row that obstore could not do and boto3 could, after which obstore is left alone.
_MISUNDERSTANDINGS: Final = 10
# A client that was refused is made anew, but not more often.
_CLIENT_REST_S: Final = 1.0


class _Runtime:
    """obstore's threads: they live in the process that made its first request, and in no child forked from it."""

    def __init__(self) -> None:
        self._process: int | None = None

    def usable(self) -> bool:
        """Whether obstore may be used here: in a child whose parent used it, it would hang for ever."""
        process = os.getpid()
        if self._process is None:
            self._process = process
        return self._process == process


_RUNTIME = _Runtime()


class ObstoreS3Store(ObjectStore):
    """Objects in a bucket, below a prefix; small requests cost a fifth of the CPU that `S3Store` needs for them.

    obstore does what it does well: to write, read, look up and list under plain keys. All else goes through an
    `S3Store`, and so does whatever obstore could not do: boto3 tries it again, more patiently, and its answer counts.
    So both give the same results and the same errors, within one limit. boto3 is not even imported until then, if the
    environment alone says how to reach the store. How that is, is decided once, as boto3's chain says, and obstore is
    told all of it: by itself it would heed other variables.

    What is larger than 16 MiB is uploaded in parts, unless it is to be written once; parts of an upload that broke off
    are removed by a rule of the bucket (AbortIncompleteMultipartUpload), if it has one.

    Each process makes its own client at first use. obstore does not survive a fork: a child whose parent has used it
    works with boto3.

    Args:
        location: What an s3:// URL says, or the URL itself.
    """

    def __init__(self, location: S3Location | str) -> None:
        self._location = parse_s3_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._prefix = self._location.prefix
        self._lock = threading.Lock()
        self._made: tuple[int, Clients | None] | None = None
        self._boto3: S3Store | None = None
        self._misunderstandings = 0

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        size_bytes = memoryview(body).nbytes
        name = self._name(key)
        # A condition is for an object of one part.
        in_parts = size_bytes > 2 * _PART_BYTES and not if_absent
        began_at = time.monotonic()
        clients = self._clients_for(name) if not self._needs_digests else None
        if clients is not None:
            mode: Any = "create" if if_absent else "overwrite"
            client = clients.quick if size_bytes <= _LARGE_BYTES else clients.large
            try:
                self._ask(
                    lambda: obstore.put(
                        client,
                        name,
                        body,
                        mode=mode,
                        use_multipart=in_parts,
                        chunk_size=_part_bytes(size_bytes),
                        max_concurrency=_PARTS_AT_ONCE,
                    ),
                    "writing",
                    key,
                    size_bytes,
                )
            except AlreadyExistsError as error:
                # To obstore a conflict of two writers is the same; but then neither may have won.
                if "status code: 409" not in str(error):
                    raise ObjectExists(f"writing {key!r} in {self.url}: an object stands there", key=key) from error
            except BaseException as error:
                self._misunderstood(error)
            else:
                self._misunderstandings = 0
                return
        with begun_at(began_at):
            self._careful.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        check_range(offset, length)
        name = self._name(key)
        began_at = time.monotonic()
        clients = self._clients_for(name) if length is None or length > 0 else None
        if clients is not None:
            client = clients.quick if (length or 0) <= _LARGE_BYTES else clients.large
            try:
                content = self._ask(lambda: self._read(client, name, offset, length), "reading", key, length or 0)
            except FileNotFoundError as error:
                if "NoSuchBucket" not in str(error):
                    raise ObjectNotFound(f"reading {key!r} in {self.url}: nothing stands there", key=key) from error
            except BaseException as error:
                self._misunderstood(error)
            else:
                self._misunderstandings = 0
                return content
        with begun_at(began_at):
            return self._careful.get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        name = self._name(key)
        began_at = time.monotonic()
        clients = self._clients_for(name)
        if clients is not None:
            try:
                found = self._ask(lambda: obstore.head(clients.quick, name), "looking up", key)
            except FileNotFoundError as error:
                raise ObjectNotFound(f"looking up {key!r} in {self.url}: nothing stands there", key=key) from error
            except BaseException as error:
                self._misunderstood(error)
            else:
                return ObjectInfo(key, found["size"], found["last_modified"])
        with begun_at(began_at):
            return self._careful.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        whole = self._prefix + prefix
        clients = self._clients_for(whole + start_after) if _FOLDER.fullmatch(whole) else None
        last = start_after
        began_at = time.monotonic()
        if clients is not None:
            offset = self._prefix + start_after if start_after else None
            try:
                pages = iter(obstore.list(clients.quick, whole, offset=offset, chunk_size=_PAGE))
                while page := self._ask(lambda: next(pages, None), "listing", ""):
                    for found in page:
                        last = found["path"].removeprefix(self._prefix)
                        yield ObjectInfo(last, found["size"], found["last_modified"])
                    began_at = time.monotonic()
            except GeneratorExit:
                raise
            except BaseException as error:
                self._misunderstood(error)
            else:
                return
        rest = self._careful.list(prefix, start_after=last)
        # The page that obstore could not get is the same call.
        with begun_at(began_at):
            first = next(rest, None)
        if first is not None:
            yield first
            yield from rest

    def delete(self, keys: Iterable[str]) -> None:
        self._careful.delete(keys)

    def create_bucket(self) -> None:
        """See `S3Store.create_bucket`."""
        self._careful.create_bucket()

    def retention(self) -> Retention | None:
        return self._careful.retention()

    def _ask(self, act: Callable[[], _T], doing: str, key: str, size_bytes: int = 0) -> _T:
        """Ask obstore: at once where its own limits suffice, and else in a helper thread."""
        if size_bytes <= _LARGE_BYTES and not is_limited():
            return act()
        return self._bounded(act, f"{doing} {key!r}" if key else doing, size_bytes)

    def _bounded(self, act: Callable[[], _T], doing: str, size_bytes: int = 0) -> _T:
        limit = CallLimit(size_bytes)
        try:
            return bounded(act, limit)
        except Late:
            timeout_s = limit.deadline.timeout_s
            raise StorageUnavailable(f"{doing} in {self.url}: no answer within {timeout_s:g} s") from None

    @staticmethod
    def _read(client: Client, name: str, offset: int, length: int | None) -> Content:
        # A view, not a copy: to make bytes of it would cost more than the request.
        if length is not None:
            return memoryview(obstore.get_range(client, name, start=offset, length=length))
        wanted: Any = {"range": {"offset": offset}} if offset else None
        return memoryview(obstore.get(client, name, options=wanted).bytes())

    @property
    def _careful(self) -> S3Store:
        """The same objects by way of boto3."""
        if self._boto3 is None:
            if is_limited() and "boto3" not in sys.modules:
                # It takes a third of a second, and on a busy machine more than a caller may have.
                self._bounded(lambda: import_module(f"{__package__}.boto3_store"), "loading boto3 for a request")
            from .boto3_client import Settled
            from .boto3_store import S3Store

            # Without a lock: two threads that make one each see the same.
            clients = self._made[1] if self._made is not None else None
            access = clients.access if clients is not None else None
            settled = Settled(access.endpoint, access.region) if access is not None else None
            self._boto3 = S3Store(self._location, settled=settled)
        return self._boto3

    @property
    def _needs_digests(self) -> bool:
        return self._boto3 is not None and self._boto3.wants_digest

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _misunderstood(self, error: BaseException) -> None:
        """Note that boto3 is asked once more; its success means that obstore and this server do not get on.

        Raises:
            BaseException: The error itself, if it is none of obstore's.
        """
        if isinstance(error, StorageError) or not (isinstance(error, Exception) or is_panic(error)):
            raise error
        made = self._made
        if made is not None and made[1] is not None and _is_denial(error):
            # Its credentials may have been replaced; then boto3's count, and these are asked for anew.
            if time.monotonic() - made[1].at > _CLIENT_REST_S:
                self._made = None
            return
        self._misunderstandings += 1
        _LOG.debug("%s: asked again by way of boto3: %s", self.url, str(error).partition("\n")[0])
        if self._misunderstandings == _MISUNDERSTANDINGS:
            _LOG.warning(
                "%s: obstore failed %d times in a row; from now on by way of boto3", self.url, _MISUNDERSTANDINGS
            )

    def _clients_for(self, name: str) -> Clients | None:
        """obstore's clients, or None where boto3 has to do it."""
        if not _PLAIN.fullmatch(name) or self._misunderstandings >= _MISUNDERSTANDINGS or not _RUNTIME.usable():
            return None
        made = self._made
        if made is None or made[0] != os.getpid():
            made = self._make()
        elif made[1] is not None and made[1].good_until < time.monotonic():
            made = self._renew(made[1])
        return made[1]

    def _make(self) -> tuple[int, Clients | None]:
        process = os.getpid()
        # A credential helper may hang, in this thread or in another: nobody waits for it longer than a call may take.
        is_mine = self._lock.acquire(timeout=CallLimit().remaining_s)
        try:
            made = self._made
            if made is None or made[0] != process:
                access = access_of(os.environ, bucket=self._location.bucket)
                if access is None:
                    access = self._careful.access()
                made = self._made = (process, clients_by(access, self._location.bucket) if access else None)
                if access is None or made[1] is None:
                    _LOG.info("%s: by way of boto3, since obstore can't be told all that AWS's settings say", self.url)
            return made
        finally:
            if is_mine:
                self._lock.release()

    def _renew(self, clients: Clients) -> tuple[int, Clients | None]:
        """Look whether there are new credentials; there is no harm in two threads that do."""
        access = self._careful.renewed(clients.access)
        if access.keys == clients.access.keys:
            renewed: Clients | None = replace(clients, good_until=Clients.next_look(access))
        else:
            renewed = clients_by(access, self._location.bucket)
        self._made = (os.getpid(), renewed)
        return self._made


def _part_bytes(size_bytes: int) -> int:
    """The size of equal parts, as many as go up at once or a multiple of that: then none goes up alone at the end."""
    rounds = max(1, round(size_bytes / (_PARTS_AT_ONCE * _PART_BYTES)))
    return max(_SMALLEST_PART_BYTES, ceil(size_bytes / (_PARTS_AT_ONCE * rounds)))


def _is_denial(error: BaseException) -> bool:
    """Whether the server refused the credentials; a token that has expired is a 400 without a class of its own."""
    return isinstance(error, PermissionDeniedError | UnauthenticatedError) or "ExpiredToken" in str(error)
