"""Bytes up and down: fanout's data plane, and a client of S3 alone, which moves bytes that lie ready and reads none."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate, islice
from typing import Any
from urllib.parse import urlsplit

from storage import PackReader, PackWriter, SequenceEncoder, Slice, decode, open_store

from ..workloads import Workload, documents
from . import Job, Prepare

REQUESTS = 4
"""Requests at once in each direction, of every contender; fanout's default for uploads."""
CHUNK_DOCUMENTS = 100
PACK_CHUNKS = 8
"""Chunks of 1 MB that fill a pack of 8 MiB."""
DIFFERENT_PACKS = 16
"""Packs of a client alone that differ in memory; the documents repeat anyway."""

Put = Callable[[str, bytes], object]
Get = Callable[[str, int, int], int]
"""Takes key, offset and length; returns the number of bytes received."""


@contextmanager
def start(name: str) -> Iterator[Prepare]:
    """Yield uploads, and downloads of what was uploaded last."""
    if name.startswith("packs"):
        yield _prepare_packs()
    else:
        url = urlsplit(os.environ["FANOUT_STORE"])
        connect = _connect_boto3 if name == "raw-boto3" else _connect_obstore
        yield _prepare_client(*connect(url.netloc, url.path.strip("/") + "/raw"))


def _encode_chunks(workload: Workload) -> Iterator[SequenceEncoder]:
    """Encode documents in chunks of 100; yield the encoder whenever it holds a chunk to be taken."""
    encoder = SequenceEncoder()
    for document in documents(workload.size_bytes):
        encoder.add({"document": document})
        if len(encoder) == CHUNK_DOCUMENTS:
            yield encoder
    if len(encoder):
        yield encoder


def _prepare_packs() -> Prepare:
    store = open_store(os.environ["FANOUT_STORE"])
    slices: list[Slice] = []

    def key_of(pack: int) -> str:
        return f"packs/{pack:06d}"

    def upload(workload: Workload) -> int:
        slices.clear()
        with PackWriter(store, key_of, upload_concurrency=REQUESTS) as writer:
            for encoder in _encode_chunks(workload):
                encoder.hand_over(writer.append)
                slices.extend(writer.stored())
            slices.extend(writer.close())
        return sum(piece.length for piece in slices)

    def download() -> int:
        reader = PackReader(store)

        def count_characters(piece: Slice) -> int:
            key = key_of(piece.pack)
            return sum(len(item["document"]) for item in decode(reader.read(key, piece), key=key))

        with ThreadPoolExecutor(REQUESTS) as threads:
            return sum(threads.map(count_characters, slices))

    return lambda workload: lambda timeout_s: download() if workload.work == "download" else upload(workload)


def _prepare_client(put: Put, get: Get) -> Prepare:
    ranges: list[tuple[str, int, int]] = []

    def download() -> int:
        with ThreadPoolExecutor(REQUESTS) as threads:
            return sum(threads.map(lambda found: get(*found), ranges))

    def upload(packs: list[bytes]) -> int:
        with ThreadPoolExecutor(REQUESTS) as threads:
            list(threads.map(put, [f"{number:06d}" for number in range(len(packs))], packs))
        return sum(map(len, packs))

    def prepare(workload: Workload) -> Job:
        if workload.work == "download":
            return lambda timeout_s: download()
        ranges.clear()
        packs: list[bytes] = []
        chunks = (encoder.finish() for encoder in _encode_chunks(workload))
        while pack := list(islice(chunks, PACK_CHUNKS)):
            ends = accumulate(map(len, pack))
            ranges.extend((f"{len(packs):06d}", end - len(one), len(one)) for end, one in zip(ends, pack, strict=True))
            again = packs[len(packs) % DIFFERENT_PACKS] if len(packs) >= DIFFERENT_PACKS else b""
            # The last pack may be a shorter one.
            packs.append(again if sum(map(len, pack)) == len(again) else b"".join(pack))
        return lambda timeout_s: upload(packs)

    return prepare


def _connect_boto3(bucket: str, prefix: str) -> tuple[Put, Get]:
    import boto3
    from botocore.config import Config

    # As fanout's own client: see `storage.open.open_store`.
    settings = Config(request_checksum_calculation="when_required", response_checksum_validation="when_required")
    client: Any = boto3.client("s3", config=settings)

    def get(key: str, offset: int, length: int) -> int:
        span = f"bytes={offset}-{offset + length - 1}"
        return len(client.get_object(Bucket=bucket, Key=f"{prefix}/{key}", Range=span)["Body"].read())

    return lambda key, body: client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=body), get


def _connect_obstore(bucket: str, prefix: str) -> tuple[Put, Get]:
    import obstore
    from obstore.store import S3Store

    client = S3Store(
        bucket,
        prefix=prefix,
        endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        # As fanout's own client: the signature does not cover the body.
        config={"unsigned_payload": True},
        client_options={"allow_http": True},
    )
    return (
        lambda key, body: obstore.put(client, key, body, use_multipart=False),
        lambda key, offset, length: len(obstore.get_range(client, key, start=offset, length=length)),
    )
