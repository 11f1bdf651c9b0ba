"""README.md is short, and leads somewhere."""

from __future__ import annotations

import re

from .blocks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 500


def test_readme_is_short() -> None:
    """README.md has at most 500 words, code included."""
    assert len(README.split()) <= MOST_WORDS


def test_links_of_readme_lead_to_files() -> None:
    """Each relative link of README.md names a file or a directory of the project."""
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", README)]
    assert targets
    assert [target for target in targets if "://" not in target and not (ROOT / target).exists()] == []
