"""Values that a packer would take for something else, found at less than the price of looking at every value."""

from __future__ import annotations

import gc
import re
from collections import Counter, OrderedDict, defaultdict, deque
from typing import Final

_CONTAINERS: Final = frozenset({list, dict, tuple, set, frozenset, Counter, OrderedDict, defaultdict, deque})
_SHORT_BYTES: Final = 256
# To look at a value takes about as long as to scan this many bytes for all markers.
_BYTES_A_VALUE: Final = 64
_PIECE_BYTES: Final = 2**16


class Lookalikes:
    """Finds values of some types among those that were packed.

    Either the packed bytes are scanned, where the markers must stand that the disguised have in common (and
    others may stand as well); or the types of all values are looked at. Whichever costs less comes first.

    Args:
        types: The exact types.
        markers: The bytes of which each of them leaves one behind when it is packed.
    """

    def __init__(self, *, types: frozenset[type], markers: bytes) -> None:
        self._types = types
        self._markers = tuple(bytes([marker]) for marker in markers)
        self._first_marker = re.compile(b"[" + re.escape(markers) + b"]").search

    def are_absent(self, packed: bytes) -> bool:
        """Return whether the packed value is short and free of markers; False says nothing."""
        return len(packed) <= _SHORT_BYTES and self._first_marker(packed) is None

    def are_in(self, packed: bytes | memoryview, values: list[object]) -> bool:
        """Return whether a disguised value is among these values, or at any depth in them."""
        if len(packed) <= _SHORT_BYTES:
            return self._first_marker(packed) is not None and bool(self._seen(values))
        seen = self._seen(values, most=len(packed) // _BYTES_A_VALUE)
        if seen is None:
            return self._is_marked(packed) and bool(self._seen(values))
        return seen

    def _is_marked(self, packed: bytes | memoryview) -> bool:
        # For one byte at a time `in` is many times as fast as an expression, if the piece is still in the cache.
        for start in range(0, len(packed), _PIECE_BYTES):
            piece = bytes(packed[start : start + _PIECE_BYTES])
            if any(marker in piece for marker in self._markers):
                return True
        return False

    def _seen(self, values: list[object], *, most: int | None = None) -> bool | None:
        """Look at all values, level by level; None if there are more than `most`."""
        # In C: several times faster than a walk in Python. It ends because these values have been packed: they
        # have no cycles.
        level, looked_at = values, 0
        while level:
            looked_at += len(level)
            if most is not None and looked_at > most:
                return None
            types = set(map(type, level))
            if not self._types.isdisjoint(types):
                return True
            if _CONTAINERS.isdisjoint(types):
                return False
            level = gc.get_referents(*[value for value in level if type(value) in _CONTAINERS])
        return False
