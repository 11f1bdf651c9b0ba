"""The price of a job's requests, traffic and objects."""

from __future__ import annotations

from typing import Final

from ..prices import Prices
from ..records.run_stats import StoreUsage

_GB: Final = 1e9


def price_requests(prices: Prices, usage: StoreUsage) -> float:
    """Return the price of requests, in dollars."""
    return (usage.put + usage.list) * prices.per_put + (usage.get + usage.head) * prices.per_get


def price_traffic(prices: Prices, usage: StoreUsage) -> float:
    """Return the price of the bytes that requests carried, in dollars."""
    return (usage.uploaded_bytes * prices.per_gb_up + usage.downloaded_bytes * prices.per_gb_down) / _GB


def price_storage(prices: Prices, stored_bytes: int, *, days: float) -> float:
    """Return the price of keeping so many bytes for so many days, in dollars."""
    return stored_bytes / _GB * prices.per_gb_month * days / 30
