"""Prices of an object store's requests."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """The prices of an object store, in dollars. The defaults are those of AWS S3 Standard in us-east-1, 2026.

    Amazon prices a LIST like a PUT, a HEAD like a GET, and takes nothing for a DELETE.

    Attributes:
        per_put: One PUT or LIST.
        per_get: One GET or HEAD.
    """

    per_put: float = 0.005 / 1000
    per_get: float = 0.0004 / 1000
