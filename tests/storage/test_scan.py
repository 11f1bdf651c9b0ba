"""Packed bytes are looked over before they are unpacked, in two ways that agree."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.codec import scan as scanning
from storage.codec.scan import scan

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.sampled_from([0, 1, 31, 32, 255, 256, 65_535, 65_536]).map(lambda length: "x" * length)
    | st.binary(max_size=300)
    | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=40)),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=30,
)


@settings(max_examples=100)
@given(VALUES, st.floats(0, 1, exclude_max=True))
def test_hops_over_values_find_what_is_cut_off(value: object, kept: float) -> None:
    """A whole value passes by hops, and no beginning of it does."""
    packed = msgpack.packb(value)
    scanning._pass_over(memoryview(packed))
    with pytest.raises(ValueError, match="ends before"):
        scanning._pass_over(memoryview(packed[: int(len(packed) * kept)]))


@pytest.mark.parametrize("blob", [b"", b"x" * 2**21], ids=["small", "with large bytes"])
def test_a_list_that_announces_more_than_is_there_is_refused(blob: bytes) -> None:
    """With and without bytes that msgpack's own scanner would hold as a whole."""
    packed = msgpack.packb([blob, list(range(1000))])
    scan(packed)
    forged = packed.replace(b"\xdc\x03\xe8", b"\xdd\x0f\xff\xff\xff")
    with pytest.raises(ValueError, match="ends before"):
        scan(forged)
