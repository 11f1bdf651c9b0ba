"""Objects of 1 kB that lie in the bucket before a run. Each holds its own number."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from storage import open_store

from .text import INPUTS

OBJECT_BYTES = 1000
DIGITS = 20
"""Digits of a number. An object repeats them."""
UPLOADS = 16
"""Uploads at once."""


def make_object(number: int) -> bytes:
    """Return the bytes of an object."""
    return f"{number:0{DIGITS}d}".encode() * (OBJECT_BYTES // DIGITS)


def read_number(data: bytes) -> int:
    """Return the number that an object holds.

    Raises:
        ValueError: The object is not whole.
    """
    number = int(data[:DIGITS])
    if data != make_object(number):
        raise ValueError(f"the object of number {number} holds other bytes, {len(data)} in all")
    return number


def objects_folder(number: int) -> str:
    """Return the URL of the folder of so many objects, with "/" at its end."""
    return f"{os.environ[INPUTS]}/objects/{number}/"


def upload_objects(url: str, number: int) -> None:
    """Upload objects.

    Args:
        url: The folder.
        number: How many.
    """
    store = open_store(url)
    with ThreadPoolExecutor(UPLOADS) as threads:
        # no limit: each upload ends with the limits of the store
        for _ in threads.map(lambda index: store.put(f"{index:08d}", make_object(index)), range(number)):
            pass
