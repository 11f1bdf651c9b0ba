"""Figures as text, for people: sizes, durations, shares, dollars and numbers of things."""

from __future__ import annotations

import math


def format_count(count: int, noun: str) -> str:
    """Return a number of things as text: `1 chunk`, `8,000 chunks`, `2 processes`."""
    ending = "" if count == 1 else "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{ending}"


def format_size(size_bytes: float) -> str:
    """Return a size as text, in powers of 1,000."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"


def format_duration(seconds: float) -> str:
    """Return a duration as text, to three digits: `1.4 ms`, `0.12 s`, `34.2 s`, `5 min 20 s`, `3 h 5 min`."""
    if seconds < 0.0995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 99.95:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s"


def format_share(share: float) -> str:
    """Return a share as percent; below 10 % with a digit behind the point."""
    percent = 100 * share
    return f"{percent:.0f} %" if percent >= 9.95 or percent == 0 else f"{percent:.1f} %"


def format_dollars(dollars: float) -> str:
    """Return an amount of dollars as text: to cents, or below a dollar to two digits."""
    if dollars >= 1:
        return f"${dollars:,.2f}"
    if dollars < 1e-6:
        return "under $0.000001" if dollars > 0 else "$0"
    return f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"
