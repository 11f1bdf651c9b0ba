"""The client of obstore alone, in two processes."""

from __future__ import annotations

import multiprocessing
import os
from functools import cache
from multiprocessing.pool import Pool
from typing import Any
from urllib.parse import urlsplit

from . import PROCESSES


def start_processes() -> Pool:
    """Start two processes, each with clients of its own. A context that ends them."""
    # Spawned: a process that was forked from one with a client of obstore's could not use it.
    return multiprocessing.get_context("spawn").Pool(PROCESSES)


@cache
def connect(url: str) -> Any:
    """Return a client of obstore's for a folder, one for each process."""
    from obstore.store import S3Store

    parts = urlsplit(url)
    return S3Store(
        parts.netloc,
        prefix=parts.path.strip("/"),
        endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        region=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        client_options={"allow_http": True},
    )
