"""S3's documented limits as token buckets, and the backoff of a client that meets them."""

from __future__ import annotations

import random

READS_A_SECOND = 5500
"""GET and HEAD requests that a partitioned prefix takes, as S3's documentation says. Here LIST counts with them."""
WRITES_A_SECOND = 3500
"""PUT, COPY, POST and DELETE requests that a partitioned prefix takes, as S3's documentation says."""
BURST_S = 1.0
"""A bucket holds the tokens of so many seconds. S3 does not document its bursts."""

BACKOFF_S = 1.0
"""Longest first pause after a 503 in botocore's standard mode; each further one may be twice as long."""
LONGEST_BACKOFF_S = 20.0
"""Longest pause in that mode."""


class TokenBucket:
    """Requests that a partition takes: `rate` per second, and saved ones of a short while.

    Args:
        rate: Requests per second.
    """

    __slots__ = ("_at_s", "_most", "_rate", "_tokens")

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._most = self._tokens = rate * BURST_S
        self._at_s = 0.0

    def take(self, at_s: float, count: int = 1) -> bool:
        """Take so many requests at a time; take none and return False if there are fewer. Times must not go back."""
        tokens = min(self._most, self._tokens + (at_s - self._at_s) * self._rate)
        self._at_s = at_s
        if tokens < count:
            self._tokens = tokens
            return False
        self._tokens = tokens - count
        return True


def backoff_s(chance: random.Random, refusals: int) -> float:
    """Return the pause after so many refusals of one request, from 1 on: exponential, with full jitter."""
    return chance.random() * min(BACKOFF_S * 2.0 ** (refusals - 1), LONGEST_BACKOFF_S)
