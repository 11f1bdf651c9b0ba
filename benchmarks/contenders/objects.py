"""JSON objects in a bucket, as one writes it oneself with boto3."""

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
