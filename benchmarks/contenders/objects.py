"""JSON objects in a bucket, as one writes it oneself with boto3."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any
from urllib.parse import urlsplit


class StoredObjects:
    """JSON values by key, below the benchmark's place in the store."""

    def __init__(self, url: str) -> None:
        # Workers that need no boto3 stay as small as they are without it.
        import boto3

        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        self._client: Any = boto3.client("s3")

    def put(self, key: str, value: Any) -> str:
        """Put a value under a key; return the key."""
        self._client.put_object(Bucket=self._bucket, Key=f"{self._prefix}/{key}", Body=json.dumps(value).encode())
        return key

    def get(self, key: str) -> Any:
        """Get the value of a key."""
        return json.loads(self._client.get_object(Bucket=self._bucket, Key=f"{self._prefix}/{key}")["Body"].read())


@cache
def stored_objects() -> StoredObjects:
    """Return the objects of this process, on one client."""
    return StoredObjects(os.environ["FANOUT_STORE"])
