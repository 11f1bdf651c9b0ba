"""Store URLs: what a configuration says about where objects live, and the store it means."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from .errors import InvalidKey, InvalidStoreUrl
from .file import FileStore
from .keys import MAX_KEY_BYTES, check_key
from .memory import MemoryStore
from .store import ObjectStore

MAX_PREFIX_BYTES: Final = 1024 - MAX_KEY_BYTES
CHECKSUM_MODES: Final = ("when_required", "when_supported")
CLIENTS: Final = ("obstore", "boto3")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")

# One store per name: that is what memory://name means. A test that wants its own makes a MemoryStore.
_memory_stores: dict[str, MemoryStore] = {}


@dataclass(frozen=True, slots=True)
class S3Location:
    """What an s3:// URL says.

    Attributes:
        bucket: The bucket's name.
        prefix: What stands in front of every key: "" or segments that end in '/'.
        checksums: boto3's checksum mode, one of `CHECKSUM_MODES`.
        client: One of `CLIENTS`; "" for obstore if it is installed, and boto3 if not.
    """

    bucket: str
    prefix: str = ""
    checksums: str = CHECKSUM_MODES[0]
    client: str = ""

    @property
    def url(self) -> str:
        """The URL that means this location, in its shortest form."""
        options = {"checksums": self.checksums if self.checksums != CHECKSUM_MODES[0] else "", "client": self.client}
        query = urlencode({name: value for name, value in options.items() if value})
        return f"s3://{self.bucket}/{quote(self.prefix.rstrip('/'), safe='/~')}{'?' if query else ''}{query}"


def open_store(url: str) -> ObjectStore:
    """Open the store that a URL names. Makes no request: a wrong bucket shows at first use.

    - `s3://bucket/prefix`: credentials, region and endpoint come from boto3's own chain and from
      AWS_ENDPOINT_URL_S3, never from the URL. `?checksums=when_supported` asks boto3 for its newer
      checksums; the default is `when_required`, because Ceph 16, rclone and Swift refuse the
      `aws-chunked` trailers that the newer ones need over HTTPS. Nothing is lost: the request's
      signature covers the body, and `storage.decode` verifies a digest of its own. Requests are made
      with obstore where the extra `fast` is installed; `?client=boto3` leaves them all to boto3.
    - `file:///absolute/directory`: a directory, made when needed.
    - `memory://name`: this process's memory; the same name gives the same store.

    Raises:
        InvalidStoreUrl: The URL names none of these, or carries credentials.
    """
    scheme = url.partition("://")[0]
    if scheme == "s3":
        return _s3_store(parse_s3_url(url))
    if scheme == "file":
        return FileStore(_directory(url))
    if scheme == "memory":
        name = url.removeprefix("memory://")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name):
            raise InvalidStoreUrl("the memory:// URL has no plain name")
        # setdefault is atomic: two threads that open a new name get one store.
        return _memory_stores.setdefault(name, MemoryStore(name))
    raise _foreign(url)


def _s3_store(location: S3Location) -> ObjectStore:
    # Only obstore's own requests are without the newer checksums: whoever asks for those means all requests.
    wanted = location.client or ("boto3" if location.checksums != CHECKSUM_MODES[0] else CLIENTS[0])
    if wanted == "obstore":
        if find_spec("obstore") is not None:
            from .s3_obstore import ObstoreS3Store

            return ObstoreS3Store(location)
        if location.client:
            raise InvalidStoreUrl("the s3:// URL asks for client=obstore", remedy="pip install 'fanout[fast]'")
    from .s3 import S3Store

    return S3Store(location)


def create_bucket(url: str) -> None:
    """Make the bucket that an s3:// URL names; idempotent. Other stores need no such step.

    Two requests at most. Outside us-east-1 the bucket is placed in the client's region.

    Raises:
        InvalidStoreUrl: The URL names no store.
        StorageDenied: The bucket belongs to someone else, or the credentials may not create it.
        StorageUnavailable: The endpoint does not answer.
    """
    if url.startswith("s3://"):
        from .s3 import S3Store

        S3Store(parse_s3_url(url)).create_bucket()
    else:
        open_store(url)


def parse_s3_url(url: str) -> S3Location:
    """Return what an s3:// URL says.

    Raises:
        InvalidStoreUrl: It is no s3:// URL, carries credentials, has an unknown option, a malformed
            bucket name or a prefix that cannot be part of a key. The message never repeats credentials.
    """
    parts = _split(url)
    if "@" in parts.netloc:
        # The URL is not repeated here: what stands in front of the '@' may be a secret.
        raise InvalidStoreUrl(
            "the s3:// URL has something in front of an '@'",
            remedy="Credentials never travel in a URL: set AWS_ACCESS_KEY_ID and its secret, or a profile.",
        )
    if parts.scheme != "s3":
        raise _foreign(url)
    if not _BUCKET.fullmatch(parts.netloc):
        raise InvalidStoreUrl(f"{parts.netloc!r} is no bucket name that S3 would allow")
    if parts.fragment or "#" in url:
        raise InvalidStoreUrl("the s3:// URL has a fragment", remedy="Write '#' as %23 if it belongs to the prefix.")
    prefix = unquote(parts.path).strip("/")
    if prefix:
        try:
            check_key(prefix)
        except InvalidKey as flaw:
            raise InvalidStoreUrl("the s3:// URL has a prefix that cannot be part of a key", remedy=str(flaw)) from flaw
        prefix += "/"
        if len(prefix.encode()) > MAX_PREFIX_BYTES:
            raise InvalidStoreUrl(
                f"the s3:// URL has a prefix of more than {MAX_PREFIX_BYTES - 1} bytes",
                remedy="Shorten it: S3 keys have 1,024 bytes at most, and the keys below it need 900.",
            )
    return S3Location(parts.netloc, prefix, **_options(parts.query))


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    choices = {"checksums": CHECKSUM_MODES, "client": CLIENTS}
    unknown = sorted(options.keys() - choices)
    if unknown:
        # Only names are repeated: the value of a misplaced option may be a secret.
        raise InvalidStoreUrl(
            f"the s3:// URL has the unknown option {unknown[0][:40]!r}",
            remedy="Known are checksums and client; endpoint and region are AWS_ENDPOINT_URL_S3, AWS_DEFAULT_REGION.",
        )
    for name, value in options.items():
        if value not in choices[name]:
            raise InvalidStoreUrl(f"the s3:// URL needs {name} to be one of {', '.join(choices[name])}", remedy="")
    if options.get("client") == "obstore" and options.get("checksums") == "when_supported":
        raise InvalidStoreUrl("only boto3 knows checksums=when_supported", remedy="Write client=boto3, or neither.")
    return options


def _directory(url: str) -> str:
    parts = _split(url)
    if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise InvalidStoreUrl(
            "the file: URL does not name an absolute directory of this machine",
            remedy="Write file:///absolute/directory, with '?' and '#' as %3F and %23.",
        )
    return unquote(parts.path)


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError as error:
        raise InvalidStoreUrl("the URL is malformed") from error


def _foreign(url: str) -> InvalidStoreUrl:
    # No more than the scheme is repeated: a URL meant for something else may carry a secret.
    scheme, separator, _ = url.partition("://")
    return InvalidStoreUrl(f"no store has the scheme {scheme!r}" if separator else "the URL has no scheme")
