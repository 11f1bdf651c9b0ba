"""The pages use the words of the glossary, and name who acts."""

from __future__ import annotations

import re

import pytest

from .blocks import pages, prose_of

RETIRED = {
    r"(?i)(?<!celery )\bbeats?\b": "heartbeat",
    r"(?i)\bnudges?\b": "resend",
    r"(?i)\bbells?\b": "completion listener",
    r"(?i)\bwaves?\b": "messages that are confirmed together",
    r"(?i)\btall(y|ies)\b": "failure summary",
    r"(?i)\bannex\b": "out-of-band buffers",
    r"(?i)\bloans?\b": "reference to a byte range of another object",
    r"(?i)\bdisguised?\b": "say what it is",
    r"(?i)\bproven\b": "verified",
    r"(?i)\bwhoever\b": "name the actor",
    r"(?i)\bput off\b": "defer, interrupt or reschedule",
    r"(?i)\bredrives?\b": "retry",
    r"(?i)\bcarriers?\b": "dispatcher",
    r"(^|[.:;!?|] +|^[-*] |^\d+\. )\**Nobody\b": "name the actor",
    r"(^|[.!?|] +|^[-*] |^#+ |^\d+\. )\**What\b(?![^.?]*\?)": "begin with the actor, or ask a question",
}
"""Pattern of a word that is no longer used -> the word or the rule in its place."""

OWNED_ELSEWHERE = ("docs/benchmarks/",)
"""Written together with what the benchmarks print."""

PAGES = [page for page in pages() if not page.startswith(OWNED_ELSEWHERE)]


@pytest.mark.parametrize("page", PAGES)
def test_pages_use_no_retired_words(page: str) -> None:
    """No page uses a retired word outside of code."""
    found = []
    for number, line in prose_of(page):
        prose = re.sub(r"`[^`]*`|<!--.*?-->", "`code`", line)
        for pattern, instead in RETIRED.items():
            if re.search(pattern, prose):
                found.append(f"{page}:{number}: {pattern} (instead: {instead}): {line}")
    assert not found, "\n".join(found)
