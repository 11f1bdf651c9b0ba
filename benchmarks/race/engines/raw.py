"""The limit: a client of S3 by itself, which moves bytes that lie ready, and looks at none that come back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate
from typing import Any
from urllib.parse import urlsplit

from ..entries import Entry
from ..volume import packs_of, threads
from ..works import Load
from . import Engine, Run

Put = Callable[[str, bytes], object]
Get = Callable[[str, int, int], int]
"""Key, offset, length -> bytes received."""

VARIETY = 16
"""Packs that differ in memory; their bytes repeat anyway, since the documents do."""


@contextmanager
def opened(entry: Entry) -> Iterator[Engine]:
    """The engine of uploads, and of downloads of what was uploaded last."""
    url = urlsplit(os.environ["FANOUT_STORE"])
    make = _with_boto3 if entry.name == "raw-boto3" else _with_obstore
    put, get = make(url.netloc, url.path.strip("/") + "/raw")
    ranges: list[tuple[str, int, int]] = []

    def prepared(load: Load) -> Run:
        if load.work == "download":
            return lambda timeout_s: _downloaded(get, ranges)
        ranges.clear()
        packs: list[bytes] = []
        for number, pack in enumerate(packs_of(load)):
            starts = accumulate(map(len, pack), initial=0)
            ranges.extend((f"{number:06d}", start, len(chunk)) for start, chunk in zip(starts, pack, strict=False))
            # Whole packs repeat after 16; the last may be a shorter one.
            again = len(packs) >= VARIETY and sum(map(len, pack)) == len(packs[number % VARIETY])
            packs.append(packs[number % VARIETY] if again else b"".join(pack))
        return lambda timeout_s: _uploaded(put, packs)

    yield prepared


def _uploaded(put: Put, packs: list[bytes]) -> int:
    with threads() as pool:
        for _ in pool.map(put, [f"{number:06d}" for number in range(len(packs))], packs):
            pass
    return sum(map(len, packs))


def _downloaded(get: Get, ranges: list[tuple[str, int, int]]) -> int:
    with threads() as pool:
        return sum(pool.map(lambda found: get(*found), ranges))


def _with_boto3(bucket: str, prefix: str) -> tuple[Put, Get]:
    import boto3
    from botocore.config import Config

    # As fanout's own: see `storage.open.open_store`.
    settings = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    client: Any = boto3.client("s3", config=settings)

    def get(key: str, offset: int, length: int) -> int:
        span = f"bytes={offset}-{offset + length - 1}"
        return len(client.get_object(Bucket=bucket, Key=f"{prefix}/{key}", Range=span)["Body"].read())

    return lambda key, body: client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=body), get


def _with_obstore(bucket: str, prefix: str) -> tuple[Put, Get]:
    import obstore
    from obstore.store import S3Store

    client = S3Store(
        bucket,
        prefix=prefix,
        endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        # As fanout does: its own digests guard what the signature then does not.
        config={"unsigned_payload": True},
        client_options={"allow_http": True},
    )
    return (
        lambda key, body: obstore.put(client, key, body, use_multipart=False),
        lambda key, offset, length: len(obstore.get_range(client, key, start=offset, length=length)),
    )
