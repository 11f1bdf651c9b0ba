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
from functools import partial
from importlib import import_module
from itertools import chain, islice
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import S3Store as Client

from ..deadline import CallLimit, count_from, is_limited
from ..errors import ObjectExists, ObjectNotFound, StorageError
from ..keys import check_key, check_range
from ..object_store import Body, Content, ObjectInfo, ObjectStore, Retention, check_room
from ..obstore_errors import is_denial, is_panic
from ..obstore_process import LARGE_BYTES, PART_BYTES, PARTS_AT_ONCE, ask, ask_within_limit, may_ask
from .endpoint import S3Access, read_access
from .location import S3Location, parse_s3_url
from .obstore_clients import Clients, make_clients

if TYPE_CHECKING:
    from .boto3_store import S3Store

_T = TypeVar("_T")

_LOG = logging.getLogger(__name__)

_PLAIN: Final = re.compile(r"[A-Za-z0-9._+=@,:/ -]+")
# Prefixes that obstore can list. It takes a prefix for a folder, and knows no folder with an empty name, "." or "..".
_FOLDER: Final = re.compile(r"(?:(?!\.{1,2}/)[A-Za-z0-9._+=@,: -]+/)+")
_PAGE: Final = 1000
# S3's lower limit for all parts but the last.
_SMALLEST_PART_BYTES: Final = 5 * 2**20
# After so many requests in a row that failed with obstore and succeeded with boto3, the store stops using obstore.
_MAX_FAILURES: Final = 10
# A client whose credentials were refused is made anew, but not more often than this.
_CLIENT_REST_S: Final = 1.0


def is_plain(key: str) -> bool:
    """Return whether S3 and obstore's paths spell a key alike. Requests for any other key go through boto3."""
    return _PLAIN.fullmatch(key) is not None


