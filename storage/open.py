"""Store URLs, and the stores that they name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import unquote

from .cloud.location import SCHEMES, CloudLocation, parse_cloud_url
from .errors import InvalidStoreUrl, MissingPackage
from .examination import Examination
from .file import FileStore
from .memory import MemoryStore
from .object_store import Bucket, ObjectStore
from .s3.endpoint import find_endpoint_flaw, read_access
from .s3.location import CHECKSUM_MODES, CLIENTS, S3Location, parse_s3_url
from .s3.server import S3Server
from .uploads import UploadStore
from .urls import split_url, unknown_scheme
from .verified import VerifiedStore

# One store per name, as memory://name means. A test that needs its own makes a MemoryStore.
_memory_stores: dict[str, MemoryStore] = {}


def open_store(url: str, *, endpoint: str = "") -> ObjectStore:
    """Open the store that a URL names. Makes no request: a wrong bucket shows at first use.

    - `s3://bucket/prefix`: Credentials, region and endpoint come from boto3's own chain and from AWS_ENDPOINT_URL_S3,
      never from the URL. `?checksums=when_supported` makes boto3 send its newer checksums. The default is
      `when_required`, because Ceph 16, rclone and Swift refuse the `aws-chunked` trailers that the newer ones need over
      HTTPS. Nothing is lost: the request's signature covers the body, and `storage.decode` verifies a checksum of its
      own. Requests are made with obstore where the extra `fast` is installed. `?client=boto3` makes boto3 do all of
      them, which tests need that patch botocore, as moto's `mock_aws` does. `?encryption=AES256`, or
      `?encryption=aws:kms&kms_key=<id or ARN>`, asks for server-side encryption with each write.
    - `az://container/prefix`, `gs://bucket/prefix`: Azure and Google Cloud, with the extra `fast`. Account, credentials
      and endpoint come from the environment, as obstore reads it; see `CloudStore`.
    - `file:///absolute/directory`: A directory, made when needed.
    - `memory://name`: Memory of this process. The same name gives the same store.

    Args:
        url: One of these.
        endpoint: URL of the server of an s3:// URL, instead of the one of the environment.

    Raises:
        InvalidStoreUrl: The URL names none of these, or carries credentials; or the endpoint is no URL of a server.
    """
    if not isinstance(url, str):
        raise InvalidStoreUrl(f"the URL must be text, not a {type(url).__name__}")
    scheme = url.partition("://")[0]
    if endpoint:
        _check_endpoint(scheme, endpoint)
    if scheme == "s3":
        return _s3_store(parse_s3_url(url), endpoint)
    if scheme in SCHEMES:
        return _cloud_store(parse_cloud_url(url))
    if scheme == "file":
        return FileStore(_directory(url))
    if scheme == "memory":
        name = url.removeprefix("memory://")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name):
            raise InvalidStoreUrl("the memory:// URL has no plain name")
        # setdefault is atomic: two threads that open a new name get one store.
        return _memory_stores.setdefault(name, MemoryStore(name))
    raise unknown_scheme(url)


def preload(url: str) -> None:
    """Import the client of a URL's store, and read boto3's models if it needs them, so that forks share both.

    Makes no request, and leaves no client that a forked process would inherit.

    Raises:
        InvalidStoreUrl: The URL names no store.
    """
    open_store(url)
    if url.startswith("s3://"):
        location = parse_s3_url(url)
        if _client_of(location) == "boto3" or read_access(os.environ, bucket=location.bucket) is None:
            from .s3.boto3_client import read_models

            read_models()


def open_verified(url: str, *, observe: Callable[[ObjectStore], ObjectStore] | None = None) -> ObjectStore:
    """Open the store that a URL names, to be probed before its first write-once put. Makes no request.

    Stores in memory and in a directory hold their guarantees by construction and are returned as they are.

    Args:
        url: As for `open_store`.
        observe: Wraps the store that makes the requests, those of the probe included, to count them.

    Raises:
        InvalidStoreUrl: The URL names no store.
    """
    store = open_store(url)
    observed = store if observe is None else observe(store)
    return observed if store.is_local else VerifiedStore(observed)


def open_examination(url: str, *, endpoint: str = "") -> Examination | None:
    """Open the checks of a store beside its guarantees; None for a kind of store that has none. Makes no request.

    Args:
        url: As for `open_store`.
        endpoint: As for `open_store`.

    Raises:
        InvalidStoreUrl: The URL names no store, or the endpoint is no URL of a server.
    """
    if not url.startswith("s3://"):
        return None
    if endpoint:
        _check_endpoint("s3", endpoint)
    from .s3.examination import S3Examination

    return S3Examination(parse_s3_url(url), endpoint=endpoint)


def _check_endpoint(scheme: str, endpoint: str) -> None:
    if scheme != "s3":
        raise InvalidStoreUrl(f"a store of {scheme}:// has no endpoint", remedy="Endpoints are for s3://bucket/prefix.")
    flaw = find_endpoint_flaw("endpoint", endpoint)
    if flaw is not None:
        raise flaw


def _s3_store(location: S3Location, endpoint: str) -> ObjectStore:
    if _client_of(location) == "obstore":
        from .s3.obstore_store import ObstoreS3Store

        return ObstoreS3Store(location, endpoint=endpoint)
    from .s3.boto3_client import Server
    from .s3.boto3_store import S3Store

    return S3Store(location, server=Server(endpoint, None) if endpoint else None)


def _client_of(location: S3Location) -> str:
    # obstore never sends the newer checksums, so a URL that asks for them means boto3.
    wanted = location.client or ("boto3" if location.checksums != CHECKSUM_MODES[0] else CLIENTS[0])
    if wanted == "obstore" and find_spec("obstore") is None:
        if location.client:
            raise InvalidStoreUrl("the s3:// URL asks for client=obstore", remedy="pip install 'fanout[fast]'")
        return "boto3"
    return wanted


def _cloud_store(location: CloudLocation) -> ObjectStore:
    if find_spec("obstore") is None:
        raise MissingPackage(f"stores of {location.scheme}:// need obstore, which is not installed", extra="fast")
    from .cloud.store import CloudStore

    return CloudStore(location)


def open_bucket(bucket: str, server: S3Server | None = None) -> Bucket:
    """Open a bucket for objects that other programs write and read too. Makes no request.

    Args:
        bucket: Name of the bucket.
        server: The server. The default is what boto3's chain and AWS_ENDPOINT_URL_S3 say.

    Raises:
        MissingPackage: obstore is not installed.
    """
    if find_spec("obstore") is None:
        raise MissingPackage("objects of a bucket are read with obstore, which is not installed", extra="sources")
    from .s3.obstore_bucket import ObstoreBucket

    return ObstoreBucket(bucket, server)


def open_uploads(bucket: str, server: S3Server | None = None) -> UploadStore:
    """Open a bucket for objects that one process uploads and another one lets appear. Makes no request.

    Args:
        bucket: Name of the bucket.
        server: The server. The default is what boto3's chain and AWS_ENDPOINT_URL_S3 say.

    Raises:
        InvalidStoreUrl: The server's endpoint is no URL.
        StorageDenied: There are no credentials for the server.
    """
    from .s3.boto3_client import Server
    from .s3.boto3_uploads import S3UploadStore

    if server is None:
        return S3UploadStore(S3Location(bucket))
    access = server.access(bucket)
    return S3UploadStore(S3Location(bucket), server=Server(access.endpoint, access.region), keys=access.keys)


def create_bucket(url: str) -> None:
    """Make the bucket that an s3:// URL names. Idempotent; other stores need no such step.

    At most two requests. Outside us-east-1 the bucket is placed in the client's region.

    Raises:
        InvalidStoreUrl: The URL names no store.
        StorageDenied: The bucket belongs to another account, or the credentials may not create it.
        StorageUnavailable: The endpoint does not answer.
    """
    if url.startswith("s3://"):
        from .s3.boto3_store import S3Store

        S3Store(parse_s3_url(url)).create_bucket()
    else:
        open_store(url)


def _directory(url: str) -> str:
    parts = split_url(url)
    if parts.netloc or not parts.path.startswith("/") or parts.query or parts.fragment:
        raise InvalidStoreUrl(
            "the file: URL does not name an absolute directory of this machine",
            remedy="Write file:///absolute/directory, with '?' and '#' as %3F and %23.",
        )
    return unquote(parts.path)
