"""Objects in a bucket, as one reads and writes them oneself with boto3."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any
from urllib.parse import urlsplit


def put_object(key: str, value: Any) -> str:
    """Put a value under a key below the session's place in the store; return the key."""
    client, bucket, prefix = _connect()
    client.put_object(Bucket=bucket, Key=f"{prefix}/{key}", Body=json.dumps(value).encode())
    return key


def get_input(key: str) -> bytes:
    """Get the bytes of an object of the input, by its whole key."""
    client, bucket, _ = _connect()
    body: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return body


def list_inputs(folder: str) -> list[str]:
    """List the keys of the input.

    Args:
        folder: URL of its folder, with "/" at its end, in the bucket of the session's place.
    """
    client, bucket, _ = _connect()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=urlsplit(folder).path.lstrip("/"))
    return [found["Key"] for page in pages for found in page.get("Contents", [])]


def get_object(key: str) -> Any:
    """Get the value of a key."""
    client, bucket, prefix = _connect()
    return json.loads(client.get_object(Bucket=bucket, Key=f"{prefix}/{key}")["Body"].read())


@cache
def _connect() -> tuple[Any, str, str]:
    # Imported here: workers that need no boto3 stay as small as they are without it.
    import boto3

    url = urlsplit(os.environ["FANOUT_STORE"])
    return boto3.client("s3"), url.netloc, url.path.strip("/")