class ObstoreS3Store(ObjectStore):
    """Objects in a bucket, below a prefix; small requests cost a fifth of the CPU that `S3Store` needs for them.

    obstore writes, reads, looks up, lists and deletes single objects under plain keys; see `is_plain`. All other
    requests go through an `S3Store`, and so does every request that failed with obstore: boto3 tries it again, more
    patiently, and its answer counts. So both stores give the same results and the same errors, within one limit.

    boto3's chain decides once how to reach the store, and obstore is given all of it: by itself it would heed other
    variables. If the environment alone decides, boto3 is not imported until a request needs it.

    A body of more than 16 MiB is uploaded in parts, unless it is written once. The bucket removes the parts of an
    interrupted upload if it has a rule for it (AbortIncompleteMultipartUpload).

    Each process makes its own client at first use. obstore does not survive a fork: a child whose parent has used it
    works with boto3.

    Args:
        location: The location that an s3:// URL names, or the URL itself.
        access: The way to the bucket. The default is what boto3's chain says at first use.
        endpoint: URL of the server, if that alone is decided.
    """

    def __init__(self, location: S3Location | str, *, access: S3Access | None = None, endpoint: str = "") -> None:
        self._location = parse_s3_url(location) if isinstance(location, str) else location
        self.url = self._location.url
        self._prefix = self._location.prefix
        self._access = access
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._cached: tuple[int, Clients | None] | None = None
        self._boto3: S3Store | None = None
        self._failures = 0

    def put(self, key: str, body: Body, *, if_absent: bool = False) -> None:
        size_bytes = memoryview(body).nbytes
        name = self._name(key)
        # S3 takes no condition for an upload in parts.
        in_parts = size_bytes > 2 * PART_BYTES and not if_absent
        began_at = time.monotonic()
        clients = self._clients_for(name) if not self._needs_digests else None
        if clients is not None:
            mode: Any = "create" if if_absent else "overwrite"
            client = clients.quick if size_bytes <= LARGE_BYTES else clients.large
            try:
                self._ask(
                    lambda: obstore.put(
                        client,
                        name,
                        body,
                        mode=mode,
                        use_multipart=in_parts,
                        chunk_size=_part_bytes(size_bytes),
                        max_concurrency=PARTS_AT_ONCE,
                    ),
                    "writing",
                    key,
                    size_bytes,
                )
            except AlreadyExistsError as error:
                # obstore reports a conflict of two writers in the same way, but then neither may have won.
                if "status code: 409" not in str(error):
                    raise ObjectExists(f"writing {key!r} in {self.url}: an object exists there", key=key) from error
            except BaseException as error:
                self._note_failure(error)
            else:
                self._failures = 0
                return
        with count_from(began_at):
            self._fallback.put(key, body, if_absent=if_absent)

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Content:
        check_range(offset, length)
        name = self._name(key)
        began_at = time.monotonic()
        clients = self._clients_for(name) if length is None or length > 0 else None
        if clients is not None:
            client = clients.quick if (length or 0) <= LARGE_BYTES else clients.large
            try:
                content = self._ask(lambda: self._read(client, name, offset, length), "reading", key, length or 0)
            except FileNotFoundError as error:
                if "NoSuchBucket" not in str(error):
                    raise ObjectNotFound(f"reading {key!r} in {self.url}: no object exists there", key=key) from error
            except BaseException as error:
                self._note_failure(error)
            else:
                self._failures = 0
                return content
        with count_from(began_at):
            return self._fallback.get(key, offset=offset, length=length)

    def head(self, key: str) -> ObjectInfo:
        name = self._name(key)
        began_at = time.monotonic()
        clients = self._clients_for(name)
        if clients is not None:
            try:
                info = self._ask(lambda: obstore.head(clients.quick, name), "looking up", key)
            except FileNotFoundError as error:
                raise ObjectNotFound(f"looking up {key!r} in {self.url}: no object exists there", key=key) from error
            except BaseException as error:
                self._note_failure(error)
            else:
                return ObjectInfo(key, info["size"], info["last_modified"])
        with count_from(began_at):
            return self._fallback.head(key)

    def list(self, prefix: str = "", *, start_after: str = "") -> Iterator[ObjectInfo]:
        full_prefix = self._prefix + prefix
        clients = self._clients_for(full_prefix + start_after) if _FOLDER.fullmatch(full_prefix) else None
        last = start_after
        began_at = time.monotonic()
        if clients is not None:
            offset = self._prefix + start_after if start_after else None
            try:
                pages = iter(obstore.list(clients.quick, full_prefix, offset=offset, chunk_size=_PAGE))
                while page := self._ask(lambda: next(pages, None), "listing", ""):
                    for entry in page:
                        last = entry["path"].removeprefix(self._prefix)
                        yield ObjectInfo(last, entry["size"], entry["last_modified"])
                    began_at = time.monotonic()
            except GeneratorExit:
                raise
            except BaseException as error:
                self._note_failure(error)
            else:
                return
        rest = self._fallback.list(prefix, start_after=last)
        # boto3 fetches the page that obstore could not, within the limit of the same call.
        with count_from(began_at):
            first = next(rest, None)
        if first is not None:
            yield first
            yield from rest

    def delete(self, keys: Iterable[str]) -> None:
        remaining = iter(keys)
        first = list(islice(remaining, 2))
        if len(first) > 1:
            # Several are one request only with boto3, which also tells each that was refused.
            self._fallback.delete(chain(first, remaining))
        elif first:
            began_at = time.monotonic()
            if not self._delete_quickly(first[0]):
                with count_from(began_at):
                    self._fallback.delete(first)

    def _delete_quickly(self, key: str) -> bool:
        """Delete one object with obstore; return False where boto3 must do it."""
        name = self._name(key)
        clients = self._clients_for(name)
        if clients is None:
            return False
        try:
            self._ask(partial(obstore.delete, clients.quick, name), "deleting", key)
        except BaseException as error:
            # Some servers tell that there was no such object.
            if isinstance(error, FileNotFoundError) and "NoSuchBucket" not in str(error):
                return True
            self._note_failure(error)
            return False
        self._failures = 0
        return True

    def create_bucket(self) -> None:
        """Make this store's bucket, as `S3Store.create_bucket` does."""
        self._fallback.create_bucket()

    def retention(self) -> Retention | None:
        return self._fallback.retention()

    def own_clients(self) -> Clients | None:
        """Return obstore's own clients of this process, or None if boto3 must make all requests."""
        return self._clients_for("-")

    def forget_credentials(self) -> None:
        """Let the next request ask for credentials anew, at most once per rest."""
        cached = self._cached
        if cached is not None and cached[1] is not None and time.monotonic() - cached[1].at > _CLIENT_REST_S:
            self._cached = None

    def _ask(self, act: Callable[[], _T], doing: str, key: str, size_bytes: int = 0) -> _T:
        return ask(act, f"{doing} {key!r}" if key else doing, self.url, size_bytes)

    @staticmethod
    def _read(client: Client, name: str, offset: int, length: int | None) -> Content:
        # A view: a copy as bytes would cost more than the request.
        if length is not None:
            return memoryview(obstore.get_range(client, name, start=offset, length=length))
        wanted: Any = {"range": {"offset": offset}} if offset else None
        answer = obstore.get(client, name, options=wanted)
        check_room(answer.range[1] - answer.range[0], key=name)
        return memoryview(answer.bytes())

    @property
    def _fallback(self) -> S3Store:
        """The same store with boto3."""
        if self._boto3 is None:
            if is_limited() and "boto3" not in sys.modules:
                # The import takes a third of a second, and on a busy machine more than a caller may have.
                load = partial(import_module, f"{__package__}.boto3_store")
                ask_within_limit(load, "loading boto3 for a request", self.url)
            from .boto3_client import Server
            from .boto3_store import S3Store

            # Without a lock: two threads that make one each get equal stores.
            clients = self._cached[1] if self._cached is not None else None
            access = clients.access if clients is not None else None
            server = Server(self._endpoint, None) if self._endpoint else None
            if access is not None:
                server = Server(access.endpoint, access.region)
            self._boto3 = S3Store(self._location, server=server)
        return self._boto3

    @property
    def _needs_digests(self) -> bool:
        return self._boto3 is not None and self._boto3.wants_digest

    def _name(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _note_failure(self, error: BaseException) -> None:
        """Count a failure of obstore before boto3 tries the same request.

        If boto3 succeeds, obstore and this server do not work together.

        Raises:
            BaseException: The error itself, if it is none of obstore's.
        """
        if isinstance(error, StorageError) or not (isinstance(error, Exception) or is_panic(error)):
            raise error
        cached = self._cached
        if cached is not None and cached[1] is not None and is_denial(error):
            # The credentials may have been replaced: ask for them anew, and let boto3 answer this request.
            self.forget_credentials()
            return
        self._failures += 1
        _LOG.debug("%s: asking again with boto3: %s", self.url, str(error).partition("\n")[0])
        if self._failures == _MAX_FAILURES:
            _LOG.warning("%s: obstore failed %d times in a row; using boto3 from now on", self.url, _MAX_FAILURES)

    def _clients_for(self, name: str) -> Clients | None:
        """Return obstore's clients, or None where boto3 must make the request."""
        if not is_plain(name) or self._failures >= _MAX_FAILURES or not may_ask():
            return None
        cached = self._cached
        if cached is None or cached[0] != os.getpid():
            cached = self._make_clients()
        elif cached[1] is not None and cached[1].good_until < time.monotonic():
            cached = self._check_credentials(cached[1])
        return cached[1]

    def _make_clients(self) -> tuple[int, Clients | None]:
        process = os.getpid()
        # A credential helper may hang, in this thread or another. No thread waits longer than a call may take.
        is_mine = self._lock.acquire(timeout=CallLimit().remaining_s)
        try:
            cached = self._cached
            if cached is None or cached[0] != process:
                environ = {**os.environ, **({"AWS_ENDPOINT_URL_S3": self._endpoint} if self._endpoint else {})}
                access = self._access or read_access(environ, bucket=self._location.bucket)
                if access is None:
                    access = self._fallback.access()
                cached = self._cached = (process, make_clients(access, self._location) if access else None)
                if access is None or cached[1] is None:
                    _LOG.info("%s: using boto3, since obstore has no equivalent of some AWS settings", self.url)
            return cached
        finally:
            if is_mine:
                self._lock.release()

    def _check_credentials(self, clients: Clients) -> tuple[int, Clients | None]:
        """Read the credentials again, and make new clients if they changed. Two threads may do so at once."""
        access = self._fallback.renew(clients.access)
        if access.keys == clients.access.keys:
            current: Clients | None = replace(clients, good_until=Clients.next_renewal(access))
        else:
            current = make_clients(access, self._location)
        self._cached = (os.getpid(), current)
        return self._cached


def _part_bytes(size_bytes: int) -> int:
    """Return the size of equal parts, in a number that leaves none to be uploaded alone at the end."""
    groups = max(1, round(size_bytes / (PARTS_AT_ONCE * PART_BYTES)))
    return max(_SMALLEST_PART_BYTES, ceil(size_bytes / (PARTS_AT_ONCE * groups)))
