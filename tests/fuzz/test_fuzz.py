"""A few seconds of `python -m tests.fuzz`: no case may end in an untyped error, reach the store, or take memory."""

from __future__ import annotations

import pytest

from .messages import MessageFuzz
from .objects import ObjectFuzz
from .run import Fuzz, run_cases


@pytest.mark.parametrize(("kind", "cases"), [(MessageFuzz, 2000), (ObjectFuzz, 2000)])
def test_mutations_are_refused_or_harmless(kind: type[Fuzz], cases: int) -> None:
    """Each case of the first seed is refused with a typed error, or taken as what it is; many are of either kind."""
    findings = run_cases(kind(), range(cases), seed=0)
    assert not findings.errors, next(iter(findings.errors.values()))
    assert findings.counts["refused"] > cases / 2
    assert findings.counts["taken"] > cases / 50
    assert findings.grown_bytes < 256 * 2**20
